// One instance for both module systems: the queue must be one per thread.
import cjs from "./index.js";

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
  postgresCoordinator,
  etcdCoordinator,
  kubernetesCoordinator,
  checkCoordinator,
  resolveOAuthRefreshLockPath,
  isSafeToCopyOAuthIdentity,
  shouldMirrorRefreshedOAuthCredential,
  isRefreshTokenReusedError,
  classifyRefreshFailure,
  OAUTH_PRESETS,
  OAUTH_REFRESH_CALL_TIMEOUT_MS,
  OAUTH_REFRESH_LOCK_OPTIONS,
} = cjs;
