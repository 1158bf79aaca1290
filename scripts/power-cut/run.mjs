/**
 * Power cuts: `npm run power-cut [-- --states N] [--seed N] [--only NAME]`. Each operation of a refresh, an adoption, a recovery, a
 * takeover, a login and a logout is followed by a cut; in each state that the disk may then be in, the next callers must find their way.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { faultyPackage } from "../../__test__/faults/support/package.mjs";
import { Random } from "../../__test__/support/random.mjs";
import { hasStopped } from "../stopped.mjs";
import { ACT, foreignIn, goOn, newest, run, SCENARIOS, seenBy } from "./check.mjs";
import { after, fingerprint, restore, snapshot, upTo } from "./disk.mjs";
import { traced } from "./trace.mjs";

const { values } = parseArgs({
  options: { states: { type: "string" }, seed: { type: "string" }, only: { type: "string" } },
});
/** From this age on, in milliseconds, an owner is taken for stuck, and a little more. */
const STUCK_MS = 181_000;
/** How many states are tried at each point, besides the one with all that is not synced and the one with none of it. */
const STATES = Number(values.states ?? 12);
const seed = Number(values.seed ?? Date.now() % 1_000_000);

const home = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "oauth-refresh-lock-power-"));
process.once("exit", () => rmSync(home, { recursive: true, force: true }));
const root = join(home, "state");
const log = join(home, "trace");

const trace = ([what, ...more], before) => traced([ACT, what, root, ...more], { root, before, log });

/** Which of the operations that are not durable have reached the disk, and which sectors of writes. */
function* choices(pending, random) {
  yield [() => true, () => undefined];
  yield [() => false, () => undefined];
  if (pending.length === 0) return;
  for (let state = 0; state < STATES; state += 1) {
    const share = 1 + random.below(9);
    const chosen = new Set(pending.filter(() => random.below(10) < share));
    const isTorn = random.below(2) === 0;
    const salt = random.below(1_000);
    const sectors = (operation) =>
      isTorn && pending.includes(operation) ? (sector) => (sector * 7_919 + salt) % 3 !== 0 : undefined;
    yield [(operation) => chosen.has(operation), sectors];
  }
}

/** An owner that has stood still for so long that the next caller takes over. Needs a clock that can be put forward. */
async function startStuck([what, ...more]) {
  process.env.POWER_CUT_PACKAGE = pathToFileURL(faultyPackage()).href;
  process.env.OAUTH_REFRESH_LOCK_CLOCK_AHEAD = join(home, "ahead");
  writeFileSync(process.env.OAUTH_REFRESH_LOCK_CLOCK_AHEAD, "");
  const owner = spawn(process.execPath, [ACT, what, root, ...more], { stdio: ["ignore", "pipe", "inherit"] });
  await once(owner.stdout, "data");
  owner.kill("SIGSTOP");
  await hasStopped(owner.pid);
  truncateSync(process.env.OAUTH_REFRESH_LOCK_CLOCK_AHEAD, STUCK_MS);
  return owner;
}

async function powerCuts(scenario) {
  const { name, prepare, cutOf, act, live, isEmpty } = scenario;
  rmSync(root, { recursive: true, force: true });
  mkdirSync(root, { mode: 0o700 });
  for (const step of prepare) run(root, step);
  let before = snapshot(root);
  const store = [...before.names].find(([path]) => path.endsWith("main/agent/auth-profiles.json"));
  const foreign = isEmpty ? undefined : foreignIn(store && before.bytes.get(store[1]).toString("latin1"));
  if (cutOf) {
    // The power has failed once before: right when the new token was kept, and nothing more was.
    const operations = trace(cutOf, before);
    const count = operations.findIndex((_, at) => keptBy(upTo(operations, at)) === scenario.live);
    if (count < 0) throw new Error("the new token was never kept");
    const durable = upTo(operations, count).flatMap(({ operation, isDurable }) => (isDurable ? [operation] : []));
    restore(after(before, durable), root);
    before = snapshot(root);
  } else restore(before, root);
  const owner = scenario.stuck && (await startStuck(scenario.stuck));
  if (owner) before = snapshot(root);
  const had = Math.max(0, ...[...before.bytes.values()].map(newest));
  const operations = trace(act, before);
  owner?.kill("SIGKILL");
  const random = new Random(seed);
  const [seen, faults] = [new Set(), []];
  let lost = 0;
  for (let count = 0; count <= operations.length; count += 1) {
    const until = upTo(operations, count);
    const pending = until.flatMap(({ operation, isDurable }) => (isDurable ? [] : [operation]));
    const kept = Math.max(had, keptBy(until));
    const marks = operations.slice(0, count).flatMap(({ kind, text }) => (kind === "mark" ? [text] : []));
    const { lives, saw } = seenBy(marks, live);
    for (const [isChosen, sectors] of choices(pending, random)) {
      const reached = until.flatMap(({ operation, isDurable }) =>
        isDurable || isChosen(operation) ? [operation] : [],
      );
      const state = after(before, reached, sectors);
      for (const alive of lives) {
        const print = `${fingerprint(state, root)} ${alive} ${saw} ${kept}`;
        if (seen.has(print)) continue;
        seen.add(print);
        restore(state, root);
        const { result, fault } = goOn(root, scenario, { live: alive, saw, kept, foreign });
        lost += Number(result.isDead);
        if (fault) faults.push({ point: count, of: operations.length, fault, result });
      }
    }
  }
  for (const name of ["POWER_CUT_PACKAGE", "OAUTH_REFRESH_LOCK_CLOCK_AHEAD"]) delete process.env[name];
  return { name, operations: operations.length, states: seen.size, lost, faults };
}

/** The newest refresh token that is durable. */
const keptBy = (until) =>
  Math.max(
    0,
    ...until.map(({ operation, isDurable }) => (isDurable && operation.kind === "write" ? newest(operation.data) : 0)),
  );

const chosen = SCENARIOS.filter(({ name }) => values.only === undefined || name === values.only);
if (chosen.length === 0 || !Number.isInteger(STATES) || !Number.isInteger(seed)) {
  const names = SCENARIOS.map(({ name }) => `"${name}"`).join(", ");
  console.error(`--states and --seed are whole numbers, and --only is one of ${names}`);
  process.exit(1);
}
if (spawnSync("strace", ["--version"]).status !== 0) {
  console.error("NOT TESTED: this needs the program strace");
  process.exit(1);
}
console.log(`seed ${seed}`);
const table = new Table({
  head: ["", "operations", "states", "a token lost in the call", "faults"],
  style: { head: [] },
});
let isSound = true;
for (const scenario of chosen) {
  const { name, operations, states, lost, faults } = await powerCuts(scenario);
  table.push([name, operations, states, lost, faults.length]);
  console.log(
    `${name}: ${states} states after ${operations} operations, ${lost} lost in the call, ${faults.length} faults`,
  );
  for (const fault of faults.slice(0, 10)) console.log(`  ${JSON.stringify(fault)}`);
  isSound &&= faults.length === 0;
}
console.log(table.toString());
process.exitCode = isSound ? 0 : 1;
