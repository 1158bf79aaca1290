/**
 * One storm: a server, a login, stores and agents, and everything cleared away again.
 */
import { rmSync } from "node:fs";
import { launchFleet } from "./fleet.mjs";
import { startProvider } from "./provider.mjs";
import { drawUp } from "./report.mjs";
import { createStores } from "./stores.mjs";
import { digest, now } from "./witness.mjs";

const PROVIDER = "loopback";
const PROFILE_ID = "loopback:owner@example.test";

/**
 * @typedef {object} Progress
 * @property {string} phase
 * @property {number} ready processes at the barrier
 * @property {number} processes
 * @property {number} settled agents that have their answer
 * @property {number} agents
 * @property {number} calls refreshes the server has counted
 */

/**
 * What the stores hold, and whether the server still honours it.
 *
 * @param {Awaited<ReturnType<typeof createStores>>} stores
 * @param {import("./provider.mjs").Provider} provider
 */
async function inspectStores(stores, provider) {
  const { main, faults } = await stores.inspect();
  return {
    faults,
    accessDigest: digest(main.access),
    accessValid: await provider.isAccessTokenValid(main.access),
    refreshUnused: provider.isRefreshTokenUnused(main.refresh),
  };
}

/**
 * Runs one storm. Whatever happens, it leaves no process and no file behind.
 *
 * @param {object} options
 * @param {number} options.agents
 * @param {boolean} options.inProcess all agents in one process, instead of one each
 * @param {number} options.latencyMs how long the server takes to answer a refresh
 * @param {boolean} options.lock whether the agents use the package
 * @param {AbortSignal} [options.signal]
 * @param {(progress: Progress) => void} [options.onProgress]
 */
export async function runStorm({ agents, inProcess, latencyMs, lock, signal, onProgress }) {
  let phase = "starting the server";
  /** @type {import("./provider.mjs").Provider | undefined} */
  let provider;
  /** @type {Awaited<ReturnType<typeof createStores>> | undefined} */
  let stores;
  /** @type {ReturnType<typeof launchFleet> | undefined} */
  let fleet;

  const progress = () => {
    if (!onProgress) return;
    const { ready = 0, processes = 0, settled = 0 } = fleet?.progress() ?? {};
    const calls = provider?.stats().refreshCalls ?? 0;
    onProgress({ phase, ready, processes, settled, agents, calls });
  };
  const enter = (/** @type {string} */ next) => {
    signal?.throwIfAborted();
    phase = next;
    progress();
  };
  const lastResort = () => {
    fleet?.killNow();
    if (stores) rmSync(stores.stateDir, { recursive: true, force: true });
  };
  process.once("exit", lastResort);

  try {
    enter("starting the server");
    provider = await startProvider({ latencyMs, onRefreshCall: progress });
    enter("logging in");
    const grant = await provider.obtainGrant();
    enter("writing the stores");
    stores = await createStores({ agents, provider: PROVIDER, profileId: PROFILE_ID, grant });
    enter("starting the agents");
    const { issuer, clientId } = provider;
    const { stateDir, mainAgentDir } = stores;
    fleet = launchFleet({
      crews: inProcess ? [stores.agents] : stores.agents.map((agent) => [agent]),
      setup: {
        server: { issuer, clientId },
        lock,
        provider: PROVIDER,
        profileId: PROFILE_ID,
        stateDir,
        mainAgentDir,
      },
      signal,
      onChange: progress,
    });
    await fleet.ready();
    enter("storm");
    provider.resetStats();
    const start = now();
    fleet.go();
    const records = await fleet.settled();
    enter("looking at what is left");
    const crashes = await fleet.dismiss();

    return drawUp({
      options: { agents, inProcess, latencyMs, lock },
      start,
      records,
      crashes,
      stats: provider.stats(),
      grantAlive: provider.isGrantAlive(grant.refresh),
      stores: lock ? await inspectStores(stores, provider) : null,
    });
  } finally {
    await fleet?.stop();
    await stores?.remove();
    await provider?.close();
    process.off("exit", lastResort);
  }
}
