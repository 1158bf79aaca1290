// How the package is called from an ES module. Compiled, never run.
import { subscribe } from "node:diagnostics_channel";
import {
  awaitOAuthRefreshClaim,
  type ErrorCode,
  holdOAuthRefreshClaim,
  isRefreshTokenReusedError,
  isSafeToCopyOAuthIdentity,
  type LockHolder,
  type LockOptions,
  type MirrorReason,
  type MirrorResult,
  OAUTH_REFRESH_CALL_TIMEOUT_MS,
  OAUTH_REFRESH_LOCK_OPTIONS,
  type OAuthCredential,
  OAuthRefreshLockError,
  type OAuthRefreshLockEvent,
  type RefreshFunction,
  type RefreshOptions,
  type RefreshResult,
  resolveOAuthRefreshLockPath,
  saveOAuthLogin,
  shouldMirrorRefreshedOAuthCredential,
  withOAuthProfileLock,
  withOAuthRefreshLock,
} from "oauth-refresh-lock";

/** Exactly this type, neither wider nor narrower. */
declare function exactly<Expected>(): <Actual>(
  value: Actual,
  ...same: (<T>() => T extends Actual ? 1 : 2) extends <T>() => T extends Expected ? 1 : 2 ? [] : [never]
) => void;

// A refresh, as short as it gets, and with everything.

const refresh: RefreshFunction = async (credential, { signal }) => {
  exactly<OAuthCredential>()(credential);
  exactly<AbortSignal>()(signal);
  const response = await fetch("https://auth.example.test/token", { method: "POST", body: credential.refresh, signal });
  const tokens = (await response.json()) as { access_token: string; expires_in: number };
  return { access: tokens.access_token, expires: Date.now() + tokens.expires_in * 1000 };
};

const result = await withOAuthRefreshLock("acme", "acme:default", refresh);
exactly<RefreshResult | null>()(result);
if (result) {
  exactly<"fresh" | "adopted" | "refreshed" | "recovered">()(result.outcome);
  exactly<string>()(result.credential.access);
  exactly<string>()(result.credential.refresh);
  exactly<number>()(result.credential.expires);
  exactly<string | undefined>()(result.credential.email);
  exactly<unknown>()(result.credential.anything);
  exactly<MirrorResult | undefined>()(result.mirror);
  exactly<MirrorReason | "store-error" | undefined>()(result.mirror?.reason);
  exactly<ErrorCode | undefined>()(result.mirror?.error?.code);
  exactly<ErrorCode | undefined>()(result.notSaved?.code);
}

const everything: RefreshOptions = {
  agentDir: "/state/agents/sub/agent",
  mainAgentDir: "/state/agents/main/agent",
  stateDir: "/state",
  lockPath: "/state/locks/mine",
  trustedVolume: "/state",
  signal: AbortSignal.timeout(1_000),
  timeoutMs: 1_000,
  callTimeoutMs: 1_000,
  refreshMarginMs: 0,
  forceRefresh: true,
  rejectedAccess: "token",
  classify: (error) => (error.message === "E17" ? "answered_dead" : undefined),
};
await withOAuthRefreshLock("acme", "acme:default", refresh, everything);

// What a refresh function may return.

await withOAuthRefreshLock("acme", "acme:default", () => null);
await withOAuthRefreshLock("acme", "acme:default", () => undefined);
await withOAuthRefreshLock("acme", "acme:default", async () => null);
await withOAuthRefreshLock("acme", "acme:default", () => ({ access: "a", expires: 1 }));
await withOAuthRefreshLock("acme", "acme:default", async () => ({
  access: "a",
  expires: 1,
  refresh: "r",
  scope: ["x"],
}));
await withOAuthRefreshLock("acme", "acme:default", async ({ refresh }) => ({ access: refresh, expires: 1 }));

