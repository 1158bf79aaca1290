// Everything: the core by cargo, then what a Node user does, on this Node and on the other supported ones.
// `npm test -- --here` leaves the other Nodes out.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { canFetchNode, nodeBinary } from "./fetch.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const OTHER_NODES = [20, 22, 24];
/** What we know to be the newest. Of it only that the same file works there. */
const NEWEST_NODE = 26;

function run(command, args, env) {
  console.log(`\n> ${[command, ...args].join(" ")}`);
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
  if (error || status !== 0) {
    console.error(`failed: ${command} ${args.join(" ")}`);
    process.exit(status || 1);
  }
}

run(process.execPath, ["scripts/setup.mjs"]);
run("cargo", ["test", "--locked", "--features", "faults"]);

const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
const nodes = [process.execPath];
if (!process.argv.includes("--here") && canFetchNode) {
  const here = Number(process.versions.node.split(".")[0]);
  nodes.push(...OTHER_NODES.filter((major) => major !== here).map(nodeBinary));
}
// What is the core's business is the same on every Node: the first one runs it for all.
const CORE = ["__test__/faults/**", "__test__/mixed-fleet.test.mjs"].flatMap((files) => ["--exclude", files]);
const [first, ...others] = nodes;
run(first, [vitest, "run"]);
for (const node of others) run(node, [vitest, "run", ...CORE], { DEATHS: "100" });
if (others.length > 0) run(nodeBinary(NEWEST_NODE), ["--test", "smoke/smoke.mjs"]);
