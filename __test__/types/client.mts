// How a client is made and used. Compiled, never run.
import { createOAuthClient, type OAuthClient, type OAuthCredential } from "oauth-refresh-lock";

const client: OAuthClient = createOAuthClient({ provider: "acme", profileId: "acme:owner", refresh: () => null });
const { token, headers, credential, fetch: authorized } = client;
export const text: string = await token();
export const header: { authorization: string } = await headers({ timeoutMs: 1_000 });
export const whole: OAuthCredential = await credential({ signal: AbortSignal.timeout(1), rejectedAccess: text });
export const response: Response = await authorized(new URL("https://acme.test/"), { method: "POST", body: "b" });
await authorized("https://acme.test/", { headers: await headers() });

// In an SDK's place for it.
declare function sdk(options: { fetch: typeof fetch }): void;
sdk({ fetch: client.fetch });

createOAuthClient({
  provider: "acme",
  profileId: "acme:owner",
  refresh: { tokenEndpoint: "https://auth.acme.test/token" },
  stateDir: "/state",
  refreshMarginMs: 1,
  serveUnexpired: false,
  fetch: (input, init) => fetch(input, init),
  onError: (error) => void error,
});

const login = { provider: "acme", profileId: "acme:owner", refresh: () => null };
createOAuthClient({
  ...login,
  adoptFrom: ["codex", "claude-code", "opencode", { path: "/f", read: (json) => ({ access: json.token }) }],
});
// @ts-expect-error: no such program
createOAuthClient({ ...login, adoptFrom: ["claude"] });

// @ts-expect-error: whose login?
createOAuthClient({ refresh: () => null });
// @ts-expect-error: it serves many callers, each with its own signal
createOAuthClient({ provider: "a", profileId: "a:b", refresh: () => null, signal: AbortSignal.abort() });
// @ts-expect-error: no such limit
await token({ timeout: 1 });
