/**
 * OpenClaw's refresh of April 2026, told again: its order of steps, and its polling, on proper-lockfile. For comparison only;
 * its hazards are in it.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { PEERS } from "./contenders.mjs";
import { STORE_FILE } from "./stores.mjs";

const MARGIN_MS = 300_000;
const POLLING = { factor: 2, minTimeout: 100, maxTimeout: 10_000, randomize: true };
const REFRESH_LOCK = { retries: { retries: 20, ...POLLING }, stale: 180_000 };
const STORE_LOCK = { retries: { retries: 10, ...POLLING }, stale: 30_000 };

const isUsable = (credential) => Boolean(credential?.access) && credential.expires - Date.now() > MARGIN_MS;

const load = async (agentDir) => JSON.parse(await readFile(join(agentDir, STORE_FILE), "utf8"));

async function save(agentDir, store) {
  const path = join(agentDir, STORE_FILE);
  await writeFile(`${path}.${process.pid}.tmp`, `${JSON.stringify(store, null, 2)}\n`, { mode: 0o600, flush: true });
  await rename(`${path}.${process.pid}.tmp`, path);
}

/**
 * @typedef {object} Request
 * @property {string} provider
 * @property {string} profileId
 * @property {string} stateDir
 * @property {string} agentDir
 * @property {string} mainAgentDir
 * @property {(credential: any) => Promise<object>} refresh
 */

export function createAprilFlow() {
  const { lock } = createRequire(new URL("package.json", pathToFileURL(PEERS)))("proper-lockfile");
  /** The last caller of each key in this process. */
  const queues = new Map();

  async function locked(path, options, work) {
    await mkdir(dirname(path), { recursive: true });
    const release = await lock(path, { realpath: false, ...options });
    try {
      return await work();
    } finally {
      await release();
    }
  }

  const withStore = (agentDir, work) => locked(join(agentDir, STORE_FILE), STORE_LOCK, work);

  async function put(agentDir, profileId, credential) {
    const store = await load(agentDir);
    store.profiles[profileId] = credential;
    await save(agentDir, store);
  }

  /** Takes main's credential over, if that is usable. */
  async function adopt({ profileId, agentDir, mainAgentDir }) {
    const { [profileId]: mains } = (await load(mainAgentDir)).profiles;
    if (!isUsable(mains)) return undefined;
    await put(agentDir, profileId, mains);
    return mains;
  }

  /** Both locks are held. */
  async function decide(request) {
    const { profileId, agentDir, mainAgentDir } = request;
    const held = (await load(agentDir)).profiles[profileId];
    if (isUsable(held)) return held;
    const adopted = await adopt(request);
    if (adopted) return adopted;
    const credential = { ...held, ...(await request.refresh(held)), type: "oauth" };
    await put(agentDir, profileId, credential);
    await withStore(mainAgentDir, () => put(mainAgentDir, profileId, credential));
    return credential;
  }

  return async (request) => {
    const { provider, profileId, stateDir, agentDir } = request;
    const held = (await load(agentDir)).profiles[profileId];
    if (isUsable(held)) return held;
    const mains = (await load(request.mainAgentDir)).profiles[profileId];
    if (isUsable(mains)) return withStore(agentDir, () => adopt(request));

    const name = createHash("sha256").update(`${provider}\0${profileId}`).digest("hex");
    const base = join(stateDir, "locks", "oauth-refresh", `sha256-${name}`);
    const before = queues.get(base) ?? Promise.resolve();
    const turn = before.then(() => locked(base, REFRESH_LOCK, () => withStore(agentDir, () => decide(request))));
    queues.set(
      base,
      turn.catch(() => {}),
    );
    return turn;
  };
}
