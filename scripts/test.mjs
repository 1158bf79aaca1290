// Everything: the core by cargo, then what a Node user does, on this Node and on the other supported ones, then `npm run check`.
// `npm test -- --here` leaves the other Nodes out.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { canFetchNode, nodeBinary } from "./fetch.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const OTHER_NODES = [20, 22, 24];
/** What we know to be the newest. Of it only that the same file works there. */
const NEWEST_NODE = 26;
/** What is the core's or npm's business is the same on every Node: the first one runs it for all. */
const CORE = [
  "__test__/faults/**",
  "__test__/debris.test.mjs",
  "__test__/mixed-fleet.test.mjs",
  "__test__/publish.test.mjs",
  "__test__/token-endpoint/{failures,network-*,parallel,retries,secrets}.test.mjs",
];

function run(command, args) {
  console.log(`\n> ${[command, ...args].join(" ")}`);
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (error || status !== 0) fail(command, args, status);
}

function fail(command, args, status) {
  console.error(`failed: ${command} ${args.join(" ")}`);
  process.exit(status || 1);
}

/** The commands side by side; what each prints comes in one piece. */
async function runAll(commands) {
  await Promise.all(
    commands.map(async ({ command, args, env }) => {
      const child = spawn(command, args, {
        cwd: root,
        stdio: ["ignore", "pipe", "pipe"],
        env: { ...process.env, ...env },
      });
      const said = [];
      for (const stream of [child.stdout, child.stderr]) stream.on("data", (part) => said.push(part));
      const [status] = await once(child, "close");
      console.log(`\n> ${[command, ...args].join(" ")}\n${Buffer.concat(said)}`);
      if (status !== 0) fail(command, args, status);
    }),
  );
}

run(process.execPath, ["scripts/setup.mjs"]);
run("cargo", ["test", "--locked", "--features", "faults"]);

const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
const FAULTS = "__test__/faults";
await runAll([
  { command: process.execPath, args: [vitest, "run", FAULTS] },
  { command: process.execPath, args: [vitest, "run", "--exclude", `${FAULTS}/**`] },
]);

if (!process.argv.includes("--here") && canFetchNode) {
  const here = Number(process.versions.node.split(".")[0]);
  const nodes = OTHER_NODES.filter((major) => major !== here).map(nodeBinary);
  const args = [vitest, "run", ...CORE.flatMap((files) => ["--exclude", files])];
  await runAll(nodes.map((command) => ({ command, args, env: { DEATHS: "100" } })));
  run(nodeBinary(NEWEST_NODE), ["--test", "smoke/smoke.mjs"]);
}
run(process.execPath, ["scripts/check.mjs"]);
