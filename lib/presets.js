const presets = require("../presets.json");

/** The requests of `presets.json`, by provider. Spread one to change what you need. */
const OAUTH_PRESETS = Object.freeze(
  Object.fromEntries(Object.entries(presets).map(([provider, { request }]) => [provider, deepFreeze(request)])),
);

function deepFreeze(value) {
  if (typeof value === "object" && value !== null) for (const member of Object.values(value)) deepFreeze(member);
  return Object.freeze(value);
}

module.exports = { OAUTH_PRESETS };
