import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { now } from "../clock.mjs";
import { withProcesses } from "../processes.mjs";
import { spread } from "../stats.mjs";
import { createState, EXPIRED_MS, HOUR_MS, PROVIDER, profileId, writeStores } from "../stores.mjs";
import { FLOOR } from "../table.mjs";

/** A file system in memory: what is synced to it costs nothing. */
const MEMORY = "/dev/shm";
const OURS = "ours";
const REFRESH = "one refresh of a sub-agent, with its mirror in main's store; the provider answers at once";
const REPLACE = "one store replaced";
const SYNCED = "what a refresh syncs after its answer";

export const durability = {
  name: "durability",
  title: "What durability costs",
  about: "The same on a disk and in memory (`tmpfs`), where syncing is free: the difference is the wait for the disk.",
  columns: [
    { key: "p50", title: "p50", unit: "ms" },
    { key: "p99", title: "p99", unit: "ms" },
    { key: "max", title: "max", unit: "ms" },
  ],
  async run({ quick, rounds, directory, floor }, table) {
    const inMemory = existsSync(MEMORY) ? mkdtempSync(join(MEMORY, "oauth-refresh-lock-bench-")) : undefined;
    const places = [
      { who: `${OURS}, on disk, durable`, place: directory },
      { who: `${OURS}, in memory`, place: inMemory },
    ];
    try {
      await withProcesses(1, {}, async ([agent]) => {
        for (let round = 0; round < rounds; round += 1) {
          if (floor) {
            const calls = await floor.run("calls", directory);
            table.add(REPLACE, `${FLOOR}, on disk, durable`, calls["replace a store, durably"]);
            table.add(REPLACE, `${FLOOR}, on disk, not durable`, calls["replace a store"]);
            for (const how of ["one after another", "side by side"])
              table.add(SYNCED, `${FLOOR}, ${how}`, calls[`${SYNCED}, ${how}`]);
          }
          for (const { who, place } of places) {
            if (!place) {
              table.miss(REFRESH, who, `there is no ${MEMORY}`);
              continue;
            }
            const args = { stateDir: join(place, "state"), count: quick ? 10 : 100 };
            table.add(REFRESH, who, await agent.call(import.meta.url, "refreshes", args));
          }
        }
      });
    } finally {
      if (inMemory) rmSync(inMemory, { recursive: true, force: true });
    }
  },
};

let issued = 0;

export const work = {
  async refreshes({ stateDir, count }) {
    const { withOAuthRefreshLock } = await import("../../index.mjs");
    const state = createState(stateDir, 1);
    const options = { stateDir, mainAgentDir: state.mainAgentDir, agentDir: state.agentDirs[0] };
    const grant = () => {
      issued += 1;
      return { access: `access-${issued}`, refresh: `refresh-${process.pid}-${issued}` };
    };
    const refresh = () => ({ ...grant(), expires: Date.now() + HOUR_MS });
    const samples = [];
    for (let done = 0; done < count; done += 1) {
      writeStores(state, [grant()], EXPIRED_MS);
      const begun = now();
      await withOAuthRefreshLock(PROVIDER, profileId(0), refresh, options);
      samples.push(now() - begun);
    }
    return spread(samples);
  },
};
