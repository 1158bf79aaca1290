// One agent of OpenClaw's own: imports the installed release, says `ready`, and then asks for its key whenever told to, or writes
// stores, each with one login. The release asks a fixed URL; that call goes to the provider on loopback instead.
import { pathToFileURL } from "node:url";

const { module, provider, agentDir, profileId } = JSON.parse(process.env.PROOF);
const { fetch } = globalThis;
globalThis.fetch = (input, init) => {
  const url = String(input?.url ?? input);
  return url === "https://auth.openai.com/oauth/token"
    ? fetch(provider, init)
    : Promise.reject(new Error(`no call to ${url}`));
};
// With this a release takes the fetch it finds, instead of one of its own that asks the name server first.
globalThis.fetch.mock = {};

const openclaw = await import(pathToFileURL(module));

async function ask() {
  const store = openclaw.ensureAuthProfileStore(agentDir);
  const resolved = await openclaw.resolveApiKeyForProfile({ store, profileId, agentDir });
  return { apiKey: resolved?.apiKey ?? null };
}

function write({ agentDirs, credential }) {
  for (const directory of agentDirs) {
    openclaw.saveAuthProfileStore({ version: 1, profiles: { [profileId]: credential } }, directory ?? undefined);
  }
  return { written: agentDirs.length };
}

process.once("disconnect", () => process.exit());
process.on("message", async (order) => {
  try {
    process.send(order.write ? write(order.write) : await ask());
  } catch (error) {
    process.send({ error: String(error?.message ?? error).slice(0, 200) });
  }
});
process.send({ ready: true });
