/**
 * src/agents/auth-profiles/oauth-refresh-claim.ts
 *
 * The credential that a fence stands for, on record for as long as the process that asks the provider lives.
 */
import { authProfilesLog, OAUTH_REFRESH_CALL_TIMEOUT_MS } from "./constants.js";
import { loadOAuthRefreshLock } from "./oauth-refresh-lock.js";
import { resolveOAuthRefreshLockPath } from "./path-resolve.js";

/** To be called before the fence is written; what it returns, when the fence is gone. Without a record all goes as before. */
export async function holdOAuthRefreshClaim({ provider, profileId, ...claim }) {
  const lock = await loadOAuthRefreshLock();
  const lockPath = resolveOAuthRefreshLockPath(provider, profileId);
  const lost = (error) => void authProfilesLog.warn("no record of an OAuth refresh claim", { profileId, error });
  const held = await lock?.holdOAuthRefreshClaim(provider, profileId, { lockPath, ...claim }).catch(lost);
  return held && (() => held.settle().catch(lost));
}

/** Waits until a fence is gone or its owner is: `ownerDead`, with its credential. */
export async function awaitOAuthRefreshClaim({ provider, profileId, claimId, signal }) {
  const lock = await loadOAuthRefreshLock();
  const lockPath = resolveOAuthRefreshLockPath(provider, profileId);
  const options = { lockPath, claimId, signal, timeoutMs: OAUTH_REFRESH_CALL_TIMEOUT_MS };
  return await lock?.awaitOAuthRefreshClaim(provider, profileId, options).catch((error) => {
    if (["file_lock_timeout", "caller_aborted"].includes(error?.code)) throw error;
    authProfilesLog.warn("can't read the record of an OAuth refresh claim", { profileId, error });
  });
}
