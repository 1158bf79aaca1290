import { readFileSync } from "node:fs";
import { join } from "node:path";
import { now } from "../clock.mjs";
import { withProcesses } from "../processes.mjs";
import { spread } from "../stats.mjs";
import { createState, HOUR_MS, PROVIDER, profileId, STORE_FILE, writeStores } from "../stores.mjs";
import { FLOOR } from "../table.mjs";

const PLAIN = "readFileSync and JSON.parse";
const OURS = "ours";
const SIZES = [1, 20, 100, 1_000];

export const situation = (profiles) => `a store of ${profiles} ${profiles === 1 ? "profile" : "profiles"}`;

export const fastPath = {
  name: "fast-path",
  title: "A credential that is usable",
  about:
    "`withOAuthRefreshLock` when there is nothing to refresh, one call after the other. The floor reads and parses in Rust.",
  columns: [
    { key: "p50", title: "p50", unit: "µs" },
    { key: "p99", title: "p99", unit: "µs" },
    { key: "max", title: "max", unit: "µs" },
  ],
  async run({ quick, rounds, directory, floor }, table) {
    const ms = quick ? 50 : 500;
    await withProcesses(1, {}, async ([agent]) => {
      for (const size of quick ? SIZES.slice(0, 2) : SIZES) {
        const state = createState(join(directory, String(size)), 1);
        const secret = (kind, at) => `${kind}-${String(at).padStart(64, "0")}`;
        const grants = Array.from({ length: size }, (_, at) => ({
          access: secret("access", at),
          refresh: secret("refresh", at),
        }));
        writeStores(state, grants, HOUR_MS);
        const args = { ...state, profile: Math.floor(size / 2), ms };
        for (let round = 0; round < rounds; round += 1) {
          if (floor && size === 20) {
            const { p50, p99, max } = (await floor.run("calls", directory))["read and parse a store of 20 profiles"];
            table.add(situation(size), FLOOR, { p50: p50 * 1e3, p99: p99 * 1e3, max: max * 1e3 });
          }
          table.add(situation(size), OURS, await agent.call(import.meta.url, "ours", args));
          table.add(situation(size), PLAIN, await agent.call(import.meta.url, "plain", args));
        }
      }
    });
  },
};

async function repeat(ms, look) {
  for (let warm = 0; warm < 50; warm += 1) await look();
  const samples = [];
  const end = now() + ms;
  for (let begun = now(); begun < end; begun = now()) {
    await look();
    samples.push((now() - begun) * 1e3);
  }
  return spread(samples);
}

export const work = {
  async ours({ stateDir, mainAgentDir, agentDirs: [agentDir], profile, ms }) {
    const { withOAuthRefreshLock } = await import("../../index.mjs");
    const refresh = () => {
      throw new Error("there is nothing to refresh");
    };
    const options = { stateDir, mainAgentDir, agentDir };
    return repeat(ms, () => withOAuthRefreshLock(PROVIDER, profileId(profile), refresh, options));
  },

  plain({ agentDirs: [agentDir], profile, ms }) {
    const path = join(agentDir, STORE_FILE);
    return repeat(ms, () => JSON.parse(readFileSync(path, "utf8")).profiles[profileId(profile)]);
  },
};
