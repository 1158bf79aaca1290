const { withOAuthRefreshLock } = require("./lib/refresh.js");
const { withOAuthProfileLock } = require("./lib/profile-lock.js");
const { inspectOAuthRefreshLocks } = require("./lib/inspect.js");
const policy = require("./lib/policy.js");

module.exports = {
  withOAuthRefreshLock,
  withOAuthProfileLock,
  inspectOAuthRefreshLocks,
  resolveOAuthRefreshLockPath: policy.resolveOAuthRefreshLockPath,
  isSafeToCopyOAuthIdentity: policy.isSafeToCopyOAuthIdentity,
  shouldMirrorRefreshedOAuthCredential: policy.shouldMirrorRefreshedOAuthCredential,
  isRefreshTokenReusedError: policy.isRefreshTokenReusedError,
  OAUTH_REFRESH_CALL_TIMEOUT_MS: policy.OAUTH_REFRESH_CALL_TIMEOUT_MS,
  OAUTH_REFRESH_LOCK_OPTIONS: policy.OAUTH_REFRESH_LOCK_OPTIONS,
};
