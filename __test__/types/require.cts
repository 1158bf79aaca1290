// How the package is called from a CommonJS module. Compiled, never run.
import lock = require("oauth-refresh-lock");

import type { OAuthCredential, RefreshFunction, RefreshResult } from "oauth-refresh-lock";
import { withOAuthProfileLock } from "oauth-refresh-lock";

const refresh: RefreshFunction = async (credential: OAuthCredential, { signal }) => {
  signal.throwIfAborted();
  return { access: "a", refresh: credential.refresh, expires: Date.now() + 3_600_000 };
};

async function main(): Promise<void> {
  const result: RefreshResult | null = await lock.withOAuthRefreshLock("acme", "acme:default", refresh, {
    agentDir: "/state/agents/sub/agent",
  });
  const access: string | undefined = result?.credential.access;
  const path: string = lock.resolveOAuthRefreshLockPath("acme", "acme:default");
  const length: number = await withOAuthProfileLock("acme", "acme:default", () => `${access}${path}`.length);
  const decision: boolean = lock.shouldMirrorRefreshedOAuthCredential({
    existing: null,
    refreshed: result?.credential as OAuthCredential,
  }).shouldMirror;
  const limit: 120_000 = lock.OAUTH_REFRESH_CALL_TIMEOUT_MS;
  const code: lock.ErrorCode = "nested_call";
  console.log(
    length,
    decision,
    limit,
    code,
    lock.isRefreshTokenReusedError(code),
    lock.OAUTH_REFRESH_LOCK_OPTIONS.stale,
  );

  // @ts-expect-error: an access token is needed
  await lock.withOAuthRefreshLock("acme", "acme:default", () => ({ expires: 1 }));
  // @ts-expect-error: the package is no function
  await lock("acme");
  // @ts-expect-error: no default export
  await lock.default;
}

void main();
