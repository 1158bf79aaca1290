import { once } from "node:events";
import { join } from "node:path";
import { now, sleep, within } from "../clock.mjs";
import { holdOf, keep } from "../contenders.mjs";
import { withProcesses } from "../processes.mjs";
import { percentile } from "../stats.mjs";
import { FLOOR } from "../table.mjs";

/** Whoever has not got the lock by then is not waited for. */
const LIMIT_MS = 15_000;
/** A lock that takes longer than this is tried once only. */
const SLOW_MS = 1_000;
/** How long the waiter waits before the holder is killed. */
const SETTLE_MS = 50;
const WHAT = "SIGKILL of the holder to the next owner";

export const killed = {
  name: "killed",
  title: "A holder that is killed",
  about: `From \`SIGKILL\` to the next owner, which was waiting. After ${LIMIT_MS / 1e3} s nobody waits any longer.`,
  isBrief: () => true,
  columns: [
    { key: "p50", title: "p50", unit: "ms" },
    { key: "p99", title: "p99", unit: "ms" },
    { key: "samples", title: "kills", unit: "" },
  ],
  async run({ quick, rounds, directory, entrants, floor }, table) {
    const perRound = quick ? 2 : 10;
    const slow = new Set();
    let file = 0;
    for (let round = 0; round < rounds; round += 1) {
      for (const entrant of [...(floor ? [{ name: FLOOR, node: "" }] : []), ...entrants]) {
        const { name } = entrant;
        if (slow.has(name)) continue;
        await table.measure(WHAT, entrant, async () => {
          const samples = [];
          while (samples.length < perRound && !slow.has(name)) {
            const path = join(directory, `lock-${file++}`);
            samples.push(await (floor && name === FLOOR ? ofFloor(floor, path) : ofEntrant(entrant, path)));
            if (samples.some((ms) => ms > SLOW_MS)) slow.add(name);
          }
          return { p50: percentile(samples, 0.5), p99: percentile(samples, 0.99), samples: samples.length };
        });
      }
    }
  },
};

function ofEntrant({ name, node }, path) {
  return withProcesses(2, { node }, async ([holder, waiter]) => {
    await waiter.call(import.meta.url, "load", { name });
    await holder.call(import.meta.url, "keep", { name, path });
    const acquired = waiter.call(import.meta.url, "acquire", { name, path });
    // Its end while it waits is ours.
    acquired.catch(() => {});
    await sleep(SETTLE_MS);
    const begun = now();
    void holder.kill();
    return (await within(acquired, LIMIT_MS, begun + LIMIT_MS)) - begun;
  });
}

async function ofFloor(floor, path) {
  const holder = floor.start("hold", path);
  await holder.lines.next();
  const waiter = floor.start("wait", path);
  await waiter.lines.next();
  await sleep(SETTLE_MS);
  const begun = now();
  holder.child.kill("SIGKILL");
  const { value } = await waiter.lines.next();
  if (waiter.child.exitCode === null) await once(waiter.child, "exit");
  return Number(value) - begun;
}

export const work = {
  async load({ name }) {
    await holdOf(name);
  },

  /** Takes the lock and keeps it. */
  async keep({ name, path }) {
    const hold = await holdOf(name);
    await keep(hold, path);
  },

  /** @returns {Promise<number>} when the lock came */
  async acquire({ name, path }) {
    const hold = await holdOf(name);
    return hold(path, now);
  },
};
