// One instance for both module systems: the queue must be one per thread.
import cjs from "./index.js";
import addons from "./lib/addons.js";

// In a bundle only this says where the bundle is.
addons.bundledIn(import.meta.url);

export const {
  withOAuthRefreshLock,
  withOAuthProfileLock,
  refreshOAuthToken,
  keepOAuthFresh,
  saveOAuthLogin,
  removeOAuthLogin,
  createOAuthClient,
  holdOAuthRefreshClaim,
  awaitOAuthRefreshClaim,
  inspectOAuthRefreshLocks,
  isAvailable,
  postgresCoordinator,
  etcdCoordinator,
  kubernetesCoordinator,
  checkCoordinator,
  resolveOAuthRefreshLockPath,
  isSafeToCopyOAuthIdentity,
  shouldMirrorRefreshedOAuthCredential,
  isRefreshTokenReusedError,
  classifyRefreshFailure,
  OAuthRefreshLockError,
  OAUTH_PRESETS,
  OAUTH_REFRESH_CALL_TIMEOUT_MS,
  OAUTH_REFRESH_LOCK_OPTIONS,
} = cjs;
