const { OAuthRefreshLockError } = require("./errors.js");

/** `engines` in package.json. */
const OLDEST_NODE = 20;
/** Those that give a promise reject it. */
const PROMISING = [
  "withOAuthRefreshLock",
  "withOAuthProfileLock",
  "refreshOAuthToken",
  "holdOAuthRefreshClaim",
  "awaitOAuthRefreshClaim",
  "saveOAuthLogin",
  "removeOAuthLogin",
  "inspectOAuthRefreshLocks",
  "checkCoordinator",
];

/** Throws where Node is too old. @param {string} [version] Node's */
function refuseOldEngine(version = process.versions.node) {
  if (Number.parseInt(version, 10) >= OLDEST_NODE) return;
  const message = `oauth-refresh-lock needs Node ${OLDEST_NODE} or newer, and this is v${version}; run it with a newer one`;
  throw new OAuthRefreshLockError("addon_unavailable", message);
}

/**
 * The functions of this package where Node can run them; else ones that say so. Importing this package never throws.
 *
 * @template {Record<string, unknown>} T
 * @param {T} functions
 * @param {string} [version]
 * @returns {T}
 */
function onThisEngine(functions, version) {
  const refuse = () => refuseOldEngine(version);
  try {
    refuse();
    return functions;
  } catch {
    // Told at the first call.
  }
  const refused = (name, value) => {
    if (typeof value !== "function" || value.prototype instanceof Error) return value;
    if (name === "isAvailable") return () => false;
    return PROMISING.includes(name) ? async () => refuse() : refuse;
  };
  return Object.fromEntries(Object.entries(functions).map(([name, value]) => [name, refused(name, value)]));
}

module.exports = { onThisEngine, refuseOldEngine };
