import { join } from "node:path";
import { plainCall, storm } from "../fleet.mjs";
import { flowsOf } from "../flows.mjs";
import { withProcesses } from "../processes.mjs";
import { withProvider } from "../provider.mjs";
import { createState } from "../stores.mjs";
import { Table } from "../table.mjs";

/** The row of the provider's own answer. */
export const ANSWER = "the provider's answer";
const CROWDS = [
  { agents: 20, processes: 1 },
  { agents: 200, processes: 1 },
  { agents: 20, processes: 20 },
  { agents: 50, processes: 50 },
  // One login of many has expired.
  { agents: 20, processes: 20, profiles: 200, latencies: [200] },
];
const LATENCIES_MS = [0, 50, 200];

export const situation = ({ agents, processes, profiles }, latencyMs) =>
  `${processes === 1 ? `${agents} agents in one process` : `${processes} processes`}, ${latencyMs} ms provider` +
  `${profiles ? `, stores of ${profiles} profiles` : ""}`;

export const stormCase = {
  name: "storm",
  title: "The storm: one expired login, many agents",
  about:
    "From the first agent's call to the last agent's fresh token. Every agent has a store of its own, and was served from it " +
    "once, before the login expired. Calls: what the provider counted. Wrong: agents that got an error, or another token than the provider's newest.",
  isBrief: (what) => / 200 ms provider$/.test(what),
  columns: [
    { key: "last", title: "last agent fresh", unit: "ms" },
    { key: "times", title: "provider's answers", unit: "" },
    { key: "calls", title: "calls", unit: "" },
    { key: "wrong", title: "wrong", unit: "" },
  ],
  async run({ quick, rounds, directory, entrants }, table) {
    const crowds = quick ? CROWDS.slice(0, 1) : CROWDS;
    const most = Math.max(...crowds.map(({ processes }) => processes));
    await withProvider((provider) =>
      withProcesses(most, {}, async (processes) => {
        for (const crowd of crowds) {
          const state = createState(
            join(directory, `${crowd.agents}-${crowd.processes}-${crowd.profiles ?? 1}`),
            crowd.agents,
          );
          const team = processes.slice(0, crowd.processes);
          for (const latencyMs of crowd.latencies ?? LATENCIES_MS) {
            const what = situation(crowd, latencyMs);
            const rules = { count: crowd.profiles ?? 1, latencyMs };
            // The first round opens connections and makes directories.
            for (let round = -1; round < rounds; round += 1) {
              const two = await provider.logIn({ latencyMs, count: 2 });
              const refreshTokens = two.map(({ refresh }) => refresh);
              const answer = await plainCall(team[0], { url: provider.url, refreshTokens });
              const into = round < 0 ? new Table() : table;
              into.add(what, ANSWER, { last: answer, times: 1, calls: 1 });
              for (const flow of flowsOf(entrants)) {
                await into.measure(what, flow, async () => {
                  const grants = await provider.logIn(rules);
                  const args = {
                    processes: team,
                    flow: flow.name,
                    url: provider.url,
                    state,
                    grants,
                    provider,
                    wanted: 1,
                  };
                  const { last, calls, failed, wrong } = await storm(args);
                  return { last, times: last / answer, calls, wrong: failed + wrong };
                });
              }
            }
          }
        }
      }),
    );
  },
};