await withOAuthRefreshLock("acme", "acme:default", () => ({ access: "a" }));
// @ts-expect-error: no access token
await withOAuthRefreshLock("acme", "acme:default", async () => ({ expires: 1 }));
await withOAuthRefreshLock("acme", "acme:default", () => ({ access: "a", expires: new Date() }));
// What clients give.
await withOAuthRefreshLock("acme", "acme:default", () => fetch("https://acme.test/token"));
await withOAuthRefreshLock("acme", "acme:default", async () => (await fetch("https://acme.test/token")).text());
await withOAuthRefreshLock("acme", "acme:default", async () => ({
  access_token: "a",
  expires_in: 1,
  token_type: "bearer",
}));
await withOAuthRefreshLock("acme", "acme:default", async () => ({ data: JSON.parse("{}"), status: 200 }));
// @ts-expect-error: a token is text
await withOAuthRefreshLock("acme", "acme:default", () => ({ access: 1, expires: 1 }));
// @ts-expect-error: a number is no credential
await withOAuthRefreshLock("acme", "acme:default", async () => 1);
// @ts-expect-error: no function
await withOAuthRefreshLock("acme", "acme:default");
// @ts-expect-error: a profile id is text
await withOAuthRefreshLock("acme", 1, refresh);
// @ts-expect-error: no such option
await withOAuthRefreshLock("acme", "acme:default", refresh, { timeout: 1 });
// @ts-expect-error: milliseconds are a number
await withOAuthRefreshLock("acme", "acme:default", refresh, { callTimeoutMs: "1s" });
// @ts-expect-error: a result may be null
(await withOAuthRefreshLock("acme", "acme:default", refresh)).credential;
// @ts-expect-error: no such outcome
if (result?.outcome === "stolen") throw new Error();

// The lock alone passes results through.

exactly<number>()(await withOAuthProfileLock("acme", "acme:default", () => 1 as number));
exactly<string[]>()(await withOAuthProfileLock("acme", "acme:default", async () => [""]));
exactly<void>()(await withOAuthProfileLock("acme", "acme:default", () => {}));
exactly<string>()(
  await withOAuthProfileLock({ provider: "acme", profileId: "acme:default" }, async () => "", { env: process.env }),
);
const lockOptions: LockOptions = { lockPath: "/locks/x", signal: AbortSignal.abort(), timeoutMs: 1, stateDir: "/s" };
exactly<Promise<boolean>>()(withOAuthProfileLock<boolean>("acme", "acme:default", () => true, lockOptions));
// @ts-expect-error: refreshes only
await withOAuthProfileLock("acme", "acme:default", () => {}, { forceRefresh: true });
// @ts-expect-error: the function gets nothing
await withOAuthProfileLock("acme", "acme:default", (credential: OAuthCredential) => credential);

// What decides.

exactly<string>()(resolveOAuthRefreshLockPath("acme", "acme:default"));
exactly<string>()(resolveOAuthRefreshLockPath("acme", "acme:default", { stateDir: "/state" }));
// @ts-expect-error: no such option
resolveOAuthRefreshLockPath("acme", "acme:default", { agentDir: "/agent" });

const credential: OAuthCredential = {
  type: "oauth",
  provider: "acme",
  access: "a",
  refresh: "r",
  expires: 1,
  more: [1],
};
exactly<boolean>()(isSafeToCopyOAuthIdentity({}, { accountId: "a", email: "e" }));
exactly<boolean>()(isSafeToCopyOAuthIdentity(credential, credential));
// @ts-expect-error: null is no identity
isSafeToCopyOAuthIdentity(null, {});

exactly<{ shouldMirror: boolean; reason: MirrorReason }>()(
  shouldMirrorRefreshedOAuthCredential({ existing: null, refreshed: credential }),
);
shouldMirrorRefreshedOAuthCredential({ existing: undefined, refreshed: credential });
shouldMirrorRefreshedOAuthCredential({ existing: { type: "api_key", key: "k" }, refreshed: credential });
// @ts-expect-error: an API key is no refreshed credential
shouldMirrorRefreshedOAuthCredential({ existing: credential, refreshed: { ...credential, type: "api_key" } });
// @ts-expect-error: something was refreshed
shouldMirrorRefreshedOAuthCredential({ existing: credential, refreshed: null });

exactly<boolean>()(isRefreshTokenReusedError(new Error("refresh_token_reused")));
isRefreshTokenReusedError("refresh_token_reused");

// Claims.

const claim = { claimId: "1", generation: "g", credential };
const held = await holdOAuthRefreshClaim("acme", "acme:default", { ...claim, lockPath: "/l", uncertain: "fail" });
exactly<Promise<void>>()(held.settle());
const found = await awaitOAuthRefreshClaim("acme", "acme:default", { claimId: "1", timeoutMs: 1 });
exactly<"settled" | "unknown" | "ownerDead">()(found.state);
if (found.state === "ownerDead") exactly<OAuthCredential>()(found.credential);
// @ts-expect-error: nothing is known of a claim that is settled
else found.credential;
// @ts-expect-error: which claim?
await awaitOAuthRefreshClaim("acme", "acme:default");
// @ts-expect-error: a record needs its credential
await holdOAuthRefreshClaim("acme", "acme:default", { claimId: "1", generation: "g" });

// Constants.

