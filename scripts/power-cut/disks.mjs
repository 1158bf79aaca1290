/**
 * Power cuts of real file systems: `npm run power-cut:disks [-- --states N] [--seed N] [--only NAME] [--on NAME]`. A disk records what
 * the file system writes to it and when it flushes. The power fails after any of that: what was written since the last flush may be there
 * or not, in any combination, with some of its sectors. From each such disk, the file system is mounted again, and the next callers
 * must find their way. Takes root, and Linux.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { Random } from "../../__test__/support/random.mjs";
import { filesBelow, foreignIn, goOn, newest, run, SCENARIOS, seenBy } from "./check.mjs";

const SECTOR = 512;
const STORE = join("agents", "main", "agent", "auth-profiles.json");
const ext4 = (options, more = {}) => ({ make: ["mkfs.ext4", "-q", "-F"], bytes: 32 << 20, options, ...more });
const FILE_SYSTEMS = {
  "ext4 ordered": ext4("data=ordered"),
  "ext4 writeback": ext4("data=writeback"),
  "ext4 without a journal": {
    ...ext4(undefined, { repair: ["e2fsck", "-fy"] }),
    make: ["mkfs.ext4", "-q", "-F", "-O", "^has_journal"],
  },
  xfs: { make: ["mkfs.xfs", "-q", "-f"], bytes: 300 << 20 },
  btrfs: { make: ["mkfs.btrfs", "-q", "-f"], bytes: 128 << 20 },
};

const { values } = parseArgs({
  options: Object.fromEntries(["states", "seed", "only", "on"].map((name) => [name, { type: "string" }])),
});
/** How many states are tried of each operation on each file system. */
const STATES = Number(values.states ?? 40);
const seed = Number(values.seed ?? Date.now() % 1_000_000);
/** One that is stuck would keep the file system from being unmounted. */
const possible = SCENARIOS.filter(({ stuck }) => !stuck);
const scenarios = possible.filter(({ name }) => values.only === undefined || name === values.only);
const names = Object.keys(FILE_SYSTEMS).filter((name) => values.on === undefined || name === values.on);
if (scenarios.length === 0 || names.length === 0 || !Number.isInteger(STATES) || !Number.isInteger(seed)) {
  const quoted = (some) => some.map((name) => `"${name}"`).join(", ");
  console.error("--states and --seed are whole numbers");
  console.error(`--only is one of ${quoted(possible.map(({ name }) => name))}`);
  console.error(`--on is one of ${quoted(Object.keys(FILE_SYSTEMS))}`);
  process.exit(1);
}
if (process.platform !== "linux" || process.getuid() !== 0) {
  console.error("NOT TESTED: to mount file systems takes root, and Linux");
  process.exit(1);
}

const home = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "oauth-refresh-lock-disks-"));
const [image, log, logged, mounted] = ["image", "log", "logged", "mounted"].map((name) => join(home, name));
const root = join(mounted, "state");
for (const directory of [logged, mounted]) mkdirSync(directory);
process.once("exit", () => {
  for (const directory of [mounted, logged]) spawnSync("umount", ["--lazy", directory], { stdio: "ignore" });
  rmSync(home, { recursive: true, force: true });
});

const manifest = join(import.meta.dirname, "block-log", "Cargo.toml");
const target = join(import.meta.dirname, "..", "..", "target", "block-log");
execFileSync("cargo", ["build", "--release", "--locked", "--manifest-path", manifest, "--target-dir", target], {
  stdio: "inherit",
});

/** No file system that the kernel takes. */
class NotMounted extends Error {}

const copy = (from, to) => execFileSync("cp", ["--sparse=always", from, to]);
function mount(disk, { options }) {
  const all = ["loop", options].filter(Boolean).join(",");
  const { status, stderr } = spawnSync("mount", ["-o", all, disk, mounted], { encoding: "utf8" });
  if (status !== 0) throw new NotMounted(stderr.trim());
}
const unmount = (directory) => execFileSync("umount", [directory]);

