const { withOAuthRefreshLock } = require("./lib/refresh.js");
const { refreshOAuthToken } = require("./lib/token-endpoint.js");
const policy = require("./lib/policy.js");
const { OAUTH_REFRESH_CALL_TIMEOUT_MS, OAUTH_REFRESH_LOCK_OPTIONS } = require("./lib/arguments.js");
const { isAvailable, loadIfRequired } = require("./lib/native.js");
const { OAuthRefreshLockError } = require("./lib/errors.js");
const { onThisEngine } = require("./lib/engine.js");

// What a call for a token does not need is loaded at its own first call: a process may be started for a single token. What a failed
// call needs is there from the beginning, as the package may be replaced while its processes run.
module.exports = onThisEngine({
  withOAuthRefreshLock,
  withOAuthProfileLock: (...given) => require("./lib/profile-lock.js").withOAuthProfileLock(...given),
  refreshOAuthToken,
  keepOAuthFresh: (options) => require("./lib/keep-fresh.js").keepOAuthFresh(options),
  saveOAuthLogin: (...given) => require("./lib/login.js").saveOAuthLogin(...given),
  removeOAuthLogin: (...given) => require("./lib/login.js").removeOAuthLogin(...given),
  createOAuthClient: (options) => require("./lib/client.js").createOAuthClient(options),
  holdOAuthRefreshClaim: (...given) => require("./lib/claim.js").holdOAuthRefreshClaim(...given),
  awaitOAuthRefreshClaim: (...given) => require("./lib/claim.js").awaitOAuthRefreshClaim(...given),
  inspectOAuthRefreshLocks: (options) => require("./lib/inspect.js").inspectOAuthRefreshLocks(options),
  isAvailable,
  postgresCoordinator: (...given) => require("./lib/coordinators/postgres.js").postgresCoordinator(...given),
  etcdCoordinator: (...given) => require("./lib/coordinators/etcd.js").etcdCoordinator(...given),
  kubernetesCoordinator: (options) => require("./lib/coordinators/kubernetes.js").kubernetesCoordinator(options),
  checkCoordinator: async (...given) => require("./lib/coordinators/check.js").checkCoordinator(...given),
  resolveOAuthRefreshLockPath: policy.resolveOAuthRefreshLockPath,
  isSafeToCopyOAuthIdentity: policy.isSafeToCopyOAuthIdentity,
  shouldMirrorRefreshedOAuthCredential: policy.shouldMirrorRefreshedOAuthCredential,
  isRefreshTokenReusedError: policy.isRefreshTokenReusedError,
  classifyRefreshFailure: policy.classifyRefreshFailure,
  OAuthRefreshLockError,
  get OAUTH_PRESETS() {
    return require("./lib/presets.js").OAUTH_PRESETS;
  },
  OAUTH_REFRESH_CALL_TIMEOUT_MS,
  OAUTH_REFRESH_LOCK_OPTIONS,
});

loadIfRequired();
