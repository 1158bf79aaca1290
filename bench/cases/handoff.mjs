import { join } from "node:path";
import { now, until } from "../clock.mjs";
import { holdOf } from "../contenders.mjs";
import { merged } from "../handoffs.mjs";
import { withPools } from "../pools.mjs";
import { FLOOR } from "../table.mjs";

/** How long who waits at the end is waited for. */
const GRACE_MS = 2_000;
/** Until all are awake. */
const START_MS = 100;

export const handoff = {
  name: "handoff",
  title: "Steady hand-off",
  about:
    "Processes that want the lock again as soon as they had it. Hand-off: from an owner's end to the next owner's start, where " +
    "the next is another process that was waiting. Fair share: how long everybody would wait if all took turns; the longest " +
    "wait is told in fair shares too. Least served: the holds of the process that got fewest, as a part of the mean. " +
    "Overlaps: holds that began before another had ended; of a lock there are none. The floor keeps the lock for 0.1 ms and then pauses, so that " +
    "the others sleep in the kernel; who holds it for no time at all also meets processes that are just about to ask.",
  isBrief: (what) => what === "20 processes",
  columns: [
    { key: "p50", title: "hand-off p50", unit: "µs" },
    { key: "p99", title: "p99", unit: "µs" },
    { key: "longest", title: "longest wait", unit: "ms" },
    { key: "unfair", title: "in fair shares", unit: "" },
    { key: "least", title: "least served", unit: "" },
    { key: "perSecond", title: "holds per second", unit: "" },
    { key: "overlaps", title: "overlaps", unit: "" },
  ],
  async run({ quick, rounds, directory, entrants, floor }, table) {
    const ms = quick ? 200 : 2_000;
    const counts = quick ? [2, 8] : [2, 8, 20];
    let file = 0;
    await withPools(entrants, Math.max(...counts), async (pool) => {
      for (const count of counts) {
        const what = `${count} processes`;
        for (let round = 0; round < rounds; round += 1) {
          const fresh = () => join(directory, `lock-${file++}`);
          if (floor) {
            const [path, start] = [fresh(), now() + START_MS];
            const loop = () => floor.run("loop", path, String(start), String(ms));
            // It holds the lock for a while, so its waits and its number of holds are no measure for the others.
            const { p50, p99, overlaps } = merged(await Promise.all(Array.from({ length: count }, loop)), ms);
            table.add(what, FLOOR, { p50, p99, overlaps });
          }
          for (const entrant of entrants) {
            const { name } = entrant;
            await table.measure(what, entrant, async () => {
              const agents = pool(entrant).slice(0, count);
              await Promise.all(agents.map((agent) => agent.call(import.meta.url, "load", { name })));
              const args = { name, path: fresh(), start: now() + START_MS, ms };
              const logs = await Promise.all(agents.map((agent) => agent.call(import.meta.url, "loop", args)));
              return merged(logs, ms);
            });
          }
        }
      }
    });
  },
};

export const work = {
  async load({ name }) {
    await holdOf(name);
  },

  async loop({ name, path, start, ms }) {
    const hold = await holdOf(name);
    const since = () => Math.round((now() - start) * 1e4) / 1e4;
    const log = [];
    let giveUp = () => {};
    setTimeout(() => giveUp(), start - now() + ms + GRACE_MS);
    await until(start);
    while (since() < ms) {
      const requested = since();
      let isServed = false;
      const held = hold(path, () => {
        const acquired = since();
        isServed = true;
        log.push(requested, acquired, since());
      });
      const isOver = await new Promise((resolve) => {
        giveUp = () => resolve(true);
        // A sidecar lock gives up sooner or later; its program would try again.
        held.then(resolve, () => resolve(undefined));
      });
      if (isOver && !isServed) return [...log, requested, null, since()];
    }
    return log;
  },
};
