/**
 * src/agents/auth-profiles/oauth-refresh.ts
 *
 * The one way to a fresh OAuth credential: one provider call however many agents, processes and stores share the login.
 */

import { withFileLock } from "../../infra/file-lock.js";
import { OAUTH_REFRESH_CALL_TIMEOUT_MS, OAUTH_REFRESH_LOCK_OPTIONS } from "./constants.js";
import { hasUsableOAuthCredential, isOAuthRefreshFence, isPendingOAuthRefreshFence } from "./credential-state.js";
import { createOAuthCredentialStore } from "./oauth-credential-store.js";
import { markOAuthRefreshFailureSettled, OAuthRefreshFailureError } from "./oauth-refresh-failure.js";
import { observeOAuthRefreshFenceSettlement } from "./oauth-refresh-fence.js";
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
  const store = createOAuthCredentialStore(ownerAgentDir, profileId);
  const lockPath = resolveOAuthRefreshLockPath(provider, profileId);
  const deadline = Date.now() + OAUTH_REFRESH_CALL_TIMEOUT_MS;
  for (;;) {
    let fence;
    let sent = false;
    const refresh = async (credential) => {
      // A release without this change asks the provider for the generation that it has fenced.
      if (isOAuthRefreshFence(credential)) fence = credential;
      return fence ? null : await params.refresh(credential, () => (sent = true));
    };
    try {
      const result = await withRefreshLock(provider, profileId, refresh, {
        lockPath,
        store,
        ...(ownerAgentDir ? { mainStore: createOAuthCredentialStore(undefined, profileId) } : {}),
        signal: params.signal,
        timeoutMs: Math.max(1, deadline - Date.now()),
        rejectedAccess: params.rejectedAccess,
        refreshMarginMs: params.refreshMarginMs,
        // What failed before the provider was asked has spent nothing.
        classify: () => (sent ? undefined : "not_sent"),
      });
      if (result || !isPendingOAuthRefreshFence(fence)) return result?.credential ?? null;
    } catch (error) {
      const isWeather = sent && RETRYABLE.has(error.refreshFailure?.class) && !params.signal?.aborted;
      if (!isWeather || Date.now() >= deadline) throw describeRefreshError(error, { provider, profileId, lockPath });
      continue;
    }
    await observeOAuthRefreshFenceSettlement({
      label: `refreshOAuthCredential(${provider})`,
      timeoutMs: Math.max(1, deadline - Date.now()),
      signal: params.signal,
      read: () => store.load(),
      isPending: (credential) => isPendingOAuthRefreshFence(credential ?? undefined),
      resolve: () => null,
    });
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

/** Where the addon can't be loaded, as in a worker's single file: the same file lock, held over the call. */
async function refreshUnderFileLock(refresh, profileId, options) {
  const { lockPath, store, rejectedAccess, refreshMarginMs } = options;
  const isUsable = (credential) =>
    hasUsableOAuthCredential(credential, { refreshMarginMs }) && credential.access !== rejectedAccess;
  return await withFileLock(lockPath, OAUTH_REFRESH_LOCK_OPTIONS, async () => {
    options.signal?.throwIfAborted();
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

function describeRefreshError(error, { provider, profileId, lockPath }) {
  if (isGlobalRefreshLockTimeoutError(error, lockPath))
    return buildRefreshContentionError({ provider, profileId, cause: error });
  if (!error?.refreshFailure) return error;
  // Nothing is left to clean up after a call that failed: the store still has its credential.
  const settled = new OAuthRefreshFailureError({ provider, profileId, message: error.message, cause: error });
  markOAuthRefreshFailureSettled(settled, error);
  return settled;
}
