import { writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { now, sleep, within } from "../clock.mjs";
import { holdOf, keep } from "../contenders.mjs";
import { withProcesses } from "../processes.mjs";
import { percentile } from "../stats.mjs";

const WAITERS = 64;
/** Until all of them wait. */
const SETTLE_MS = 300;
const PROBE_EVERY_MS = 5;
export const NOBODY = "nobody waits";

export const SITUATIONS = [
  { what: `${WAITERS} waiters in one process for one lock`, locks: 1 },
  { what: `${WAITERS} waiters in one process for ${WAITERS} locks`, locks: WAITERS },
];

const MS = 1_500;
const ABOUT =
  "Another process holds the locks all the while. CPU and wake-ups (voluntary context switches of all threads) are those of a " +
  `process that does nothing but wait. Then it reads a small file with \`fs.promises.readFile\` again and again for ${MS} ms; a ` +
  "read that never came back counts as that long. Memory: resident, per waiter.";

export const waiting = {
  name: "waiting",
  title: "Waiting",
  about: ABOUT,
  columns: [
    { key: "cpu", title: "CPU per second", unit: "ms" },
    { key: "wakeUps", title: "wake-ups per second", unit: "" },
    { key: "readP50", title: "`readFile` p50", unit: "ms" },
    { key: "readMax", title: "longest", unit: "ms" },
    { key: "delayP99", title: "event-loop delay p99", unit: "ms" },
    { key: "memory", title: "memory", unit: "KiB" },
  ],
  async run({ quick, rounds, directory, entrants }, table) {
    const ms = quick ? 300 : MS;
    let file = 0;
    for (const { what, locks } of SITUATIONS) {
      for (let round = 0; round < rounds; round += 1) {
        for (const entrant of [{ name: NOBODY, node: process.execPath }, ...entrants]) {
          const { name, node } = entrant;
          const held = Array.from({ length: locks }, () => join(directory, `lock-${file++}`));
          const paths = Array.from({ length: name === NOBODY ? 0 : WAITERS }, (_, at) => held[at % locks]);
          await table.measure(what, entrant, () =>
            withProcesses(2, { node }, async ([holder, waiter]) => {
              if (name !== NOBODY) await holder.call(import.meta.url, "keep", { name, paths: held });
              return waiter.call(import.meta.url, "wait", { name, paths, directory, ms });
            }),
          );
        }
      }
    }
  },
};

export const work = {
  /** Takes locks and keeps them. */
  async keep({ name, paths }) {
    const hold = await holdOf(name);
    for (const path of paths) {
      await keep(hold, path);
    }
  },

  async wait({ name, paths, directory, ms }) {
    const file = join(directory, `file-${process.pid}`);
    writeFileSync(file, "small");
    await readFile(file);
    await sleep(SETTLE_MS);
    const before = process.memoryUsage.rss();
    if (paths.length > 0) {
      const hold = await holdOf(name);
      // One that gives up sooner than we look has a reason to be told elsewhere.
      for (const path of paths) hold(path, () => {}).catch(() => {});
    }
    await sleep(SETTLE_MS);
    const memory = paths.length > 0 ? (process.memoryUsage.rss() - before) / 1024 / paths.length : Number.NaN;
    return { ...(await rest(ms)), ...(await reads(file, ms)), memory };
  },
};

async function rest(ms) {
  const [cpu, use] = [process.cpuUsage(), process.resourceUsage()];
  await sleep(ms);
  const { user, system } = process.cpuUsage(cpu);
  const switches = process.resourceUsage().voluntaryContextSwitches - use.voluntaryContextSwitches;
  return { cpu: (user + system) / ms, wakeUps: (switches / ms) * 1e3 };
}

async function reads(file, ms) {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const samples = [];
  const end = now() + ms;
  for (let begun = now(); begun < end; begun = now()) {
    await within(readFile(file).then(String), ms, "");
    samples.push(Math.min(now() - begun, ms));
    await sleep(PROBE_EVERY_MS);
  }
  delay.disable();
  return {
    readP50: percentile(samples, 0.5),
    readMax: percentile(samples, 1),
    delayP99: delay.percentile(99) / 1e6,
  };
}
