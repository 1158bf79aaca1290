// Everything: the core by cargo, then what a Node user does, on this Node and on the other supported ones, then `npm run check`.
// `npm test -- --here` leaves the other Nodes out.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { FAULTS_TARGET } from "../__test__/faults/support/package.mjs";
import { canFetchNode, nodeBinary } from "./fetch.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const OTHER_NODES = [20, 22, 24];
/** What we know to be the newest. Of it only that the same file works there. */
const NEWEST_NODE = 26;
/** What depends on Node: how values, errors, threads, promises and exits behave there. The rest is the core's, or npm's. */
const CONTRACT = [
  ...[
    "after-the-answer",
    "bad-input",
    "bad-stores",
    "events",
    "exits",
    "failures",
    "host-stores",
    "host-stores-held",
    "inside-node",
  ],
  ...["interrupted", "keep-fresh", "package", "profile-lock", "queue", "refresh", "results", "time-limits"],
  ...["transaction", "worker-death", "cli/status", "client-libraries/contract"],
  ...["token-endpoint/answers", "token-endpoint/interrupted", "token-endpoint/oidc"],
].map((name) => `__test__/${name}.test.mjs`);

function run(command, args) {
  console.log(`\n> ${[command, ...args].join(" ")}`);
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (error || status !== 0) fail(command, args, status);
}

function fail(command, args, status) {
  console.error(`failed: ${command} ${args.join(" ")}`);
  process.exit(status || 1);
}

/** The commands side by side; each line with the name of the one that prints it. */
async function runAll(commands) {
  await Promise.all(
    commands.map(async ({ name, command, args, env }) => {
      console.log(`\n> ${[command, ...args].join(" ")}`);
      const child = spawn(command, args, {
        cwd: root,
        stdio: ["ignore", "pipe", "pipe"],
        env: { ...process.env, ...env },
      });
      for (const stream of [child.stdout, child.stderr])
        createInterface({ input: stream }).on("line", (line) => console.log(`${name} | ${line}`));
      const [status] = await once(child, "close");
      if (status !== 0) fail(command, args, status);
    }),
  );
}

// Nothing here is built twice: what makes a second build quick would only take place on the disk.
process.env.CARGO_INCREMENTAL ??= "0";
run(process.execPath, ["scripts/setup.mjs"]);
// Builds come first: no test is to wait for a compiler. With the addon that has faults, the core's tests share what they link.
const cargo = ["test", "--locked", "--features", "faults", "--target-dir", FAULTS_TARGET];
run("cargo", [...cargo, "--no-run"]);
run(process.execPath, ["__test__/faults/support/package.mjs"]);
run("cargo", cargo);

const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
// Where a clock runs twenty times as fast, a machine's other work counts twenty times: these run one by one.
const FAST_CLOCK = ["hung", "persist", "stuck", "weather"].map((name) => `__test__/faults/${name}.test.mjs`);
await runAll([
  { name: "fast clock", command: process.execPath, args: [vitest, "run", "--no-file-parallelism", ...FAST_CLOCK] },
  {
    name: "others",
    command: process.execPath,
    args: [vitest, "run", ...FAST_CLOCK.flatMap((file) => ["--exclude", file])],
  },
]);

if (!process.argv.includes("--here") && canFetchNode) {
  const here = Number(process.versions.node.split(".")[0]);
  const nodes = OTHER_NODES.filter((major) => major !== here);
  const args = [vitest, "run", "--maxWorkers", "2", ...CONTRACT];
  await runAll(
    nodes.map((major) => ({ name: `Node ${major}`, command: nodeBinary(major), args, env: { DEATHS: "100" } })),
  );
  run(nodeBinary(NEWEST_NODE), ["--test", "smoke/smoke.mjs"]);
}
run(process.execPath, ["scripts/check.mjs"]);
