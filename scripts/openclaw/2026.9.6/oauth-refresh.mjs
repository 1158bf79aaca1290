/**
 * src/agents/auth-profiles/oauth-refresh.ts
 *
 * The one way to a fresh OAuth credential: one provider call however many agents, processes and stores share the login.
 */

import { OAUTH_REFRESH_CALL_TIMEOUT_MS } from "./constants.js";
import { createOAuthCredentialStore } from "./oauth-credential-store.js";
import { markOAuthRefreshFailureSettled, OAuthRefreshFailureError } from "./oauth-refresh-failure.js";
import { buildRefreshContentionError, isGlobalRefreshLockTimeoutError } from "./oauth-refresh-lock-errors.js";
import { removeOAuthRefreshGenerationPeers } from "./oauth-refresh-peers.js";
import { resolveOAuthRefreshLockPath, resolveSharedAuthStorePath } from "./path-resolve.js";
import { isUserModelAuthProfileId } from "./profile-usage-stats.js";
import { resolvePersistedAuthProfileOwnerAgentDir } from "./store.js";

/**
 * Returns the profile's usable credential, or `null` if there is none to refresh. `refresh` asks the provider, one call at a time,
 * and again after a failure that passes; it returns `null` if the provider is not to be asked.
 */
export async function refreshOAuthProfile(lock, params) {
  const { provider, profileId } = params;
  const ownerAgentDir = resolvePersistedAuthProfileOwnerAgentDir(params);
  const lockPath = resolveOAuthRefreshLockPath(provider, profileId);
  let spent;
  const refresh = async (stored) => {
    spent = stored;
    return await params.refresh(stored);
  };
  try {
    const result = await lock.withOAuthRefreshLock(provider, profileId, refresh, {
      lockPath,
      store: createOAuthCredentialStore(ownerAgentDir, profileId),
      ...(ownerAgentDir ? { mainStore: createOAuthCredentialStore(undefined, profileId) } : {}),
      signal: params.signal,
      timeoutMs: OAUTH_REFRESH_CALL_TIMEOUT_MS,
      rejectedAccess: params.rejectedAccess,
      refreshMarginMs: params.refreshMarginMs,
    });
    if (result?.outcome === "refreshed") await removeSpentCopies(params, spent, result);
    return result?.credential ?? null;
  } catch (error) {
    if (isGlobalRefreshLockTimeoutError(error, lockPath))
      throw buildRefreshContentionError({ provider, profileId, cause: error });
    if (!error?.refreshFailure || error.refreshFailure.class === "not_asked") throw error;
    // Nothing is left to clean up after a call that failed: the store still has its credential.
    const settled = new OAuthRefreshFailureError({ provider, profileId, message: error.message, cause: error });
    markOAuthRefreshFailureSettled(settled, error);
    throw settled;
  }
}

/** Agents that had a copy of the login in their own stores go on with the shared one, which has the new refresh token. */
async function removeSpentCopies({ cfg, profileId }, spent, { mirror, notSaved }) {
  const isShared = !notSaved && (mirror?.written ?? true);
  if (!isShared || isUserModelAuthProfileId(profileId)) return;
  const ownerDatabasePath = resolveSharedAuthStorePath();
  const which = { cfg: cfg ?? {}, ownerDatabasePath, profileId, generation: spent };
  // One that stays is brought up to date when its agent refreshes.
  await removeOAuthRefreshGenerationPeers(which).catch(() => {});
}

/** What fails in `work` has not spent the stored refresh token: the caller has the error at once, and others need not wait. */
export async function withoutSpending(work) {
  try {
    return await work();
  } catch (error) {
    throw Object.assign(error, { refreshFailure: { class: "not_asked" } });
  }
}
