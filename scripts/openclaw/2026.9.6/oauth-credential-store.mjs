/**
 * src/agents/auth-profiles/oauth-credential-store.ts
 *
 * One OAuth profile of one auth store, for `oauth-refresh-lock`: read as it is now, and replaced only if it is still that.
 */
import { hash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { isOAuthRefreshFence, isPendingOAuthRefreshFence } from "./credential-state.js";
import { resolveSharedAuthStorePath } from "./path-resolve.js";
import { isUserModelAuthProfileId } from "./profile-usage-stats.js";
import { resolveAuthProfileDatabasePath } from "./sqlite.js";
import { loadAuthProfileStoreWithoutExternalProfiles, updateAuthProfileStoreWithLock } from "./store-runtime.js";

/** Without an agent's directory: the shared store, or a person's own for a personal profile. */
export function createOAuthCredentialStore(agentDir, profileId) {
  const databasePath = agentDir ? resolveAuthProfileDatabasePath(agentDir) : resolveSharedAuthStorePath();
  const owner = isUserModelAuthProfileId(profileId) ? "personal" : agentDir ? "agent" : "shared";
  return {
    name: `${owner} ${hash("sha256", databasePath, "hex").slice(0, 32)}`,
    // The database is in WAL mode with synchronous=NORMAL: a power cut may take the last commits.
    durable: false,
    load: async () => {
      const options = { allowKeychainPrompt: true, profileId, inheritedAuthDir: agentDir };
      const store = await told(() => loadAuthProfileStoreWithoutExternalProfiles(agentDir, options));
      const credential = store.profiles[profileId];
      // A process with the switch off, or without this change, is asking the provider.
      if (isPendingOAuthRefreshFence(credential)) return { claimed: true };
      if (!credential || canBeRefreshed(credential)) return credential ?? null;
      return { type: credential.type === "oauth" ? "oauth without refresh token" : credential.type };
    },
    compareAndSwap: async (_profileId, expected, next) => {
      let swapped = false;
      const updater = (store) => {
        const stored = store.profiles[profileId] ?? null;
        swapped = isDeepStrictEqual(JSON.parse(JSON.stringify(stored)), expected);
        if (swapped) store.profiles[profileId] = next;
        return swapped;
      };
      const how = { agentDir, profileId, sharedStoreWrite: !agentDir, updater };
      const updated = await told(() => updateAuthProfileStoreWithLock(how));
      if (updated === null) throw Object.assign(new Error("The auth store is busy"), { busy: true });
      return swapped;
    },
  };
}

function canBeRefreshed(credential) {
  return credential.type === "oauth" && !isOAuthRefreshFence(credential) && Boolean(credential.refresh?.trim());
}

/** Tells of a store that another process has for a moment, so that it is asked again. */
async function told(work) {
  try {
    return await work();
  } catch (error) {
    throw error?.name === "StateDatabaseCoordinatorContentionError" ? Object.assign(error, { busy: true }) : error;
  }
}
