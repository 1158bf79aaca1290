const { createHash, randomUUID } = require("node:crypto");
const { getEventListeners } = require("node:events");
const { setTimeout: sleep } = require("node:timers/promises");
const args = require("../arguments.js");
const { within } = require("./limit.js");

const OPTIONS = ["another", "rounds", "writers"];
const DEFAULT_ROUNDS = 10;
const DEFAULT_WRITERS = 8;
const MOST = 1_000;
/** An operation that takes longer hangs. */
const LONGEST_MS = 60_000;
/** How soon `changed` should tell of a change. */
const TOLD_MS = 10_000;
/** How soon `changed` must end when its signal aborts. */
const ABORTED_MS = 5_000;
/** How exact an age must be. It decides about minutes. */
const AGE_SLACK_MS = 1_000;
/** A row's values have up to 64 KiB. */
const LONG_VALUE_BYTES = 60 * 1024;

/** What an adapter does wrong. */
class Broken extends Error {}

function must(holds, what) {
  if (!holds) throw new Broken(what);
}

/**
 * Tries whether a coordinator keeps the rules of `Coordinator` in index.d.ts. It writes some fifty rows under keys of its own, and
 * leaves them there: a coordinator has no way to delete.
 *
 * @param {object} coordinator
 * @param {{ another?: object, rounds?: number, writers?: number }} [given] `another`: as another process has it, for the same engine
 * @returns {Promise<{ ok: boolean, checks: { rule: string, ok: boolean, detail?: string }[] }>}
 */
async function checkCoordinator(coordinator, given) {
  const { another, rounds, writers } = args.optionsObject(given, "options", OPTIONS);
  const context = {
    one: args.object("coordinator", coordinator),
    other: another === undefined ? coordinator : args.object("another", another),
    rounds: count("rounds", rounds, DEFAULT_ROUNDS),
    writers: count("writers", writers, DEFAULT_WRITERS),
  };
  const { shape, ...others } = RULES;
  const checks = [await result("shape", () => shape(context))];
  // Without its functions there is nothing to try. The others have keys of their own, and some of them wait most of the time.
  if (checks[0].ok) {
    const rules = Object.entries(others);
    checks.push(...(await Promise.all(rules.map(([rule, check]) => result(rule, () => check(context))))));
  }
  return { ok: checks.every(({ ok }) => ok), checks };
}

async function result(rule, check) {
  try {
    const detail = await check();
    return detail === undefined ? { rule, ok: true } : { rule, ok: true, detail };
  } catch (error) {
    const detail = error instanceof Broken ? error.message : `it threw: ${error?.message ?? error}`;
    return { rule, ok: false, detail };
  }
}

function count(name, value, fallback) {
  if (value === undefined) return fallback;
  if (!Number.isInteger(value) || value < 1 || value > MOST) {
    throw args.invalid(`${name} must be a whole number from 1 to ${MOST}`);
  }
  return value;
}

/** A key that nobody has used, as the core makes them. */
function newKey() {
  return createHash("sha256").update(randomUUID()).digest("hex");
}

const json = (value) => JSON.stringify(value);

/** What an operation resolves with, which may not be a promise's. */
function answer(operation, given) {
  const late = () => new Broken(`${operation} did not answer within ${LONGEST_MS} ms`);
  return within(LONGEST_MS, Promise.resolve(given), late);
}

/** Loads a row, and looks at what comes. */
async function load(coordinator, key) {
  const entry = await answer("load", coordinator.load(key));
  if (entry === null) return null;
  must(typeof entry === "object", `load resolved with ${args.kind(entry)} and not with an object or null`);
  must(
    isVersion(entry.version),
    `load gave a version that is ${shown(entry.version)} and not a string with characters`,
  );
  must(typeof entry.value === "string", `load gave a value that is ${shown(entry.value)} and not a string`);
  must(
    entry.ageMs === undefined || (Number.isFinite(entry.ageMs) && entry.ageMs >= 0),
    `load gave an ageMs that is ${shown(entry.ageMs)} and not milliseconds from 0 on`,
  );
  return entry;
}

async function loaded(coordinator, key) {
  const entry = await load(coordinator, key);
  must(entry !== null, "load gave null for a row that was written");
  return entry;
}

async function swap(coordinator, key, expected, value) {
  const version = await answer("compareAndSwap", coordinator.compareAndSwap(key, expected, value));
  must(
    version === null || isVersion(version),
    `compareAndSwap resolved with ${shown(version)} and not with a string or null`,
  );
  return version;
}

/** A swap that nothing is in the way of. */
async function written(coordinator, key, expected, value) {
  const version = await swap(coordinator, key, expected, value);
  must(version !== null, "compareAndSwap gave null although the version was the expected one");
  return version;
}

function isVersion(version) {
  return typeof version === "string" && version !== "";
}

