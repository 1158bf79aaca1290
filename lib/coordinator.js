const os = require("node:os");
const { unwrap } = require("./errors.js");
const { native } = require("./native.js");

/** The native sides of coordinators, by the objects that programs give. */
const natives = new WeakMap();
/** The name of a row that no refresh token has. */
const NOBODYS_ROW = "0".repeat(64);
/** Of an engine's own words a person needs no more. */
const MAX_WORDS = 300;

/**
 * What a refresh needs of a coordinator.
 *
 * @param {import("./arguments.js").CheckedCoordinator | undefined} given
 */
function nativeCoordinator(given) {
  if (!given) return undefined;
  if (!natives.has(given.coordinator)) natives.set(given.coordinator, toNative(given));
  return natives.get(given.coordinator);
}

/** What people call this host. */
const hostName = () => os.hostname();

function toNative({ name, load, compareAndSwap, changed }) {
  const answers = new (native().NativeAnswers)();
  const watches = new Map();
  const asked = {
    load: async (row) => entry(await load(row)),
    compareAndSwap: async (row, version, value) => newVersion(await compareAndSwap(row, version ?? null, value)),
  };
  const ask = (number, step, row, version, value, ms) => {
    if (step === "endWatch") return void watches.get(number)?.();
    if (step === "watch") return void watch(number, () => answers.give(number), { row, version, ms });
    return void told(() => asked[step](row, version, value)).then((answer) => answers.give(number, answer));
  };

  /** Tells once the row has changed. A wait that ends early costs a look. */
  async function watch(number, tell, { row, version, ms }) {
    const controller = new AbortController();
    const end = () => {
      watches.delete(number);
      clearTimeout(timer);
      controller.abort();
    };
    const timer = setTimeout(end, Math.ceil(ms)).unref();
    watches.set(number, end);
    const aborted = new Promise((resolve) => controller.signal.addEventListener("abort", resolve, { once: true }));
    try {
      // One that can't tell leaves it to the limit.
      await Promise.race([changed ? changed(row, version, controller.signal) : aborted, aborted]);
    } catch {
      // So does one that fails: the next look says why.
      await aborted;
    }
    end();
    tell();
  }

  return new (native().NativeCoordinator)(name, answers, ask);
}

/** What a step came to, as JSON for the native side. */
async function told(step) {
  try {
    return JSON.stringify({ told: await step() });
  } catch (error) {
    return JSON.stringify({ failed: words(error) });
  }
}

function entry(loaded) {
  if (loaded == null) return null;
  const { version, value, ageMs } = loaded;
  if (typeof version !== "string" || typeof value !== "string") {
    throw new TypeError("its `load` returned neither null nor an entry with a `version` and a `value`, both text");
  }
  return { version, value, ageMs: Number.isFinite(ageMs) ? ageMs : undefined };
}

function newVersion(version) {
  if (version == null) return null;
  if (typeof version === "string") return version;
  throw new TypeError("its `compareAndSwap` returned neither null nor a version, which is text");
}

/**
 * A row, for people: what other hosts do with a login.
 *
 * @param {import("./arguments.js").CheckedCoordinator} coordinator
 * @param {string} name
 */
async function rowOf({ load }, name) {
  try {
    const found = entry(await load(name));
    if (!found) return { shown: { state: "free" } };
    const { state, host, pid, attempts, inDoubt } = unwrap(native().readRow(found.value));
    const given = (value) => value ?? undefined;
    const claim = { host: given(host), pid: given(pid), ageMs: found.ageMs };
    return { value: found.value, shown: { state, ...claim, attempts, inDoubt: given(inDoubt) } };
  } catch (error) {
    return { shown: { state: "unknown", problem: problemOf(error) } };
  }
}

/**
 * Rows, for people, by their names.
 *
 * @param {import("./arguments.js").CheckedCoordinator} coordinator
 * @param {string[]} names
 * @param {(rows: { name: string, value: string }[]) => Promise<string[]>} notToBeOpened of these, by name
 */
async function rowsOf(coordinator, names, notToBeOpened) {
  const rows = new Map(await Promise.all(names.map(async (name) => [name, await rowOf(coordinator, name)])));
  const written = [...rows].flatMap(([name, { value }]) => (value === undefined ? [] : [{ name, value }]));
  for (const name of written.length > 0 ? await notToBeOpened(written) : []) {
    const message = "its row can't be opened: was it changed by hand, or sealed with another coordinatorKey?";
    rows.set(name, { shown: { state: "unknown", problem: problemOf({ message }) } });
  }
  return Object.fromEntries([...rows].map(([name, { shown }]) => [name, shown]));
}

/**
 * Why an engine can't be written, if it can't be: tried by a swap that changes nothing, as there is no such row.
 *
 * @param {import("./arguments.js").CheckedCoordinator} given one of ours: another's versions are not known
 */
async function whyNotWritable({ coordinator, compareAndSwap }) {
  try {
    // Where that takes another right than a swap.
    await coordinator.tryToCreate?.();
    await compareAndSwap(NOBODYS_ROW, "1", "{}");
    return undefined;
  } catch (error) {
    return problemOf(error);
  }
}

const problemOf = (error) => ({ code: "coordinator_unavailable", message: words(error) });

/** What an engine says, without what it may repeat of an address: a password. */
function words(error) {
  let text = "its function failed";
  try {
    text = String(error?.message || error?.code || text).replace(/\s+/g, " ");
  } catch {
    // An error that can't be read.
  }
  return text.replaceAll(/\/\/.*@/g, "//").slice(0, MAX_WORDS);
}

module.exports = { hostName, nativeCoordinator, rowsOf, whyNotWritable };