/**
 * Does these things on the disk in `image`. Returns what was written to it, and said, from its mounting on, and how much of that was
 * before they began.
 */
async function recorded(fileSystem, steps) {
  const child = spawn(join(target, "release", "block-log"), [logged, image, log], { stdio: "inherit" });
  while (!existsSync(join(logged, "disk"))) {
    if (child.exitCode !== null) throw new Error("the disk that records could not be mounted");
    await sleep(5);
  }
  mount(join(logged, "disk"), fileSystem);
  mkdirSync(root, { recursive: true, mode: 0o700 });
  const marks = openSync(join(logged, "marks"), "a");
  const from = statSync(log).size;
  for (const step of steps) run(root, step, marks);
  const until = statSync(log).size;
  closeSync(marks);
  unmount(mounted);
  unmount(logged);
  await new Promise((resolve) => child.once("close", resolve));
  const bytes = readFileSync(log);
  return { entries: entriesOf(bytes.subarray(0, until)), first: entriesOf(bytes.subarray(0, from)).length };
}

function entriesOf(bytes) {
  const entries = [];
  for (let at = 0; at < bytes.length; ) {
    const [offset, length] = [1, 9].map((skip) => Number(bytes.readBigUInt64LE(at + skip)));
    const data = bytes.subarray(at + 17, at + 17 + length);
    entries.push({ kind: String.fromCharCode(bytes[at]), offset, data });
    at += 17 + length;
  }
  return entries;
}

/** Some of the states in which the disk may be: what has been written to it, and the marks until then. */
function statesOf({ entries, first }, random) {
  const states = [];
  for (let cut = first; cut <= entries.length; cut += 1) {
    const until = entries.slice(0, cut);
    const flushed = until.findLastIndex(({ kind }) => kind === "F") + 1;
    const marks = until.filter(({ kind }) => kind === "M").map(({ data }) => data.toString());
    const [durable, pending] = [until.slice(0, flushed), until.slice(flushed)].map((some) =>
      some.filter(({ kind }) => kind === "W"),
    );
    const state = (isThere, isTorn) =>
      states.push({
        cut,
        marks,
        writes: [...durable, ...pending.filter(isThere).flatMap(isTorn ? torn(random) : (one) => [one])],
      });
    state(() => true, false);
    if (pending.length === 0) continue;
    state(() => false, false);
    state(() => random.below(2) === 0, false);
    state(() => random.below(4) > 0, true);
  }
  const known = new Set();
  const isNew = ({ writes, marks }) => {
    const hash = createHash("sha256").update(marks.join());
    for (const { offset, data } of writes) hash.update(`${offset} `).update(data);
    const print = hash.digest("hex");
    return !known.has(print) && known.add(print);
  };
  const different = states.filter(isNew);
  // Those at the end stay: there a caller has seen the token.
  const early = different.filter(({ cut }) => cut < entries.length).length;
  for (let left = early; left > 0 && different.length > STATES; left -= 1) different.splice(random.below(left), 1);
  return different;
}

/** A write of which some sectors have reached the disk. */
const torn = (random) => (entry) => {
  const sectors = Array.from({ length: Math.ceil(entry.data.length / SECTOR) }, (_, index) => index * SECTOR);
  const reached = sectors.filter(() => random.below(3) > 0);
  return reached.map((at) => ({ ...entry, offset: entry.offset + at, data: entry.data.subarray(at, at + SECTOR) }));
};

function put(disk, writes) {
  const file = openSync(disk, "r+");
  for (const { offset, data } of writes) writeSync(file, data, 0, data.length, offset);
  closeSync(file);
}

/** What becomes of a login on the disk that a cut has left. */
function after({ marks, writes }, base, scenario, fileSystem, foreign) {
  const { lives, saw } = seenBy(marks, scenario.live);
  const found = [];
  for (const live of lives) {
    copy(base, image);
    put(image, writes);
    // Without a journal no rename is one step: the checker may find neither the old file nor the new one.
    const isGone = () => fileSystem.repair && foreign && !existsSync(join(root, STORE));
    const next = () =>
      isGone() ? { result: {}, isGone: true } : goOn(root, scenario, { live, saw, kept: 0, foreign });
    try {
      found.push(onDisk(fileSystem, next));
    } catch (error) {
      if (!(error instanceof NotMounted)) throw error;
      found.push({ result: {}, isUnmounted: true });
    }
  }
  return found;
}

