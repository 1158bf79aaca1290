/**
 * A database of credentials, by way of the example that the documentation shows. Opened in processes of their own: not every
 * Node that the tests run on has `node:sqlite`.
 */
import { spawnSync } from "node:child_process";
import { nodeBinary } from "../../scripts/fetch.mjs";
import { PROFILE } from "./host.mjs";

const EXAMPLE = new URL("../../examples/sqlite-store.mjs", import.meta.url).href;
const [major] = process.versions.node.split(".").map(Number);

/** A Node that has `node:sqlite`. */
export const nodeWithSqlite = () => (major >= 24 ? process.execPath : nodeBinary(22));

/** Runs `code` beside an agent's `store`; `given` is its argument, its result is returned. */
function run(path, agent, code, given = null) {
  const program = `
    import { sqliteStore } from ${JSON.stringify(EXAMPLE)};
    const [path, agent, profileId, given] = JSON.parse(process.argv[1]);
    const store = sqliteStore(path, agent);
    console.log(JSON.stringify(${code}));
  `;
  const args = ["--no-warnings", "--input-type=module", "--eval", program];
  const { stdout, stderr, status } = spawnSync(
    nodeWithSqlite(),
    [...args, JSON.stringify([path, agent, PROFILE, given])],
    { encoding: "utf8" },
  );
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

/** What an agent's store holds. */
export const stored = (path, agent) => run(path, agent, "store.load(profileId)");

/** Puts a credential into an agent's store, whatever it held. */
export const seed = (path, agent, credential) =>
  run(path, agent, "store.compareAndSwap(profileId, store.load(profileId), given)", credential);

/** Swaps in an agent's store. */
export const swap = (path, agent, expected, next) =>
  run(path, agent, "store.compareAndSwap(profileId, ...given)", [expected, next]);
