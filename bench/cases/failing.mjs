import { join } from "node:path";
import { storm } from "../fleet.mjs";
import { flowsOf } from "../flows.mjs";
import { withProcesses } from "../processes.mjs";
import { withProvider } from "../provider.mjs";
import { createState } from "../stores.mjs";

const LATENCY_MS = 50;

export const failing = {
  name: "failing",
  title: "A provider that fails",
  about:
    `From the first agent's call until the last one is served or told; the provider answers after ${LATENCY_MS} ms. ` +
    "Not served: agents that got an error.",
  columns: [
    { key: "last", title: "last agent knows", unit: "ms" },
    { key: "calls", title: "calls", unit: "" },
    { key: "failed", title: "not served", unit: "" },
  ],
  async run({ quick, rounds, directory, entrants }, table) {
    const count = quick ? 4 : 20;
    const whats = [
      { what: `${count} processes, the login is refused for good`, rules: { refuses: true } },
      { what: `${count} processes, the first call gets a 503`, rules: { unavailable: 1 } },
    ];
    await withProvider((provider) =>
      withProcesses(count, {}, async (processes) => {
        const state = createState(join(directory, "state"), count);
        for (const { what, rules } of whats) {
          for (let round = 0; round < rounds; round += 1) {
            for (const flow of flowsOf(entrants)) {
              await table.measure(what, flow, async () => {
                const grants = await provider.logIn({ count: 1, latencyMs: LATENCY_MS, ...rules });
                const args = { processes, flow: flow.name, url: provider.url, state, grants, provider };
                const { last, calls, failed } = await storm(args);
                return { last, calls, failed };
              });
            }
          }
        }
      }),
    );
  },
};
