const {
  OAUTH_REFRESH_CALL_TIMEOUT_MS,
  OAUTH_REFRESH_LOCK_OPTIONS,
  absolutePath,
  invalid,
  optionsObject,
  surroundings,
  text,
} = require("./arguments.js");
const { native } = require("./native.js");

/** How providers say that a refresh token was used before (OpenClaw's list). */
const REUSE_PHRASES = [
  "refresh_token_reused",
  "refresh token has already been used",
  "already been used to generate a new access token",
];
/** How far an error's causes are followed. */
const MAX_CAUSES = 8;

function resolveOAuthRefreshLockPath(provider, profileId, options) {
  const stateDir = absolutePath("stateDir", optionsObject(options).stateDir);
  return native().lockPath(text("provider", provider), text("profileId", profileId), stateDir, surroundings());
}

function isSafeToCopyOAuthIdentity(existing, incoming) {
  return native().isSafeToCopy(json("existing", existing), json("incoming", incoming));
}

function shouldMirrorRefreshedOAuthCredential(existing, refreshed) {
  const main = existing == null ? undefined : json("existing", existing);
  const decision = native().mirrorDecision(main, json("refreshed", refreshed));
  if (!decision) throw invalid('refreshed must be an OAuth credential (`type` must be "oauth")');
  return decision;
}

function isRefreshTokenReusedError(error) {
  let current = error;
  for (let depth = 0; current != null && depth < MAX_CAUSES; depth++) {
    const words =
      typeof current === "object"
        ? [current.message, current.code, current.error, current.error_description]
        : [current];
    const said = words
      .filter((word) => typeof word === "string")
      .join("\n")
      .toLowerCase();
    if (REUSE_PHRASES.some((phrase) => said.includes(phrase))) return true;
    current = typeof current === "object" ? current.cause : undefined;
  }
  return false;
}

function json(name, value) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid(`${name} must be an object`);
  try {
    return JSON.stringify(value) ?? "null";
  } catch {
    throw invalid(`${name} must consist of JSON values`);
  }
}

module.exports = {
  OAUTH_REFRESH_CALL_TIMEOUT_MS,
  OAUTH_REFRESH_LOCK_OPTIONS,
  isRefreshTokenReusedError,
  isSafeToCopyOAuthIdentity,
  resolveOAuthRefreshLockPath,
  shouldMirrorRefreshedOAuthCredential,
};
