const { withOAuthRefreshLock } = require("./lib/refresh.js");
const { withProfileLock } = require("./lib/profile-lock.js");
const { refreshOAuthToken } = require("./lib/token-endpoint.js");
const { awaitOAuthRefreshClaim, holdOAuthRefreshClaim } = require("./lib/claim.js");
const { createOAuthClient } = require("./lib/client.js");
const { keepOAuthFresh } = require("./lib/keep-fresh.js");
const coordinators = require("./lib/coordinators/index.js");
const { OAUTH_PRESETS } = require("./lib/presets.js");
const { removeOAuthLogin, saveOAuthLogin } = require("./lib/login.js");
const { inspectOAuthRefreshLocks } = require("./lib/inspect.js");
const policy = require("./lib/policy.js");
const { OAUTH_REFRESH_CALL_TIMEOUT_MS, OAUTH_REFRESH_LOCK_OPTIONS } = require("./lib/arguments.js");
const { isAvailable, loadIfRequired } = require("./lib/native.js");
const { OAuthRefreshLockError } = require("./lib/errors.js");
const { onThisEngine } = require("./lib/engine.js");

module.exports = onThisEngine({
  withOAuthRefreshLock,
  withProfileLock,
  refreshOAuthToken,
  keepOAuthFresh,
  saveOAuthLogin,
  removeOAuthLogin,
  createOAuthClient,
  holdOAuthRefreshClaim,
  awaitOAuthRefreshClaim,
  inspectOAuthRefreshLocks,
  isAvailable,
  postgresCoordinator: coordinators.postgresCoordinator,
  etcdCoordinator: coordinators.etcdCoordinator,
  kubernetesCoordinator: coordinators.kubernetesCoordinator,
  checkCoordinator: coordinators.checkCoordinator,
  resolveOAuthRefreshLockPath: policy.resolveOAuthRefreshLockPath,
  isSafeToCopyOAuthIdentity: policy.isSafeToCopyOAuthIdentity,
  shouldMirrorRefreshedOAuthCredential: policy.shouldMirrorRefreshedOAuthCredential,
  isRefreshTokenReusedError: policy.isRefreshTokenReusedError,
  classifyRefreshFailure: policy.classifyRefreshFailure,
  OAuthRefreshLockError,
  OAUTH_PRESETS,
  OAUTH_REFRESH_CALL_TIMEOUT_MS,
  OAUTH_REFRESH_LOCK_OPTIONS,
});

loadIfRequired();
