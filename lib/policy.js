const { REFRESH_OPTIONS, absolutePath, invalid, optionsObject, text } = require("./arguments.js");
const { classify, isRefreshTokenReusedError } = require("./failure.js");
const { native } = require("./native.js");
const { surroundings } = require("./surroundings.js");

/** The rules that need no lock: the core's, or JavaScript's where there is no addon. */
function rules() {
  try {
    return native();
  } catch (error) {
    if (error.code !== "addon_unavailable") throw error;
    return require("./without-addon.js");
  }
}

function resolveOAuthRefreshLockPath(provider, profileId, options) {
  const stateDir = absolutePath("stateDir", optionsObject(options, "options", REFRESH_OPTIONS).stateDir);
  return rules().lockPath(text("provider", provider), text("profileId", profileId), stateDir, surroundings(stateDir));
}

function isSafeToCopyOAuthIdentity(existing, incoming) {
  return rules().isSafeToCopy(json("existing", existing), json("incoming", incoming));
}

function shouldMirrorRefreshedOAuthCredential(params) {
  const { existing, refreshed } = optionsObject(params, "params", ["existing", "refreshed"]);
  const main = existing == null ? undefined : json("existing", existing);
  const decision = rules().mirrorDecision(main, json("refreshed", refreshed));
  if (!decision) throw invalid('refreshed must be an OAuth credential (`type` must be "oauth")');
  return { shouldMirror: decision.mirror, reason: decision.reason };
}

function json(name, value) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid(`${name} must be an object`);
  try {
    return JSON.stringify(value) ?? "null";
  } catch {
    throw invalid(`${name} must consist of JSON values`);
  }
}

/** What a failed call means, for a host that asks the provider by itself. */
function classifyRefreshFailure(error) {
  return classify(error);
}

module.exports = {
  classifyRefreshFailure,
  isRefreshTokenReusedError,
  isSafeToCopyOAuthIdentity,
  json,
  resolveOAuthRefreshLockPath,
  shouldMirrorRefreshedOAuthCredential,
};