exactly<120_000>()(OAUTH_REFRESH_CALL_TIMEOUT_MS);
exactly<180_000>()(OAUTH_REFRESH_LOCK_OPTIONS.stale);
exactly<20>()(OAUTH_REFRESH_LOCK_OPTIONS.retries.retries);
// @ts-expect-error: frozen
OAUTH_REFRESH_LOCK_OPTIONS.stale = 1;
// @ts-expect-error: frozen through and through
OAUTH_REFRESH_LOCK_OPTIONS.retries.factor = 1;

// Errors are told by their code.

try {
  await withOAuthRefreshLock("acme", "acme:default", refresh);
} catch (caught) {
  const error = caught as OAuthRefreshLockError;
  exactly<ErrorCode>()(error.code);
  exactly<string | undefined>()(error.path);
  exactly<LockHolder | undefined>()(error.holder);
  switch (error.code) {
    case "file_lock_timeout":
      exactly<string | undefined>()(error.lockPath);
      exactly<number | undefined>()(error.holder?.pid);
      exactly<number | undefined>()(error.holder?.heldMs);
      break;
    case "caller_aborted":
      exactly<unknown>()(error.cause);
      break;
    // @ts-expect-error: no such code
    case "timed_out":
      break;
  }
  if (caught instanceof OAuthRefreshLockError) exactly<ErrorCode>()(caught.code);
  // @ts-expect-error: only this package raises them
  new OAuthRefreshLockError("internal", "m");
}

// Events.

subscribe("oauth-refresh-lock", (message) => {
  const event = message as OAuthRefreshLockEvent;
  exactly<
    | "waiting"
    | "acquired"
    | "dispatched"
    | "refreshed"
    | "recovered"
    | "mirrored"
    | "refused"
    | "reclaimed"
    | "warned"
    | "adopted"
    | "fresh"
    | "failed"
  >()(event.type);
  exactly<number>()(event.at);
  exactly<string>()(event.lockPath);
  exactly<string | undefined>()(event.agentDir);
  switch (event.type) {
    case "adopted":
      exactly<string | undefined>()(event.host);
      break;
    case "mirrored":
      exactly<MirrorReason>()(event.reason);
      break;
    case "refused":
      exactly<MirrorReason | "store-error">()(event.reason);
      break;
    case "reclaimed":
      exactly<number | null>()(event.pid);
      break;
    case "warned":
      exactly<string>()(event.path);
      break;
    case "failed":
      exactly<string | undefined>()(event.code);
      break;
    case "dispatched":
      // @ts-expect-error: nothing more is told of it
      event.reason;
      break;
  }
});

// Types of a host's own, with fields that this package does not know; and options that may be undefined, where
// `exactOptionalPropertyTypes` is set.

interface Tokens {
  access: string;
  expires: number;
  scopes: string[];
}
interface Answer {
  access_token?: string | undefined;
  refresh_token?: string | undefined;
  expires_in: number;
  team: { id: string };
}
interface StoredLogin {
  type: "oauth";
  provider: string;
  access: string;
  refresh: string;
  expires: number;
  email?: string;
  team?: string;
}
declare const tokens: Tokens;
declare const answer: Answer;
declare const login: StoredLogin;
declare const logins: Map<string, StoredLogin>;
await withOAuthRefreshLock("acme", "acme:default", () => tokens);
await withOAuthRefreshLock("acme", "acme:default", async () => answer);
await withOAuthRefreshLock("acme", "acme:default", () => null, {
  stateDir: process.env.STATE,
  signal: undefined as AbortSignal | undefined,
  timeoutMs: undefined as number | undefined,
  store: {
    name: "logins",
    load: (profileId) => logins.get(profileId),
    compareAndSwap(profileId: string, expected: StoredLogin | null, next: StoredLogin) {
      if (logins.get(profileId)?.access !== expected?.access) return false;
      logins.set(profileId, next);
      return true;
    },
  },
});
await saveOAuthLogin("acme", "acme:default", login, { stateDir: process.env.STATE, replace: undefined });
await saveOAuthLogin("acme", "acme:default", { ...login, more: 1 });
await saveOAuthLogin("acme", "acme:default", answer);
exactly<boolean>()(isSafeToCopyOAuthIdentity(login, login));
shouldMirrorRefreshedOAuthCredential({ existing: login, refreshed: login });
await withOAuthRefreshLock("acme", "acme:default", {
  tokenEndpoint: "https://acme.test/token",
  clientId: process.env.CLIENT_ID,
  clientSecret: process.env.CLIENT_SECRET,
});
