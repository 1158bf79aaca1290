import { join } from "node:path";
import { storm } from "../fleet.mjs";
import { APRIL, flowsOf } from "../flows.mjs";
import { withProcesses } from "../processes.mjs";
import { withProvider } from "../provider.mjs";
import { createState } from "../stores.mjs";

const LATENCY_MS = 50;

export const situation = (profiles, agents) => `${profiles} profiles × ${agents} agents`;

export const profiles = {
  name: "profiles",
  title: "Many logins at once",
  about:
    "Every agent, in a process of its own, wants every profile of its store at once, and all have expired; the provider answers " +
    `after ${LATENCY_MS} ms. One call per profile is needed. April's flow is measured in one round, since it takes its time.`,
  columns: [
    { key: "last", title: "last agent has all", unit: "ms" },
    { key: "perLogin", title: "for each login", unit: "ms" },
    { key: "calls", title: "calls", unit: "" },
    { key: "wrong", title: "wrong", unit: "" },
  ],
  async run({ quick, rounds, directory, entrants }, table) {
    const agents = quick ? 2 : 10;
    await withProvider((provider) =>
      withProcesses(agents, {}, async (processes) => {
        const state = createState(join(directory, "state"), agents);
        for (const count of quick ? [10] : [10, 100]) {
          const what = situation(count, agents);
          for (let round = 0; round < rounds; round += 1) {
            for (const flow of flowsOf(entrants)) {
              if (flow.name === APRIL && round > 0) continue;
              await table.measure(what, flow, async () => {
                const grants = await provider.logIn({ count, latencyMs: LATENCY_MS });
                const args = { processes, flow: flow.name, url: provider.url, state, grants, provider };
                const { last, calls, failed, wrong } = await storm(args);
                return { last, perLogin: last / count, calls, wrong: failed + wrong };
              });
            }
          }
        }
      }),
    );
  },
};
