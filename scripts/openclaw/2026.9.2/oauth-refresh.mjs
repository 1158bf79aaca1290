/**
 * src/agents/auth-profiles/oauth-refresh.ts
 *
 * The one way to a fresh OAuth credential: one provider call however many agents, processes and stores share the login.
 */

import { withFileLock } from "../../infra/file-lock.js";
import { OAUTH_REFRESH_CALL_TIMEOUT_MS, OAUTH_REFRESH_LOCK_OPTIONS } from "./constants.js";
import { hasUsableOAuthCredential } from "./credential-state.js";
import { createOAuthCredentialStore } from "./oauth-credential-store.js";
import { buildRefreshContentionError, isGlobalRefreshLockTimeoutError } from "./oauth-refresh-lock-errors.js";
import { resolveOAuthRefreshLockPath } from "./path-resolve.js";
import { resolvePersistedAuthProfileOwnerAgentDir } from "./store.js";

/** How a call failed after which the same refresh token may be sent again. */
const RETRYABLE = new Set(["not_sent", "answered_unspent", "uncertain"]);

/**
 * Returns the profile's usable credential, or `null` if there is none to refresh. `refresh` is called at most once at a time,
 * calls `sending` right before it asks the provider, and returns `null` if it does not.
 */
export async function refreshOAuthProfile(params) {
  const { provider, profileId } = params;
  const ownerAgentDir = resolvePersistedAuthProfileOwnerAgentDir(params);
  const lockPath = resolveOAuthRefreshLockPath(provider, profileId);
  const deadline = Date.now() + OAUTH_REFRESH_CALL_TIMEOUT_MS;
  for (;;) {
    let sent = false;
    const refresh = (credential) => params.refresh(credential, () => (sent = true));
    try {
      const result = await withRefreshLock(provider, profileId, refresh, {
        lockPath,
        store: createOAuthCredentialStore(ownerAgentDir, profileId),
        ...(ownerAgentDir ? { mainStore: createOAuthCredentialStore(undefined, profileId) } : {}),
        timeoutMs: Math.max(1, deadline - Date.now()),
        rejectedAccess: params.rejectedAccess,
        refreshMarginMs: params.refreshMarginMs,
        // What failed before the provider was asked has spent nothing.
        classify: () => (sent ? undefined : "not_sent"),
      });
      return result?.credential ?? null;
    } catch (error) {
      if (isGlobalRefreshLockTimeoutError(error, lockPath))
        throw buildRefreshContentionError({ provider, profileId, cause: error });
      if (!sent || !RETRYABLE.has(error.refreshFailure?.class) || Date.now() >= deadline) throw error;
    }
  }
}

async function withRefreshLock(provider, profileId, refresh, options) {
  const loaded = await import("oauth-refresh-lock").catch(() => undefined);
  try {
    if (loaded) return await loaded.withOAuthRefreshLock(provider, profileId, refresh, options);
  } catch (error) {
    if (error?.code !== "addon_unavailable") throw error;
  }
  return await refreshUnderFileLock(refresh, profileId, options);
}

/** Where the addon can't be loaded: the same file lock, held over the call. */
async function refreshUnderFileLock(refresh, profileId, options) {
  const { lockPath, store, rejectedAccess, refreshMarginMs } = options;
  const isUsable = (credential) =>
    hasUsableOAuthCredential(credential, { refreshMarginMs }) && credential.access !== rejectedAccess;
  return await withFileLock(lockPath, OAUTH_REFRESH_LOCK_OPTIONS, async () => {
    const stored = await store.load();
    if (!stored || isUsable(stored)) return stored && { credential: stored };
    const refreshed = await refresh(stored);
    if (!refreshed) return null;
    const credential = { ...stored, ...refreshed };
    if (await store.compareAndSwap(profileId, JSON.parse(JSON.stringify(stored)), credential)) return { credential };
    const superseding = await store.load();
    return isUsable(superseding) ? { credential: superseding } : null;
  });
}
