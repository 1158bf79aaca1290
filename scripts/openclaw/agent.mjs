// Agents of OpenClaw's own in one process: imports the installed release, says `ready`, and then does what it is told. The release
// asks a fixed URL; that call goes to the provider on loopback instead.
import { pathToFileURL } from "node:url";

const { runtime, sessions, provider, number } = JSON.parse(process.env.PROOF);
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

const openclaw = await import(pathToFileURL(runtime));

const orders = {
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
  /** Logs in, in each of these stores. */
  write({ profileId, agentDirs, credential }) {
    for (const directory of agentDirs) {
      openclaw.saveAuthProfileStore({ version: 1, profiles: { [profileId]: credential } }, directory ?? undefined);
    }
    return {};
  },
};

process.once("disconnect", () => process.exit());
process.on("message", async ({ ticket, order, ...how }) => {
  let answer;
  try {
    answer = await orders[order](how);
  } catch (error) {
    answer = { error: String(error?.message ?? error).slice(0, 300) };
  }
  process.send({ ticket, ...answer });
});
process.send({ ready: true });
