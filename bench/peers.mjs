/** Installs the other locks, and finds out who can take part. What can't is a row with the reason. */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { nodeBinary } from "../scripts/fetch.mjs";
import { CONTENDERS, holdOf, PEERS } from "./contenders.mjs";
import { withProcesses } from "./processes.mjs";

/** @typedef {{ name: string, node: string, reason?: string }} Entrant `reason`: why it can't take part */

/** @param {string[]} args of npm @returns {string | undefined} what went wrong */
function npm(...args) {
  const quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
  const options = { cwd: PEERS, encoding: "utf8", env: { ...process.env, NODE_ENV: "" } };
  const { status, error, stderr } = spawnSync("npm", [...args, ...quiet], options);
  if (status === 0) return undefined;
  return `npm ${args[0]} failed: ${error?.message ?? stderr.trim().split("\n")[0]}`;
}

/** @returns {string | undefined} why there are no peers */
function install() {
  mkdirSync(PEERS, { recursive: true });
  copyFileSync(fileURLToPath(new URL("peers/package.json", import.meta.url)), join(PEERS, "package.json"));
  // Of all their install scripts only one is needed: it compiles the lock.
  return npm("install", "--ignore-scripts") ?? npm("rebuild", "fs-ext");
}

/** The Node that a contender runs on. */
function nodeFor(major) {
  return major && Number(process.versions.node.split(".")[0]) < major ? nodeBinary(major) : process.execPath;
}

/** @param {{ alone: boolean, directory: string }} options `alone`: ours only */
export async function gather({ alone, directory }) {
  const missing = alone ? "left out (--alone)" : install();
  const entrants = [];
  for (const [index, contender] of CONTENDERS.entries()) {
    const { name } = contender;
    try {
      if (contender.package && alone) throw new Error(missing);
      const node = nodeFor(contender.node);
      await withProcesses(1, { node }, ([agent]) =>
        agent.call(import.meta.url, "tryOut", { name, path: join(directory, `try-${index}`) }),
      );
      entrants.push({ name, node });
    } catch (error) {
      const message = error.message.split("\n")[0];
      entrants.push({ name, node: "", reason: contender.package && missing ? missing : message });
    }
  }
  return entrants;
}

/** Versions of what was measured, by name. */
export function versions(entrants) {
  const found = new Map();
  for (const { name, package: packageName } of CONTENDERS) {
    if (!packageName || entrants.find((entrant) => entrant.name === name)?.reason) continue;
    const file = join(PEERS, "node_modules", packageName, "package.json");
    found.set(packageName, JSON.parse(readFileSync(file, "utf8")).version);
  }
  return found;
}

export const work = {
  async tryOut({ name, path }) {
    const hold = await holdOf(name);
    await hold(path, () => {});
  },
};
