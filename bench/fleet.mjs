/** Agents that find expired logins at once, in any number of processes, and what became of it. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { now, until } from "./clock.mjs";
import { ask, flowOf } from "./flows.mjs";
import { EXPIRED_MS, HOUR_MS, profileId, writeStores } from "./stores.mjs";

/** Until all processes are awake. */
const START_MS = 100;

/**
 * Lets all agents go at once. Each has been served once before, as agents have that run for hours: what is loaded at the
 * first call is loaded.
 *
 * @param {import("./processes.mjs").Process[]} storm.processes the agents are dealt out to them
 * @param {string} storm.url of the provider
 * @param {{ access: string, refresh: string }[]} storm.grants what each store holds
 * @param {number} [storm.wanted] so many of them have expired, and each agent wants these; all if not given
 */
export async function storm({ processes, flow, url, state, grants, provider, wanted = grants.length }) {
  const { stateDir, mainAgentDir, agentDirs } = state;
  const share = (at) => agentDirs.filter((_, index) => index % processes.length === at);
  const args = { flow, url, stateDir, mainAgentDir, profiles: wanted };
  writeStores(state, grants, HOUR_MS);
  await Promise.all(
    processes.map((one, at) => one.call(import.meta.url, "ready", { ...args, agentDirs: share(at).slice(0, 1) })),
  );
  writeStores(state, grants, EXPIRED_MS, wanted);
  const start = now() + START_MS;
  const calls = processes.map((one, at) => one.call(import.meta.url, "go", { ...args, start, agentDirs: share(at) }));
  const reports = await Promise.all(calls);
  const agents = reports.flatMap(({ agents }) => agents);
  const { calls: made, latest } = await provider.stats();
  const isWrong = ({ profile, access }) => access !== latest[profile];
  return {
    last: Math.max(...agents.map(({ ended }) => ended)) - Math.min(...agents.map(({ begun }) => begun)),
    calls: made,
    failed: agents.filter(({ code }) => code !== undefined).length,
    wrong: agents.filter((agent) => agent.code === undefined && isWrong(agent)).length,
    delayP99: Math.max(...reports.map(({ delayP99 }) => delayP99)),
    delayMax: Math.max(...reports.map(({ delayMax }) => delayMax)),
  };
}

/** How long the provider takes to answer one plain call, in milliseconds. */
export async function plainCall(process, args) {
  return process.call(import.meta.url, "plain", args);
}

const flows = new Map();

export const work = {
  /** @param {{ url: string, refreshTokens: string[] }} args the first call opens the connection */
  async plain({ url, refreshTokens: [first, second] }) {
    await ask(url, first);
    const begun = now();
    await ask(url, second);
    return now() - begun;
  },

  async ready({ flow, url, stateDir, mainAgentDir, agentDirs }) {
    const name = `${flow} ${url}`;
    const run = flows.get(name) ?? (await flowOf(flow, url));
    flows.set(name, run);
    for (const agentDir of agentDirs) await run({ stateDir, mainAgentDir, agentDir, profileId: profileId(0) });
  },

  async go({ flow, url, stateDir, mainAgentDir, agentDirs, profiles, start }) {
    const run = flows.get(`${flow} ${url}`);
    const subjects = agentDirs.flatMap((agentDir) =>
      Array.from({ length: profiles }, (_, profile) => ({ agentDir, profile })),
    );
    await until(start);
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    const agents = await Promise.all(
      subjects.map(async ({ agentDir, profile }) => {
        const begun = now();
        try {
          const access = await run({ stateDir, mainAgentDir, agentDir, profileId: profileId(profile) });
          return { begun, ended: now(), profile, access };
        } catch (error) {
          return { begun, ended: now(), profile, code: error.code ?? "unknown" };
        }
      }),
    );
    delay.disable();
    return { agents, delayP99: delay.percentile(99) / 1e6, delayMax: delay.max / 1e6 };
  },
};