function shown(value) {
  return typeof value === "string" ? json(value.slice(0, 40)) : args.kind(value);
}

/** The one that won among writers at once. */
function onlyWinner(versions, what) {
  const winners = versions.flatMap((version, index) => (version === null ? [] : [index]));
  must(winners.length === 1, `of ${versions.length} writers at once ${winners.length} ${what}, and not one`);
  return winners[0];
}

const range = (length) => Array.from({ length }, (_, index) => index);

/** Each rule, and what is tried for it. A check may return what is worth knowing although nothing is wrong. */
const RULES = {
  /** It has a name and functions. */
  async shape({ one, other }) {
    for (const coordinator of new Set([one, other])) {
      must(typeof coordinator.name === "string" && coordinator.name !== "", "name must be a string with characters");
      for (const name of ["load", "compareAndSwap"]) {
        must(typeof coordinator[name] === "function", `${name} must be a function`);
      }
      must(
        coordinator.changed === undefined || typeof coordinator.changed === "function",
        "changed must be a function, if it is there",
      );
    }
  },

  /** A row that nobody wrote is null. */
  async absent({ one }) {
    must((await load(one, newKey())) === null, "load gave a row that nobody wrote");
    const version = await written(one, newKey(), null, json("for its version"));
    const late = await swap(one, newKey(), version, json("there is no such row"));
    must(late === null, "compareAndSwap updated a row that is not there");
  },

  /** A row is created once. */
  async "create once"({ one }) {
    const key = newKey();
    const version = await written(one, key, null, json("first"));
    const again = await swap(one, key, null, json("second"));
    must(again === null, "compareAndSwap created a row that was there");
    const entry = await loaded(one, key);
    must(entry.value === json("first"), "a second creation replaced the value");
    must(entry.version === version, "load gave another version than compareAndSwap");
  },

  /** Of those who create a row at once, one wins. */
  async "one creator"({ one, other, rounds, writers }) {
    for (const _ of range(rounds)) {
      const key = newKey();
      const versions = await Promise.all(
        range(writers).map((writer) => swap(writer % 2 ? other : one, key, null, json(writer))),
      );
      const winner = onlyWinner(versions, "created the row");
      must((await loaded(one, key)).value === json(winner), "the row has the value of a creator that was told null");
    }
  },

  /** A version that is not the row's changes nothing. */
  async "stale version"({ one }) {
    const key = newKey();
    const first = await written(one, key, null, json(1));
    await written(one, key, first, json(2));
    must((await swap(one, key, first, json(3))) === null, "compareAndSwap accepted a version that was replaced");
    must((await loaded(one, key)).value === json(2), "a swap with a version that was replaced changed the value");
  },

  /** Of those who update a row from one version at once, one wins. */
  async "one updater"({ one, other, rounds, writers }) {
    const key = newKey();
    let version = await written(one, key, null, json(-1));
    for (const _ of range(rounds)) {
      const versions = await Promise.all(
        range(writers).map((writer) => swap(writer % 2 ? other : one, key, version, json(writer))),
      );
      const winner = onlyWinner(versions, "updated the row from one version");
      const entry = await loaded(one, key);
      must(entry.value === json(winner), "the row has the value of an updater that was told null");
      version = versions[winner];
    }
  },

  /** No update is lost. */
  async "no lost update"({ one, other, rounds, writers }) {
    const key = newKey();
    await written(one, key, null, json(0));
    // One writer wins whenever another loses, so that nobody loses more often than this.
    let left = rounds * writers * writers;
    const increment = async (coordinator) => {
      for (let done = 0; done < rounds; ) {
        must(left-- > 0, "writers read a version and swap from it, and hardly ever win");
        const { version, value } = await loaded(coordinator, key);
        if ((await swap(coordinator, key, version, json(JSON.parse(value) + 1))) !== null) done++;
      }
    };
    await Promise.all(range(writers).map((writer) => increment(writer % 2 ? other : one)));
    const end = JSON.parse((await loaded(one, key)).value);
    must(end === rounds * writers, `after ${rounds * writers} increments the row says ${end}`);
  },

  /** Each write gives a version that the row never had, also one that writes the same value. */
  async "new versions"({ one, rounds }) {
    const key = newKey();
    const versions = [await written(one, key, null, json("a"))];
    for (const round of range(Math.max(rounds, 4))) {
      versions.push(await written(one, key, versions.at(-1), json(round % 4 < 2 ? "a" : "b")));
    }
    must(new Set(versions).size === versions.length, "compareAndSwap gave a version for the second time");
    must((await loaded(one, key)).version === versions.at(-1), "load gave another version than compareAndSwap");
  },

  /** Rows are apart, though their keys differ in the last digit only. */
  async "keys apart"({ one }) {
    const start = newKey().slice(0, -1);
    const keys = ["0", "1"].map((digit) => start + digit);
    for (const key of keys) await written(one, key, null, json(key));
    for (const key of keys) must((await loaded(one, key)).value === json(key), "one row has the value of another");
  },

  /** A value comes back as it was. */
  async "same bytes"({ one }) {
    const values = [
      json({ quotes: "'\"\\`$1 %s $$", lines: "a\r\nb\tc\u0000\u2028", signs: "äß€中😀\u{10ffff}\ufeff" }),
      '  { "spaces" : [ 1.0, 1e3 ] }\n',
      json("é".repeat(LONG_VALUE_BYTES / 2)),
      json(Buffer.alloc((LONG_VALUE_BYTES * 3) / 4, "\u00ff\u0000z", "latin1").toString("base64")),
    ];
    for (const value of values) {
      const key = newKey();
      const version = await written(one, key, null, value);
      must((await loaded(one, key)).value === value, `a created value came back changed: ${value.slice(0, 40)}`);
      await written(one, key, version, `${value} `);
      must((await loaded(one, key)).value === `${value} `, `an updated value came back changed: ${value.slice(0, 40)}`);
    }
  },

  /** What one process wrote, another reads at once. */
  async "read at once"({ one, other, rounds }) {
    const key = newKey();
    let version = await written(one, key, null, json(0));
    for (const round of range(rounds)) {
      const [writer, reader] = round % 2 ? [other, one] : [one, other];
      version = await written(writer, key, version, json(round));
      const entry = await loaded(reader, key);
      must(
        entry.value === json(round) && entry.version === version,
        "a load after a write gave what was there before it",
      );
    }
    if (one === other) return "tried with one coordinator only; give `another`, as another process has it";
  },

  /** The age is the time since the last write, by the engine's clock. */
  async age({ one }) {
    const key = newKey();
    const beforeFirst = performance.now();
    const first = await written(one, key, null, json(1));
    if ((await loaded(one, key)).ageMs === undefined)
      return "it tells no age; a waiter counts from when it first saw a row";
    for (const write of [undefined, () => written(one, key, first, json(2))]) {
      const before = write ? performance.now() : beforeFirst;
      await write?.();
      const after = performance.now();
      await sleep(2 * AGE_SLACK_MS);
      const least = performance.now() - after - AGE_SLACK_MS;
      const { ageMs } = await loaded(one, key);
      const most = performance.now() - before + AGE_SLACK_MS;
      must(ageMs !== undefined, "load gave an ageMs once, and then none");
      must(ageMs >= least && ageMs <= most, `a row of ${Math.round(least + AGE_SLACK_MS)} ms has an ageMs of ${ageMs}`);
    }
  },

  /** `changed` resolves after a write of another process, and when the row is newer already. */
  async told({ one, other }) {
    if (one.changed === undefined) return "it has no `changed`; a waiter looks now and then";
    const wait = async (when) => {
      const key = newKey();
      const version = await written(other, key, null, json(1));
      if (when === "before") await written(other, key, version, json(2));
      const abort = new AbortController();
      const told = promised(one.changed(key, version, abort.signal)).catch(() => {});
      if (when === "meanwhile") {
        await sleep(200);
        await written(other, key, version, json(2));
      }
      const start = performance.now();
      const isTold = await Promise.race([told.then(() => true), sleep(TOLD_MS, false)]);
      abort.abort();
      const how = isTold ? `after ${Math.round(performance.now() - start)} ms` : `not within ${TOLD_MS} ms`;
      return `written ${when}: ${how}`;
    };
    const notes = (await Promise.all([wait("meanwhile"), wait("before")])).join("; ");
    return notes.includes("not within") ? `${notes}; a waiter looks now and then` : notes;
  },

  /** When its signal aborts, `changed` ends and leaves no listener, and it can be called again. */
  async abort({ one, other }) {
    if (one.changed === undefined) return "it has no `changed`";
    const key = newKey();
    const version = await written(other, key, null, json(1));
    for (const delay of [0, 100, "before"]) {
      const abort = new AbortController();
      if (delay === "before") abort.abort();
      const ended = promised(one.changed(key, version, abort.signal)).then(
        () => true,
        () => true,
      );
      if (delay !== "before") await sleep(delay);
      abort.abort();
      must(await Promise.race([ended, sleep(ABORTED_MS, false)]), "changed did not end when its signal aborted");
      must(getEventListeners(abort.signal, "abort").length === 0, "changed left a listener on its signal");
    }
    must((await loaded(one, key)).version === version, "the row changed while nobody wrote");
  },
};

function promised(value) {
  must(typeof value?.then === "function", "changed must return a promise");
  return value;
}

module.exports = { checkCoordinator, RULES: Object.keys(RULES) };
