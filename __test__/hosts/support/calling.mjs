/**
 * The calls of an agent on one of several hosts. A host is a state directory.
 *
 * @typedef {object} Ask
 * @property {string} stateDir
 * @property {{ postgres?: string, etcd?: string | string[] }} engine where the coordinator is
 * @property {object} [adapter] the adapter's options
 * @property {string} provider the token endpoint's address
 * @property {string} [profileId]
 * @property {string} [agent] whose store; `main` by default
 * @property {string} [sqlite] the database in which the stores are, instead of files
 * @property {object} [save] store this login, and call nobody
 * @property {object} [seed] the same, past the product, into the database
 * @property {boolean} [remove] log out
 * @property {boolean} [atEndpoint] without a refresh function
 * @property {object} [options] more options
 * @property {string[]} [holdAt] stand still when one of these is reached for the first time: `claiming`, `claimed`, `called`,
 *   `answered`, `telling`, `told`
 * @property {{ at: string, ms: number }} [block] keep the event loop busy there
 */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import pg from "pg";

const root = process.env.TEST_PACKAGE ?? join(import.meta.dirname, "..", "..", "..", "index.js");
const require = createRequire(root);
const { removeOAuthLogin, saveOAuthLogin, withOAuthRefreshLock } = require(dirname(root));
const { postgresCoordinator } = require("./lib/coordinators/postgres.js");
const { etcdCoordinator } = require("./lib/coordinators/etcd.js");

/** Where a call stands still, or keeps everything else from going on. */
class Holds {
  #at;
  #block;
  #tell;
  #goOn = new Map();

  constructor({ holdAt = [], block }, tell) {
    this.#tell = tell;
    this.#at = new Set(holdAt);
    this.#block = block;
  }

  async reach(point) {
    if (point === undefined) return;
    if (this.#block?.at === point) {
      this.#tell("blocked", { at: point });
      for (const end = performance.now() + this.#block.ms; performance.now() < end; );
      this.#block = undefined;
    }
    if (!this.#at.delete(point)) return;
    await new Promise((resolve) => {
      this.#goOn.set(point, resolve);
      this.#tell("held", { at: point });
    });
  }

  goOn(point) {
    this.#goOn.get(point)();
  }
}

/** One for each engine, for as long as this thread lives. */
const coordinators = new Map();
/** Those of the call that is under way. */
let current;

function coordinatorOf({ engine, adapter }) {
  if (!engine) return undefined;
  const known = JSON.stringify([engine, adapter]);
  if (!coordinators.has(known)) coordinators.set(known, heldCoordinator(createCoordinator(engine, adapter)));
  return coordinators.get(known);
}

function createCoordinator({ postgres, etcd }, adapter) {
  if (etcd) return etcdCoordinator(etcd, adapter);
  const pool = new pg.Pool({ connectionString: postgres, max: 3, allowExitOnIdle: true });
  pool.on("error", () => {});
  return postgresCoordinator(pool, adapter);
}

/** The same, which stands still before and after a row is claimed, and before and after it is told of the answer. */
function heldCoordinator(plain) {
  const tellFailure = (error) => {
    current.tell("event", { type: "engine failed" });
    throw error;
  };
  return {
    name: plain.name,
    load: (key) => plain.load(key).catch(tellFailure),
    async compareAndSwap(key, expected, value) {
      const { state, answer } = JSON.parse(value);
      const [before, after] = answer ? ["telling", "told"] : state === "sent" ? ["claiming", "claimed"] : [];
      const { holds } = current;
      await holds.reach(before);
      const version = await plain.compareAndSwap(key, expected, value).catch(tellFailure);
      await holds.reach(after);
      return version;
    },
    changed: (key, version, signal) => plain.changed(key, version, signal),
  };
}

const asking =
  (provider, holds) =>
  async (credential, { signal }) => {
    await holds.reach("called");
    const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: credential.refresh });
    const headers = { "x-agent": String(process.pid) };
    const response = await fetch(provider, { method: "POST", headers, body, signal });
    const answer = await response.json();
    await holds.reach("answered");
    if (!response.ok) throw Object.assign(new Error(answer.error), { error: answer.error, status: response.status });
    const { access_token: access, refresh_token: refresh, expires_in: seconds } = answer;
    return { access, refresh, expires: Date.now() + seconds * 1000 };
  };

/**
 * Makes a call.
 *
 * @param {Ask} ask
 * @param {(told: string, more?: object) => void} tell
 * @returns its holds, and a promise of what becomes of it
 */
export function makeCall(ask, tell) {
  const holds = new Holds(ask, tell);
  current = { holds, tell };
  return { holds, became: call(ask, holds) };
}

/** Where an agent's credentials are. */
async function storesOf({ stateDir, agent = "main", sqlite }) {
  const dirOf = (name) => join(stateDir, "agents", name, "agent");
  if (!sqlite) return { stateDir, agentDir: dirOf(agent), mainAgentDir: dirOf("main") };
  const { sqliteStore } = await import("../../../examples/sqlite-store.mjs");
  return { stateDir, store: sqliteStore(sqlite, agent), mainStore: sqliteStore(sqlite, "main") };
}

async function call(ask, holds) {
  const { provider, profileId = "acme:main", atEndpoint, options, save, seed, remove } = ask;
  const headers = { "x-agent": String(process.pid) };
  const refresh = atEndpoint ? { tokenEndpoint: provider, clientId: "agents", headers } : asking(provider, holds);
  try {
    const { mainStore, ...stores } = await storesOf(ask);
    if (seed) return { outcome: stores.store.compareAndSwap(profileId, null, seed) ? "seeded" : "not seeded" };
    if (save)
      return { ...(await saveOAuthLogin("acme", profileId, save, { ...stores, replace: true })), outcome: "saved" };
    if (remove) return { ...(await removeOAuthLogin("acme", profileId, stores)), outcome: "removed" };
    const all = { ...stores, ...(mainStore && { mainStore }), coordinator: coordinatorOf(ask), ...options };
    const result = await withOAuthRefreshLock("acme", profileId, refresh, all);
    // Logged out.
    if (result === null) return { outcome: "none" };
    const { outcome, credential, adoptedFrom, notShared, refreshError } = result;
    const { code, message } = refreshError ?? {};
    return { outcome, ...pick(credential), adoptedFrom, notShared, refreshError: code, message };
  } catch (error) {
    return { error: error.code ?? error.error ?? String(error), message: error.message, oauth: error.error };
  }
}

const pick = ({ access, refresh, expires }) => ({ access, refresh, expires });
