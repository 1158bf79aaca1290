/** What a state directory holds: the agents' stores, and the keys that they share. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { inspectOAuthRefreshLocks, resolveOAuthRefreshLockPath } from "../index.mjs";

export const STORE_FILE = "auth-profiles.json";
/** OpenClaw's: a token that expires within this many milliseconds counts as expired. */
export const MARGIN_MS = 300_000;

/** The state directory that the library uses, unless another one is given. */
export function stateDirectory(given) {
  if (given) return resolve(given);
  // <state>/locks/oauth-refresh/<name>
  return dirname(dirname(dirname(resolveOAuthRefreshLockPath("any", "any"))));
}

/** The directories of all agents: those under the state directory, and the main one if the environment puts it elsewhere. */
export function agentDirectories(stateDir) {
  const agents = join(stateDir, "agents");
  const directories = list(agents).map((name) => join(agents, name, "agent"));
  const { OPENCLAW_AGENT_DIR, PI_CODING_AGENT_DIR } = process.env;
  const elsewhere = OPENCLAW_AGENT_DIR?.trim() || PI_CODING_AGENT_DIR?.trim();
  if (elsewhere) directories.push(resolve(elsewhere));
  return [...new Set(directories)];
}

function list(directory) {
  try {
    return readdirSync(directory).sort();
  } catch {
    return [];
  }
}

/**
 * The logins that a store holds, without their tokens.
 *
 * @returns {{ profileId: string, provider: string, expires: number | null }[]}
 * @throws if it can't be read; the message quotes none of it
 */
export function loginsOf(directory) {
  const path = join(directory, STORE_FILE);
  let text;
  try {
    // A pipe would be waited for.
    text = statSync(path).isFile() && readFileSync(path, "utf8");
  } catch (error) {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return [];
    throw new Error(`it can't be read (${error.code})`);
  }
  if (text === false) throw new Error("it is no file");
  let store;
  try {
    store = JSON.parse(text);
  } catch {
    throw new Error("it is no JSON");
  }
  const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  const { profiles } = isObject(store) ? store : { profiles: store };
  if (profiles !== undefined && !isObject(profiles)) throw new Error("it holds no profiles");
  return Object.entries(profiles ?? {}).flatMap(([profileId, profile]) => {
    const { type, mode, provider, expires } = profile ?? {};
    if ((type ?? mode) !== "oauth" || typeof provider !== "string") return [];
    return [{ profileId, provider, expires: Number.isFinite(expires) ? expires : null }];
  });
}

/**
 * @typedef {object} Key
 * @property {string | null} provider null: no store names it
 * @property {string | null} profileId
 * @property {string} lockPath
 * @property {number} agents whose stores hold the login
 * @property {number | null} expires the latest of theirs, in milliseconds since the epoch
 * @property {number | null} nextRefresh
 * @property {import("../index.mjs").OAuthRefreshLockReport | null} lock
 */

/** Every key: those that stores name, and those that only have a lock. @returns {Promise<Key[]>} */
export async function keysOf(stateDir) {
  /** @type {Map<string, Key>} */
  const keys = new Map();
  for (const directory of agentDirectories(stateDir)) {
    for (const { provider, profileId, expires } of readable(directory)) {
      const lockPath = resolveOAuthRefreshLockPath(provider, profileId, { stateDir });
      const key = keys.get(lockPath) ?? {
        provider,
        profileId,
        lockPath,
        agents: 0,
        expires: null,
        nextRefresh: null,
        lock: null,
      };
      key.agents += 1;
      if (expires !== null) key.expires = Math.max(key.expires ?? expires, expires);
      key.nextRefresh = key.expires === null ? null : key.expires - MARGIN_MS;
      keys.set(lockPath, key);
    }
  }
  for (const lock of await inspectOAuthRefreshLocks({ stateDir })) {
    const unknown = {
      provider: null,
      profileId: null,
      lockPath: lock.lockPath,
      agents: 0,
      expires: null,
      nextRefresh: null,
    };
    keys.set(lock.lockPath, { ...(keys.get(lock.lockPath) ?? unknown), lock });
  }
  return [...keys.values()];
}

/** What is wrong with a store is the doctor's business. */
function readable(directory) {
  try {
    return loginsOf(directory);
  } catch {
    return [];
  }
}
