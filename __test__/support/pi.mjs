/** Pi from npm: its store and its way to a token. */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { unpackedDir } from "../../scripts/fetch.mjs";

const VERSION = "1.6.0";
const load = (name, file) =>
  import(pathToFileURL(join(unpackedDir(`@earendil-works/${name}`, VERSION), "dist", file)).href);

export const { InMemoryCredentialStore } = await load("pi-ai", "auth/credential-store.js");
const { resolveProviderAuth } = await load("pi-ai", "auth/resolve.js");
/** The store of pi's own command line, `auth.json`. Its modules need proper-lockfile and cross-spawn of all that pi needs. */
export const { AuthStorage } = await load("pi-coding-agent", "core/auth-storage.js");

export const piLogin = ({ provider: _, ...login }) => login;

/** A token of pi's own, which pi refreshes under its lock. @returns {() => Promise<string>} */
export function tokenOfPi(credentials, provider) {
  const oauth = {
    refresh: async (current, signal) => ({ ...current, ...(await provider(current, { signal })) }),
    toAuth: async ({ access }) => ({ apiKey: access }),
  };
  return async () => (await resolveProviderAuth({ id: "acme", auth: { oauth } }, credentials, {})).auth.apiKey;
}
