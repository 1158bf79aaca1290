import { statSync } from "node:fs";
import { join } from "node:path";
import { now } from "../clock.mjs";
import { holdOf } from "../contenders.mjs";
import { withProcesses } from "../processes.mjs";

const WHAT = "in a new process";

export const loading = {
  name: "loading",
  title: "Loading",
  about:
    "To import the package, and to hold its lock for the first time, which loads the addon where that is left for later. The " +
    "addons are those that are loaded then.",
  columns: [
    { key: "load", title: "import", unit: "ms" },
    { key: "first", title: "first lock and unlock", unit: "ms" },
    { key: "addons", title: "addons", unit: "KiB" },
  ],
  async run({ quick, rounds, directory, entrants }, table) {
    const perRound = quick ? 1 : 5;
    let file = 0;
    for (let sample = 0; sample < rounds * perRound; sample += 1) {
      for (const entrant of entrants) {
        const { name, node } = entrant;
        const args = { name, path: join(directory, `lock-${file++}`) };
        await table.measure(WHAT, entrant, () =>
          withProcesses(1, { node }, ([agent]) => agent.call(import.meta.url, "load", args)),
        );
      }
    }
  },
};

export const work = {
  async load({ name, path }) {
    const begun = now();
    const hold = await holdOf(name);
    const loaded = now();
    await hold(path, () => {});
    const held = now();
    const { sharedObjects } = process.report.getReport();
    const addons = sharedObjects.filter((object) => object.endsWith(".node"));
    const bytes = addons.reduce((total, object) => total + statSync(object).size, 0);
    return { load: loaded - begun, first: held - loaded, addons: bytes / 1024 };
  },
};
