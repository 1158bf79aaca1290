import { join } from "node:path";
import { storm } from "../fleet.mjs";
import { OURS, OURS_NATIVE } from "../flows.mjs";
import { withProcesses } from "../processes.mjs";
import { withProvider } from "../provider.mjs";
import { createState } from "../stores.mjs";

const LATENCY_MS = 200;

export const crowd = {
  name: "crowd",
  title: "A thousand callers in one process",
  about:
    `How long the event loop stood still meanwhile, as \`monitorEventLoopDelay\` tells with a resolution of 1 ms; a loop that has ` +
    `nothing to do shows about 1 ms. The provider answers after ${LATENCY_MS} ms. With a store of their own, each agent has to ` +
    "take the new token over; with one store for all, it is there.",
  columns: [
    { key: "delayP99", title: "event-loop delay p99", unit: "ms" },
    { key: "delayMax", title: "longest delay", unit: "ms" },
    { key: "last", title: "last caller fresh", unit: "ms" },
    { key: "calls", title: "calls", unit: "" },
    { key: "wrong", title: "wrong", unit: "" },
  ],
  async run({ quick, rounds, directory }, table) {
    const callers = quick ? 50 : 1_000;
    const stores = [
      { what: `${callers} callers, a store each`, state: createState(join(directory, "each"), callers) },
      { what: `${callers} callers, one store`, state: createState(join(directory, "one"), 1) },
    ];
    await withProvider((provider) =>
      withProcesses(1, {}, async (processes) => {
        for (const { what, state } of stores) {
          const agentDirs = Array.from({ length: callers }, (_, at) => state.agentDirs[at % state.agentDirs.length]);
          for (let round = -1; round < rounds; round += 1) {
            for (const flow of [OURS, OURS_NATIVE]) {
              const grants = await provider.logIn({ count: 1, latencyMs: LATENCY_MS });
              const crowd = { ...state, agentDirs };
              const args = { processes, flow, url: provider.url, state: crowd, grants, provider };
              const { last, delayP99, delayMax, calls, failed, wrong } = await storm(args);
              if (round >= 0) table.add(what, flow, { last, delayP99, delayMax, calls, wrong: failed + wrong });
            }
          }
        }
      }),
    );
  },
};
