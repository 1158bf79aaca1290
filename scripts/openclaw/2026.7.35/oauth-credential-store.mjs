/**
 * src/agents/auth-profiles/oauth-credential-store.ts
 *
 * One OAuth profile of one auth store, for `oauth-refresh-lock`: read as it is now, and replaced only if it is still that.
 */
import { hash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { resolveAuthStorePath } from "./path-resolve.js";
import { loadPersistedAuthProfileStore } from "./persisted.js";
import { updateAuthProfileStoreWithLock } from "./store.js";

/** Without an agent's directory: the main agent's store. */
export function createOAuthCredentialStore(agentDir, profileId) {
  const owner = agentDir ? "agent" : "main";
  return {
    name: `${owner} ${hash("sha256", resolveAuthStorePath(agentDir), "hex").slice(0, 32)}`,
    // The database is in WAL mode with synchronous=NORMAL: a power cut may take the last commits.
    durable: false,
    load: async () => {
      const credential = loadPersistedAuthProfileStore(agentDir)?.profiles[profileId];
      if (!credential || (credential.type === "oauth" && credential.refresh?.trim())) return credential ?? null;
      return { type: credential.type === "oauth" ? "oauth without refresh token" : credential.type };
    },
    compareAndSwap: async (_profileId, expected, next) => {
      let swapped = false;
      const updated = await updateAuthProfileStoreWithLock({
        agentDir,
        updater: (store) => {
          const stored = store.profiles[profileId] ?? null;
          swapped = isDeepStrictEqual(JSON.parse(JSON.stringify(stored)), expected);
          if (swapped) store.profiles[profileId] = next;
          return swapped;
        },
      });
      // This release says so of every failure.
      if (updated === null) throw Object.assign(new Error("The auth store is busy"), { busy: true });
      return swapped;
    },
  };
}