/** Mounts what a disk holds, for as long as `work` takes. */
function onDisk(fileSystem, work) {
  if (fileSystem.repair) spawnSync(fileSystem.repair[0], [...fileSystem.repair.slice(1), image], { stdio: "ignore" });
  mount(image, fileSystem);
  try {
    return work();
  } finally {
    unmount(mounted);
  }
}

/** Makes `base` the disk after a cut as soon as the new token was on it. */
function cutAtReceipt({ entries, first }, base, fileSystem, live) {
  const before = join(home, "before");
  copy(base, before);
  const isKept = () => filesBelow(root).some((path) => newest(readFileSync(path)) >= live);
  for (const [at, { kind }] of entries.entries()) {
    if (at < first || kind !== "F") continue;
    copy(before, image);
    put(
      image,
      entries.slice(0, at).filter((entry) => entry.kind === "W"),
    );
    copy(image, base);
    if (onDisk(fileSystem, isKept)) return;
  }
  throw new Error("the new token was never kept");
}

async function powerCuts(name, scenario) {
  const fileSystem = FILE_SYSTEMS[name];
  const base = join(home, "base");
  rmSync(image, { force: true });
  writeFileSync(image, "");
  truncateSync(image, fileSystem.bytes);
  execFileSync(fileSystem.make[0], [...fileSystem.make.slice(1), image]);
  await recorded(fileSystem, scenario.prepare);
  copy(image, base);
  if (scenario.cutOf) {
    cutAtReceipt(await recorded(fileSystem, [scenario.cutOf]), base, fileSystem, scenario.live);
    copy(base, image);
    onDisk(fileSystem, () => {});
    copy(image, base);
  }
  const foreign = scenario.isEmpty
    ? undefined
    : onDisk(fileSystem, () => foreignIn(readFileSync(join(root, STORE), "latin1")));
  copy(base, image);
  const record = await recorded(fileSystem, [scenario.act]);
  const states = statesOf(record, new Random(seed));
  const counts = { lost: 0, gone: 0, unmounted: 0 };
  const faults = [];
  for (const state of states) {
    for (const { result, fault, isGone = false, isUnmounted = false } of after(
      state,
      base,
      scenario,
      fileSystem,
      foreign,
    )) {
      counts.lost += Number(result.isDead ?? false);
      counts.gone += Number(isGone);
      counts.unmounted += Number(isUnmounted);
      if (fault) faults.push({ cut: state.cut, of: record.entries.length, fault, result });
    }
  }
  const { entries, first } = record;
  return {
    writes: entries.slice(first).filter(({ kind }) => kind === "W").length,
    states: states.length,
    ...counts,
    faults,
  };
}

console.log(`seed ${seed}`);
const table = new Table({
  head: ["", "", "writes", "states", "not mounted", "store gone", "a token lost in the call", "faults"],
  style: { head: [], border: [], compact: true },
});
let isSound = true;
for (const name of names) {
  const program = FILE_SYSTEMS[name].make[0];
  if (spawnSync(program, ["-V"], { stdio: "ignore" }).error) {
    console.error(`NOT TESTED: ${name}: ${program} is not installed`);
    continue;
  }
  for (const scenario of scenarios) {
    const { writes, states, unmounted, gone, lost, faults } = await powerCuts(name, scenario);
    table.push([name, scenario.name, writes, states, unmounted, gone, lost, faults.length]);
    console.log(
      `${name}, ${scenario.name}: ${writes} writes, ${states} states, ${lost} lost in the call, ${faults.length} faults`,
    );
    for (const fault of faults.slice(0, 10)) console.log(`  ${JSON.stringify(fault)}`);
    isSound &&= faults.length === 0;
  }
}
console.log(`${table}`);
process.exitCode = isSound ? 0 : 1;
