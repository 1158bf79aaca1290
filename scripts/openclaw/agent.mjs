// Agents of OpenClaw's own in one process: imports the installed release, and then does what it is told. The release asks a fixed
// URL; that call goes to the provider on loopback instead.
import { readdirSync, readFileSync } from "node:fs";
import * as module from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

const { runtime, sessions, provider, number, hasNoAddon } = JSON.parse(process.env.PROOF);
const { fetch } = globalThis;
const headers = { "x-agent": String(number) };
globalThis.fetch = async (input, init) => {
  const url = String(input?.url ?? input);
  if (url !== "https://auth.openai.com/oauth/token") throw new Error(`no call to ${url}`);
  const { fails } = await (await fetch(provider, { headers })).json();
  // A name that never exists (RFC 6761), so the error is Node's own.
  if (fails) return await fetch("http://auth.invalid/", init);
  return await fetch(provider, { ...init, headers: { ...Object.fromEntries(new Headers(init.headers)), ...headers } });
};
// With this a release takes the fetch it finds, instead of one of its own that asks the name server first.
globalThis.fetch.mock = {};

// As in a bundle that can't take a native addon along.
const notFound = () => {
  throw Object.assign(new Error("no addon here"), { code: "ERR_MODULE_NOT_FOUND" });
};
if (hasNoAddon)
  module.registerHooks({
    resolve: (specifier, context, next) => (specifier === "oauth-refresh-lock" ? notFound() : next(specifier, context)),
  });

const openclaw = await import(pathToFileURL(runtime));

export const work = {
  /** The release has been imported. */
  start() {},
  async ask({ profileId, agentDir, forceRefresh }) {
    const store = openclaw.ensureAuthProfileStore(agentDir, { profileId });
    const resolved = await openclaw.resolveApiKeyForProfile({ store, profileId, agentDir, forceRefresh });
    return { apiKey: resolved?.apiKey ?? null };
  },
  /** By the public SDK's AuthStorage. */
  async askStorage({ profileId, agentDir }) {
    const { AuthStorage } = await import(pathToFileURL(sessions));
    const storage = AuthStorage.forAgent(agentDir);
    const apiKey = await storage.getApiKey(profileId.split(":")[0]);
    return { apiKey: apiKey ?? null, error: storage.drainErrors().at(-1)?.message.slice(0, 200) };
  },
  /** A person's own login, which the gateway's owner has connected; a later one replaces it. */
  async connect({ credential }) {
    const { connectUserModelAccount } = await fromSource("src/state/user-model-accounts.ts");
    const { ensureGatewayOwnerProfile } = await fromSource("src/state/user-profiles.ts");
    ensureGatewayOwnerProfile("owner");
    const how = { ownerProfileId: "gateway-owner", credential, assertCurrent() {}, matchesCredential: () => true };
    return { profileId: connectUserModelAccount(how).authProfileId };
  },
  /** What `models auth login`, `/login` and a new agent's set-up end in. */
  async login({ profileId, credential }) {
    const { persistProviderAuthProfilesAfterLogin } = await fromSource("src/plugins/provider-auth-persistence.ts");
    await persistProviderAuthProfilesAfterLogin({ profiles: [{ profileId, credential }], config: {} });
    return {};
  },
  /** What onboarding ends in. */
  async onboard({ profileId, credential }) {
    const { persistProviderAuthProfileBatch } = await fromSource("src/plugins/provider-auth-persistence.ts");
    await persistProviderAuthProfileBatch({ profiles: [{ profileId, credential }], config: {} });
    return {};
  },
  /** What `models auth logout` ends in. */
  async logout({ profileId }) {
    const { removeAuthProfilesAcrossOwnerStores } = await fromSource("src/agents/auth-profiles/profiles.ts");
    const removed = await removeAuthProfilesAcrossOwnerStores({ profileIds: [profileId], cfg: {} });
    return removed ? {} : { error: "not logged out" };
  },
  /** What `doctor --fix` does to agents' copies. */
  async repair() {
    const shadows = await fromSource("src/commands/doctor/shared/stale-oauth-profile-shadows.ts");
    const { warnings } = await shadows.repairStaleOAuthProfileShadows({ cfg: {} });
    return { error: warnings[0] };
  },
  switch({ to }) {
    if (to) process.env.OPENCLAW_OAUTH_REFRESH_LOCK = to;
    else delete process.env.OPENCLAW_OAUTH_REFRESH_LOCK;
    return {};
  },
  /** Logs in, in each of these stores; without a credential, forgets every login. */
  write({ profileId, agentDirs, credential }) {
    const profiles = credential ? { [profileId]: credential } : {};
    for (const directory of agentDirs) openclaw.saveAuthProfileStore({ version: 1, profiles }, directory ?? undefined);
    return {};
  },
};

/** What the bundle with this source file exports, by the names of the source. */
async function fromSource(source) {
  const dist = dirname(dirname(runtime));
  const texts = readdirSync(dist).filter((name) => name.endsWith(".mjs") || name.endsWith(".js"));
  for (const name of texts) {
    const text = readFileSync(join(dist, name), "utf8");
    if (!text.includes(`//#region ${source}\n`)) continue;
    const exported = await import(pathToFileURL(join(dist, name)));
    const pairs = /^export \{ (.*) \};$/m.exec(text)[1].split(", ");
    return Object.fromEntries(
      pairs.map((pair) => pair.split(" as ")).map(([from, as]) => [from, exported[as ?? from]]),
    );
  }
  throw new Error(`no bundle has ${source}`);
}
