/**
 * src/agents/auth-profiles/oauth-refresh-lock.ts
 *
 * Whether OAuth credentials are refreshed by `oauth-refresh-lock`, in this process, now.
 */

/**
 * The package, or `undefined` where OPENCLAW_OAUTH_REFRESH_LOCK is "off" or its addon can't be loaded, as in a worker's single file:
 * there all goes the way that it went before.
 */
export async function loadOAuthRefreshLock() {
  if (process.env.OPENCLAW_OAUTH_REFRESH_LOCK?.trim() === "off") return undefined;
  try {
    const lock = await import("oauth-refresh-lock");
    // The first call of a function loads the addon.
    lock.isRefreshTokenReusedError("");
    return lock;
  } catch {
    return undefined;
  }
}
