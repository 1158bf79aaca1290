import { join } from "node:path";
import { now } from "../clock.mjs";
import { holdOf } from "../contenders.mjs";
import { withPools } from "../pools.mjs";
import { spread } from "../stats.mjs";
import { FLOOR } from "../table.mjs";

const WHAT = "lock and unlock";

export const pair = {
  name: "pair",
  title: "A free lock: lock and unlock",
  about: "One caller at a time, one process. The floor opens the file, locks it, writes who holds it, and closes it.",
  isBrief: () => true,
  columns: [
    { key: "p50", title: "p50", unit: "µs" },
    { key: "p99", title: "p99", unit: "µs" },
    { key: "max", title: "max", unit: "µs" },
  ],
  async run({ quick, rounds, directory, entrants, floor }, table) {
    const ms = quick ? 100 : 1_000;
    await withPools(entrants, 1, async (pool) => {
      for (let round = 0; round < rounds; round += 1) {
        if (floor) {
          const calls = await floor.run("calls", directory);
          const { p50, p99, max } = calls["open, flock, write who holds it, close"];
          table.add(WHAT, FLOOR, { p50: p50 * 1e3, p99: p99 * 1e3, max: max * 1e3 });
        }
        for (const [index, entrant] of entrants.entries()) {
          const args = { name: entrant.name, path: join(directory, `lock-${index}`), ms };
          await table.measure(WHAT, entrant, () => pool(entrant)[0].call(import.meta.url, "pairs", args));
        }
      }
    });
  },
};

export const work = {
  async pairs({ name, path, ms }) {
    const hold = await holdOf(name);
    const nothing = () => {};
    for (let warm = 0; warm < 50; warm += 1) await hold(path, nothing);
    const samples = [];
    const end = now() + ms;
    for (let begun = now(); begun < end; begun = now()) {
      await hold(path, nothing);
      samples.push((now() - begun) * 1e3);
    }
    return spread(samples);
  },
};
