/**
 * A process of agents: makes ready, waits at the barrier, and asks for a usable credential when told to go.
 *
 * Talks to its parent over IPC alone and ends with it. No token leaves it, only digests.
 */
import { subscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { createRefresh, discover } from "./refresh.mjs";
import { readCredential } from "./stores.mjs";
import { digest, now } from "./witness.mjs";

/**
 * @typedef {object} Setup
 * @property {{ issuer: string, clientId: string }} server
 * @property {boolean} lock whether to use the package
 * @property {string} provider
 * @property {string} profileId
 * @property {string} stateDir
 * @property {string} mainAgentDir
 * @property {{ name: string, agentDir: string }[]} agents the agents in this process
 *
 * @typedef {{ type: "ready" }
 *   | { type: "unready", code: string, message: string }
 *   | { type: "event", agent: string, event: string, at: number }
 *   | ({ type: "settled", agent: string } & Settled)} Report
 *
 * @typedef {object} Settled
 * @property {"fresh" | "adopted" | "refreshed" | "none" | "failed"} outcome
 * @property {number} start milliseconds since the epoch, with fractions
 * @property {number} end
 * @property {string} [accessDigest]
 * @property {string} [mirror] with `refreshed`: why the main store took the credential or did not
 * @property {string} [code] with `failed`
 */

/** @param {Report} report */
const send = (report) => process.send?.(report);

/** OAuth's own error code, where there is one. */
const codeOf = (/** @type {any} */ error) => String(error?.error ?? error?.code ?? error?.name ?? "unknown");

/** @typedef {ReturnType<typeof createRefresh>} Refresh */

/**
 * Asks without a lock: everyone calls the server.
 *
 * @param {Setup} setup
 * @param {Refresh} refresh
 */
function withoutLock({ profileId }, refresh) {
  return async (/** @type {{ name: string, agentDir: string }} */ { name, agentDir }) => {
    const credential = await readCredential(agentDir, profileId);
    send({ type: "event", agent: name, event: "dispatched", at: now() });
    return { outcome: "refreshed", credential: { ...credential, ...(await refresh(credential)) } };
  };
}

/**
 * Asks through the package.
 *
 * @param {Setup} setup
 * @param {Refresh} refresh
 */
async function withLock({ provider, profileId, stateDir, mainAgentDir, agents }, refresh) {
  const { withOAuthRefreshLock } = await import("../index.mjs");
  const nameOf = new Map(agents.map(({ name, agentDir }) => [agentDir, name]));
  subscribe("oauth-refresh-lock", (message) => {
    const { type, at, agentDir } = /** @type {import("../index.js").OAuthRefreshLockEvent} */ (message);
    const agent = nameOf.get(agentDir ?? "");
    if (agent) send({ type: "event", agent, event: type, at });
  });
  return (/** @type {{ agentDir: string }} */ { agentDir }) =>
    withOAuthRefreshLock(provider, profileId, refresh, { stateDir, agentDir, mainAgentDir });
}

/**
 * @param {(agent: { name: string, agentDir: string }) => Promise<any>} ask
 * @param {{ name: string, agentDir: string }} agent
 */
async function run(ask, agent) {
  const start = now();
  try {
    const result = await ask(agent);
    const end = now();
    send({
      type: "settled",
      agent: agent.name,
      outcome: result?.outcome ?? "none",
      start,
      end,
      ...(result && { accessDigest: digest(result.credential.access) }),
      ...(result?.mirror && { mirror: result.mirror.reason }),
    });
  } catch (error) {
    const end = now();
    send({
      type: "settled",
      agent: agent.name,
      outcome: "failed",
      start,
      end,
      code: codeOf(error),
    });
  }
}

process.once("disconnect", () => process.exit());
const [setup] = /** @type {[Setup]} */ (await once(process, "message"));
try {
  const refresh = createRefresh(await discover(setup.server));
  const ask = setup.lock ? await withLock(setup, refresh) : withoutLock(setup, refresh);
  const go = once(process, "message");
  send({ type: "ready" });
  await go;
  for (const agent of setup.agents) void run(ask, agent);
} catch (error) {
  send({
    type: "unready",
    code: codeOf(error),
    message: error instanceof Error ? error.message : String(error),
  });
}
