// One agent of OpenClaw's own: imports the installed release, says `ready`, and asks for its key when told to.
// The release asks a fixed URL; that call goes to the provider on loopback instead.
import { pathToFileURL } from "node:url";

const { module, provider, agentDir, profileId } = JSON.parse(process.env.PROOF);
const { fetch } = globalThis;
globalThis.fetch = (input, init) => {
  const url = String(input?.url ?? input);
  return url === "https://auth.openai.com/oauth/token"
    ? fetch(provider, init)
    : Promise.reject(new Error(`no call to ${url}`));
};

const openclaw = await import(pathToFileURL(module));
process.once("disconnect", () => process.exit());
process.once("message", async () => {
  try {
    const store = openclaw.ensureAuthProfileStore(agentDir);
    const resolved = await openclaw.resolveApiKeyForProfile({ store, profileId, agentDir });
    process.send({ apiKey: resolved?.apiKey ?? null });
  } catch (error) {
    process.send({ error: String(error?.message ?? error).slice(0, 200) });
  }
});
process.send({ ready: true });
