/**
 * Power cuts: `npm run power-cut [-- --states N] [--seed N] [--only NAME]`. Each operation of a refresh, an adoption, a recovery, a login
 * and a logout is followed by a cut; in each state that the disk may then be in, the next callers must find their way.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { Random } from "../../__test__/support/random.mjs";
import { after, fingerprint, restore, snapshot, upTo } from "./disk.mjs";
import { traced } from "./trace.mjs";

const ACT = fileURLToPath(new URL("act.mjs", import.meta.url));
const { values } = parseArgs({
  options: { states: { type: "string" }, seed: { type: "string" }, only: { type: "string" } },
});
/** How many states are tried at each point, besides the one with all that is not synced and the one with none of it. */
const STATES = Number(values.states ?? 12);
const seed = Number(values.seed ?? Date.now() % 1_000_000);

const EXPIRED = [["store", "main", "1", "expired"]];
const BOTH = [...EXPIRED, ["store", "sub", "1", "expired"]];
const refresh = (live, agent = "main") => ["refresh", String(live), agent];
const SCENARIOS = [
  { name: "first refresh", prepare: EXPIRED, act: refresh(1), live: 1 },
  {
    name: "later refresh",
    prepare: [...EXPIRED, refresh(1), ["store", "main", "2", "expired"]],
    act: refresh(2),
    live: 2,
  },
  { name: "refresh by a sub-agent", prepare: BOTH, act: refresh(1, "sub"), live: 1, agents: ["sub", "main"] },
  {
    name: "adoption",
    prepare: [["store", "main", "2", "good"], BOTH[1]],
    act: refresh(2, "sub"),
    live: 2,
    agents: ["sub", "main"],
  },
  { name: "recovery", prepare: EXPIRED, cutOf: refresh(1), act: refresh(2), live: 2 },
  { name: "login", prepare: EXPIRED, act: ["login"], live: 1, other: ["access-9"] },
  { name: "first login", prepare: [], act: ["login"], live: 1, other: ["access-9", null], isEmpty: true },
  { name: "logout", prepare: EXPIRED, act: ["logout"], live: 1, other: [null] },
];

const home = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "oauth-refresh-lock-power-"));
process.once("exit", () => rmSync(home, { recursive: true, force: true }));
const root = join(home, "state");
const log = join(home, "trace");

/** Runs a program of `act.mjs`, and returns what it says. */
function run([what, ...more]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [ACT, what, root, ...more], { encoding: "utf8" });
  if (status !== 0) throw new Error(`${what} failed: ${stderr}`);
  return stdout;
}

const trace = ([what, ...more], before) => traced([ACT, what, root, ...more], { root, before, log });

