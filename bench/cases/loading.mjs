import { statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { now } from "../clock.mjs";
import { holdOf } from "../contenders.mjs";
import { withProcesses } from "../processes.mjs";
import { createState, HOUR_MS, PROVIDER, profileId, writeStores } from "../stores.mjs";

const WHAT = "in a new process";
const TOKEN = "a usable token, in a new process";
const OURS = "ours";

export const loading = {
  name: "loading",
  title: "Loading",
  about:
    "To import the package, and to hold its lock for the first time, which loads the addon where that is left for later. The " +
    "addons are those that are loaded then. For a usable token ours is required, and called once.",
  columns: [
    { key: "load", title: "import", unit: "ms" },
    { key: "first", title: "first use", unit: "ms" },
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
      const state = createState(join(directory, `state-${sample}`), 1);
      writeStores(state, [{ access: "access", refresh: "refresh" }], HOUR_MS);
      table.add(TOKEN, OURS, await withProcesses(1, {}, ([agent]) => agent.call(import.meta.url, "token", state)));
    }
  },
};

/** How large the addons are that are loaded, in KiB. */
function addons() {
  const { sharedObjects } = process.report.getReport();
  const files = sharedObjects.filter((object) => object.endsWith(".node"));
  return files.reduce((total, file) => total + statSync(file).size, 0) / 1024;
}

export const work = {
  async load({ name, path }) {
    const begun = now();
    const hold = await holdOf(name);
    const loaded = now();
    await hold(path, () => {});
    const held = now();
    return { load: loaded - begun, first: held - loaded, addons: addons() };
  },

  async token({ stateDir, mainAgentDir, agentDirs: [agentDir] }) {
    const require = createRequire(import.meta.url);
    const begun = now();
    const { withOAuthRefreshLock } = require("../../index.js");
    const loaded = now();
    await withOAuthRefreshLock(PROVIDER, profileId(0), () => null, { stateDir, mainAgentDir, agentDir });
    const served = now();
    return { load: loaded - begun, first: served - loaded, addons: addons() };
  },
};
