/**
 * A temporary state directory as OpenClaw lays it out: one main agent and any number of others, all with the same login.
 */
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";

export const STORE_FILE = "auth-profiles.json";
const EXPIRED_MS = 60_000;

/**
 * A profile that no refresh has any business with. Its number is one that a careless JSON reader would round.
 *
 * @param {string} owner
 */
const bystander = (owner) =>
  `{
      "type": "api_key",
      "provider": "bystander",
      "key": "not-a-secret-of-${owner}",
      "metadata": {
        "note": "kept",
        "quota": 9007199254740993
      }
    }`;

/** Text without its layout; no string in a bystander has white space. @param {string} text */
const dense = (text) => text.replace(/\s+/g, "");

/**
 * @param {string} owner
 * @param {string} profileId
 * @param {object} credential
 */
function storeText(owner, profileId, credential) {
  const indented = JSON.stringify(credential, null, 2).replaceAll("\n", "\n    ");
  return `{
  "version": 1,
  "profiles": {
    ${JSON.stringify(profileId)}: ${indented},
    "bystander:${owner}": ${bystander(owner)}
  }
}
`;
}

/**
 * Writes the stores, all with the same credential, expired a minute ago.
 *
 * @param {object} options
 * @param {number} options.agents how many agents besides the main one
 * @param {string} options.provider
 * @param {string} options.profileId
 * @param {{ access: string, refresh: string }} options.grant
 */
export async function createStores({ agents, provider, profileId, grant }) {
  const stateDir = await mkdtemp(join(tmpdir(), "oauth-refresh-lock-storm-"));
  const width = Math.max(2, String(agents).length);
  const names = Array.from({ length: agents }, (_, index) => `agent-${String(index + 1).padStart(width, "0")}`);
  const agentDir = (/** @type {string} */ name) => join(stateDir, "agents", name, "agent");
  const credential = {
    type: "oauth",
    provider,
    access: grant.access,
    refresh: grant.refresh,
    expires: Date.now() - EXPIRED_MS,
    email: "owner@example.test",
    displayName: "Owner",
  };

  try {
    for (const name of ["main", ...names]) {
      await mkdir(agentDir(name), { recursive: true, mode: 0o700 });
      const text = storeText(name, profileId, credential);
      await writeFile(join(agentDir(name), STORE_FILE), text, { mode: 0o600 });
    }
  } catch (error) {
    await rm(stateDir, { recursive: true, force: true });
    throw error;
  }

  /**
   * What is wrong with a store, if anything.
   *
   * @param {string} name
   * @param {Record<string, unknown>} refreshed the credential it should hold
   */
  async function fault(name, refreshed) {
    const path = join(agentDir(name), STORE_FILE);
    const text = await readFile(path, "utf8");
    let store;
    try {
      store = JSON.parse(text);
    } catch {
      return "is no JSON";
    }
    if (!isDeepStrictEqual(store.profiles?.[profileId], refreshed)) {
      return "does not hold the new credential";
    }
    const [ids, expected] = [Object.keys(store.profiles), [profileId, `bystander:${name}`]];
    if (store.version !== 1 || !isDeepStrictEqual(ids, expected)) return "has lost its shape";
    if (!dense(text).includes(dense(`"bystander:${name}":${bystander(name)}`))) {
      return "has a changed bystander";
    }
    if (process.platform !== "win32" && ((await stat(path)).mode & 0o777) !== 0o600) {
      return "is not private";
    }
    return undefined;
  }

  return {
    stateDir,
    provider,
    profileId,
    mainAgentDir: agentDir("main"),
    /** The agents besides the main one. */
    agents: names.map((name) => ({ name, agentDir: agentDir(name) })),

    /**
     * Checks every store: the main store's tokens over the old credential, and everything else untouched.
     *
     * @returns {Promise<{ main: { access: string, refresh: string }, faults: string[] }>} the main store's tokens, and
     *   one line for each store at fault
     */
    async inspect() {
      // A parse error quotes the text, tokens and all; the main store's turn in the loop reports it without.
      const main = await readCredential(agentDir("main"), profileId).catch(() => undefined);
      const { access = "", refresh = "", expires } = main ?? {};
      const faults = [];
      for (const name of ["main", ...names]) {
        const found = await fault(name, { ...credential, access, refresh, expires }).catch(
          (error) => `is unreadable (${error.code})`,
        );
        if (found) faults.push(`the store of ${name} ${found}`);
      }
      return { main: { access, refresh }, faults };
    },

    remove: () => rm(stateDir, { recursive: true, force: true }),
  };
}

/**
 * Reads an agent's credential the way a program without a lock does.
 *
 * @param {string} agentDir
 * @param {string} profileId
 * @returns {Promise<any>}
 */
export async function readCredential(agentDir, profileId) {
  return JSON.parse(await readFile(join(agentDir, STORE_FILE), "utf8")).profiles[profileId];
}