function filesBelow(directory) {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** The highest number of a refresh token in some bytes. */
const newest = (bytes) =>
  Math.max(0, ...[...bytes.toString("latin1").matchAll(/refresh-(\d)/g)].map(([, number]) => Number(number)));

/** What has happened before a cut, for all callers to see. */
function seenBy(operations, count, live) {
  const marks = operations.slice(0, count).flatMap(({ kind, text }) => (kind === "mark" ? text.split("\n") : []));
  const told = (word) => marks.findLast((mark) => mark.startsWith(word))?.slice(word.length + 1);
  const answered = told("answered");
  return {
    // A provider that was asked may have given the next token although no answer came.
    lives: answered ? [Number(answered)] : told("asked") === undefined ? [live] : [live, live + 1],
    saw: told("saw"),
  };
}

/** What is wrong with what the next callers got; nothing if all is well. */
function faultOf({ first, second, calls, isDead, later }, { live, saw, kept, other = [] }) {
  const codes = [...first, ...second].flatMap(({ code }) => code ?? []);
  if (isDead) {
    if (saw !== undefined) return "a token that a caller saw is lost";
    if (kept >= live) return "a token that was kept is lost";
    if (calls !== 1 || later !== 0) return "a spent token was sent again";
    return codes.every((code) => ["invalid_grant", "grant_dead"].includes(code)) ? undefined : `errors: ${codes}`;
  }
  if (codes.length > 0) return `errors: ${codes}`;
  if (later !== 0 || calls > 1) return `${calls} calls, and ${later} later`;
  const got = new Set([...first, ...second].map(({ access }) => access));
  if (got.size !== 1) return `different tokens: ${[...got]}`;
  const [access] = got;
  if (saw !== undefined && access !== (saw === "none" ? null : `access-${saw}`)) return `${access} in place of ${saw}`;
  return other.includes(access) || access === `access-${live + calls}` ? undefined : `${access} of ${live}`;
}

/** Files with a token that are neither a store nor a journal. */
const strays = () =>
  filesBelow(root).filter(
    (path) =>
      !/auth-profiles\.json$|\.journal$/.test(path) && /(?:access|refresh)-\d/.test(readFileSync(path, "latin1")),
  );

function isJson(text) {
  try {
    return JSON.parse(text) !== undefined;
  } catch {
    return false;
  }
}

/** What is wrong with the files afterwards. */
function faultOfFiles(foreign) {
  for (const path of filesBelow(root).filter((path) => path.endsWith("auth-profiles.json"))) {
    const text = readFileSync(path, "latin1");
    if (!isJson(text)) return `${path} is torn`;
    if (foreign !== undefined && !text.includes(foreign)) return `${path} has lost what is not ours`;
  }
  // The next writer of a store removes what a dead one left. If nothing had to be written so far, a login is stored.
  if (strays().length > 0) run(["login"]);
  return strays().length > 0 ? `a token is left in ${strays()}` : undefined;
}

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

function powerCuts(scenario) {
  const { name, prepare, cutOf, act, live, agents = ["main"], other, isEmpty } = scenario;
  rmSync(root, { recursive: true, force: true });
  mkdirSync(root, { mode: 0o700 });
  for (const step of prepare) run(step);
  let before = snapshot(root);
  const store = [...before.names].find(([path]) => path.endsWith("main/agent/auth-profiles.json"));
  const text = store && before.bytes.get(store[1]).toString("latin1");
  const foreign = text?.slice(text.indexOf('"other:key"'), text.lastIndexOf("}", text.indexOf('"acme:main"')) + 1);
  if (cutOf) {
    // The power has failed once before: right when the new token was kept, and nothing more was.
    const operations = trace(cutOf, before);
    const count = operations.findIndex((_, at) => keptBy(upTo(operations, at)) === scenario.live);
    if (count < 0) throw new Error("the new token was never kept");
    const durable = upTo(operations, count).flatMap(({ operation, isDurable }) => (isDurable ? [operation] : []));
    restore(after(before, durable), root);
    before = snapshot(root);
  } else restore(before, root);
  const had = Math.max(0, ...[...before.bytes.values()].map(newest));
  const operations = trace(act, before);
  const random = new Random(seed);
  const [seen, faults] = [new Set(), []];
  let lost = 0;
  for (let count = 0; count <= operations.length; count += 1) {
    const until = upTo(operations, count);
    const pending = until.flatMap(({ operation, isDurable }) => (isDurable ? [] : [operation]));
    const kept = Math.max(had, keptBy(until));
    const { lives, saw } = seenBy(operations, count, live);
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
        const said = run(["next", String(alive), ...agents]);
        const result = JSON.parse(said.slice(said.indexOf("RESULT ") + "RESULT ".length));
        const fault = faultOf(result, { live: alive, saw, kept, other }) ?? faultOfFiles(isEmpty ? undefined : foreign);
        lost += Number(result.isDead);
        if (fault) faults.push({ point: count, of: operations.length, fault, result });
      }
    }
  }
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
  const { name, operations, states, lost, faults } = powerCuts(scenario);
  table.push([name, operations, states, lost, faults.length]);
  console.log(
    `${name}: ${states} states after ${operations} operations, ${lost} lost in the call, ${faults.length} faults`,
  );
  for (const fault of faults.slice(0, 10)) console.log(`  ${JSON.stringify(fault)}`);
  isSound &&= faults.length === 0;
}
console.log(table.toString());
process.exitCode = isSound ? 0 : 1;
