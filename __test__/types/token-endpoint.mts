// How a token endpoint is asked, and how logins are kept fresh. Compiled, never run.
import {
  type ErrorCode,
  type ExchangedFields,
  type KeptProfile,
  keepOAuthFresh,
  OAUTH_PRESETS,
  type OAuthRefreshLockError,
  type RefreshFailure,
  type RefreshResult,
  refreshOAuthToken,
  type TokenEndpointRequest,
  withOAuthProfileLock,
  withOAuthRefreshLock,
} from "oauth-refresh-lock";

/** Exactly this type, neither wider nor narrower. */
declare function exactly<Expected>(): <Actual>(
  value: Actual,
  ...same: (<T>() => T extends Actual ? 1 : 2) extends <T>() => T extends Expected ? 1 : 2 ? [] : [never]
) => void;

// A request in the place of a refresh function.

const tokenEndpoint = "https://auth.example.test/token";
const everything: TokenEndpointRequest = {
  tokenEndpoint,
  enterpriseTokenEndpoint: "https://{host}/token",
  clientId: "client",
  clientSecret: "secret",
  clientAuth: "post",
  encoding: "json",
  exchange: "refresh_token",
  scope: "a b",
  resource: ["https://api.example.test/"] as const,
  headers: { "User-Agent": "agent" },
  identityClaims: { accountId: ["account", "id"], email: ["email"] },
  envelope: ["data", "tokens"],
  expiresInUnit: "ms",
  replay: "static",
  connectTimeoutMs: 1_000,
  maxParallel: 3,
  classify: { dead: ["E17"] as const, unspent: [] },
};
exactly<RefreshResult | null>()(await withOAuthRefreshLock("acme", "acme:default", everything));
await withOAuthRefreshLock("acme", "acme:default", { tokenEndpoint }, { timeoutMs: 1_000 });
await withOAuthRefreshLock("acme", "acme:default", { tokenEndpoint, resource: "https://api.example.test/" });

// @ts-expect-error: no endpoint
await withOAuthRefreshLock("acme", "acme:default", { clientId: "client" });
// @ts-expect-error: no such member
await withOAuthRefreshLock("acme", "acme:default", { tokenEndpoint, client_id: "client" });
// @ts-expect-error: no such way
await withOAuthRefreshLock("acme", "acme:default", { tokenEndpoint, clientAuth: "jwt" });
// @ts-expect-error: text
await withOAuthRefreshLock("acme", "acme:default", { tokenEndpoint: new URL(tokenEndpoint) });
// @ts-expect-error: a header's value is text
await withOAuthRefreshLock("acme", "acme:default", { tokenEndpoint, headers: { "X-Number": 1 } });
// @ts-expect-error: a path is a list
await withOAuthRefreshLock("acme", "acme:default", { tokenEndpoint, identityClaims: { accountId: "sub" } });
await withOAuthRefreshLock("acme", "acme:default", { tokenEndpoint, envelope: "body" });
// @ts-expect-error: no such unit
await withOAuthRefreshLock("acme", "acme:default", { tokenEndpoint, expiresInUnit: "minutes" });
// @ts-expect-error: a number
await withOAuthRefreshLock("acme", "acme:default", { tokenEndpoint, maxParallel: "3" });
// @ts-expect-error: the lock alone asks nobody
await withOAuthProfileLock("acme", "acme:default", { tokenEndpoint });

// Presets.

exactly<Readonly<TokenEndpointRequest>>()(OAUTH_PRESETS["openai-codex"]);
await withOAuthRefreshLock("openai-codex", "openai-codex:default", OAUTH_PRESETS["openai-codex"]);
const app: TokenEndpointRequest = { ...OAUTH_PRESETS["github-app"], clientId: "app", clientSecret: "secret" };
await withOAuthRefreshLock("github", "github:app", app);
// @ts-expect-error: no such preset
OAUTH_PRESETS.acme;
// @ts-expect-error: frozen
OAUTH_PRESETS.anthropic = { tokenEndpoint };
// @ts-expect-error: frozen through and through
OAUTH_PRESETS.anthropic.clientId = "mine";

// One call alone.

const fields = await refreshOAuthToken(
  { ...app, refreshToken: "token" },
  { signal: AbortSignal.timeout(1), timeoutMs: 1 },
);
exactly<ExchangedFields>()(fields);
exactly<string>()(fields.access);
exactly<number | undefined>()(fields.expires);
exactly<string | undefined>()(fields.refresh);
await withOAuthRefreshLock("acme", "acme:default", ({ refresh }, { signal }) =>
  refreshOAuthToken({ tokenEndpoint, refreshToken: refresh }, { signal }),
);
// @ts-expect-error: no refresh token
await refreshOAuthToken({ tokenEndpoint });
// @ts-expect-error: there is no lock to wait for
await refreshOAuthToken({ tokenEndpoint, refreshToken: "token" }, { stateDir: "/state" });

// Kept fresh.

const profile: KeptProfile = {
  provider: "acme",
  profileId: "acme:default",
  agentDir: "/agent",
  refreshMarginMs: 1_000,
};
exactly<void>()(keepOAuthFresh({ profiles: [profile], refresh: everything }));
keepOAuthFresh({
  profiles: [profile, { ...profile, refresh: OAUTH_PRESETS.anthropic }] as const,
  refresh: async ({ refresh }) => ({ access: refresh }),
  jitterMs: 0,
  signal: AbortSignal.abort(),
  onError(error, who) {
    exactly<unknown>()(error);
    exactly<{ provider: string; profileId: string }>()(who);
  },
});
// @ts-expect-error: no profiles
keepOAuthFresh({ refresh: everything });
// @ts-expect-error: profiles are a list
keepOAuthFresh({ profiles: profile, refresh: everything });
// @ts-expect-error: a profile has a provider
keepOAuthFresh({ profiles: [{ profileId: "acme:default" }], refresh: everything });
// @ts-expect-error: nobody waits
keepOAuthFresh({ profiles: [{ ...profile, timeoutMs: 1 }], refresh: everything });
// @ts-expect-error: one signal ends all
keepOAuthFresh({ profiles: [{ ...profile, signal: AbortSignal.abort() }], refresh: everything });
// @ts-expect-error: refreshed when it is time
keepOAuthFresh({ profiles: [{ ...profile, forceRefresh: true }], refresh: everything });

// What an error tells of an answer.

try {
  await refreshOAuthToken({ tokenEndpoint, refreshToken: "token" });
} catch (caught) {
  const error = caught as OAuthRefreshLockError;
  exactly<number | undefined>()(error.status);
  exactly<string | undefined>()(error.oauthError);
  exactly<number | undefined>()(error.retryAfterMs);
  exactly<RefreshFailure | undefined>()(error.refreshFailure);
  exactly<RefreshFailure["class"] | undefined>()(error.refreshFailure?.class);
  const codes = [
    "provider_unreachable",
    "provider_refused",
    "provider_answer_invalid",
    "provider_answer_lost",
  ] as const;
  const known: readonly ErrorCode[] = codes;
  if (known.includes(error.code)) throw error;
  // @ts-expect-error: text, not a number
  if (error.oauthError === 400) throw error;
}
