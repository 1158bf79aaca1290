// Everything: the core by cargo, then what a Node user does, on this Node and on the other supported ones, in Bun and in Deno, then `npm run check`.
// `npm test -- --here` leaves the others out.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { FAULTS_FEATURES, FAULTS_TARGET } from "../__test__/faults/support/package.mjs";
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
    "environment",
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
  ...["coordinators/etcd", "coordinators/exits", "coordinators/kubernetes", "coordinators/open"],
].map((name) => `__test__/${name}.test.mjs`);

/** Runs commands one after the other; each line that they print begins with `name`. */
async function run(name, ...commands) {
  for (const { command = process.execPath, args, env } of commands) {
    console.log(`\n${name} > ${[command, ...args].join(" ")}`);
    const child = spawn(command, args, {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...env },
    });
    for (const stream of [child.stdout, child.stderr])
      createInterface({ input: stream }).on("line", (line) => console.log(`${name} | ${line}`));
    const [status] = await once(child, "close");
    if (status === 0) continue;
    console.error(`failed: ${command} ${args.join(" ")}`);
    process.exit(status || 1);
  }
}

// Nothing here is built twice: what makes a second build quick would only take place on the disk.
process.env.CARGO_INCREMENTAL ??= "0";
// Builds come first: no test is to wait for a compiler. With the addon that has faults, the core's tests share what they link.
const cargo = ["test", "--locked", "--features", FAULTS_FEATURES, "--target-dir", FAULTS_TARGET];
await Promise.all([
  run("addon", { args: ["scripts/setup.mjs"] }),
  run("faults", { command: "cargo", args: [...cargo, "--no-run"] }, { args: ["__test__/faults/support/package.mjs"] }),
]);
await run("core", { command: "cargo", args: cargo });

const vitest = [join(root, "node_modules", "vitest", "vitest.mjs"), "run"];
// Where a clock runs twenty times as fast, a machine's other work counts twenty times: these run one by one.
const FAST_CLOCK = ["hung", "persist", "stuck", "weather"].map((name) => `__test__/faults/${name}.test.mjs`);
await Promise.all([
  run("fast clock", { args: [...vitest, "--no-file-parallelism", ...FAST_CLOCK] }),
  run("others", { args: [...vitest, ...FAST_CLOCK.flatMap((file) => ["--exclude", file])] }),
]);

if (!process.argv.includes("--here") && canFetchNode) {
  const here = Number(process.versions.node.split(".")[0]);
  const nodes = OTHER_NODES.filter((major) => major !== here);
  const args = [...vitest, "--maxWorkers", "2", ...CONTRACT];
  const env = { DEATHS: "100" };
  await Promise.all(nodes.map((major) => run(`Node ${major}`, { command: nodeBinary(major), args, env })));
  await run("newest", { command: nodeBinary(NEWEST_NODE), args: ["--test", "smoke/smoke.mjs"] });
  await run("runtimes", { args: ["scripts/runtimes.mjs"] });
}
await run("check", { args: ["scripts/check.mjs"] });
