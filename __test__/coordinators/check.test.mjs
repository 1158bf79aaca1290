/** The conformance suite: what is right passes, and each rule is broken by a coordinator that is wrong in one thing. */
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test, vi } from "vitest";
import { MemoryCoordinator } from "./support/memory.mjs";

const { checkCoordinator, RULES } = createRequire(import.meta.url)("../../lib/coordinators/check.js");
const QUICK = { rounds: 4, writers: 4 };

/** The rules that a coordinator breaks. */
async function broken(coordinator, options = QUICK) {
  const { ok, checks } = await checkCoordinator(coordinator, options);
  const failed = checks.filter((check) => !check.ok);
  expect(ok).toBe(failed.length === 0);
  for (const { detail } of failed) expect(detail).toMatch(/\w/);
  return failed.map(({ rule }) => rule);
}

test("a right coordinator passes, alone and with another", async () => {
  const one = new MemoryCoordinator();
  const alone = await checkCoordinator(one);
  expect(alone.checks.map(({ rule, ok }) => [rule, ok])).toEqual(RULES.map((rule) => [rule, true]));
  expect(alone.checks.find(({ rule }) => rule === "read at once").detail).toMatch("give `another`");
  const both = await checkCoordinator(one, { another: new MemoryCoordinator(one.engine) });
  expect(both.checks.find(({ rule }) => rule === "read at once")).toEqual({ rule: "read at once", ok: true });
  expect(both.ok).toBe(true);
});

test("one that can't tell of changes and ages passes, and the report says so", async () => {
  const right = new MemoryCoordinator();
  const { ok, checks } = await checkCoordinator({
    name: "plain",
    async load(key) {
      const entry = await right.load(key);
      return entry && { version: entry.version, value: entry.value };
    },
    compareAndSwap: (key, expected, value) => right.compareAndSwap(key, expected, value),
  });
  expect(ok).toBe(true);
  expect(checks.filter(({ detail }) => detail !== undefined).map(({ rule }) => rule)).toEqual([
    "read at once",
    "age",
    "told",
    "abort",
  ]);
});

/** A coordinator that is wrong in one thing. */
const wrong = (methods) => Object.assign(new MemoryCoordinator(), methods);
const right = MemoryCoordinator.prototype;

/** By rule: coordinators that break it, perhaps others besides. */
const MUTANTS = {
  shape: {
    "has no name": () => wrong({ name: "" }),
    "has no load": () => wrong({ load: undefined }),
    "has a changed that is no function": () => wrong({ changed: true }),
  },
  absent: {
    "gives an empty row": () =>
      wrong({
        async load(key) {
          return (await right.load.call(this, key)) ?? { version: "0", value: "" };
        },
      }),
    "updates what is not there": () =>
      wrong({
        compareAndSwap(key, expected, value) {
          const isThere = this.engine.rows.has(key);
          return right.compareAndSwap.call(this, key, isThere ? expected : null, value);
        },
      }),
    "gives undefined": () => wrong({ load: async () => undefined }),
  },
  "create once": {
    "creates over a row": () =>
      wrong({
        compareAndSwap(key, expected, value) {
          if (expected === null) this.engine.rows.delete(key);
          return right.compareAndSwap.call(this, key, expected, value);
        },
      }),
    "says null and replaces": () =>
      wrong({
        async compareAndSwap(key, expected, value) {
          const row = this.engine.rows.get(key);
          if (expected === null && row) row.value = value;
          return right.compareAndSwap.call(this, key, expected, value);
        },
      }),
    "gives another version than load": () =>
      wrong({
        async compareAndSwap(key, expected, value) {
          const version = await right.compareAndSwap.call(this, key, expected?.slice(1) ?? null, value);
          return version === null ? null : `v${version}`;
        },
      }),
  },
  "one creator": {
    "looks, and creates later": () =>
      wrong({
        async compareAndSwap(key, expected, value) {
          if (expected !== null) return right.compareAndSwap.call(this, key, expected, value);
          if (await this.load(key)) return null;
          this.engine.rows.delete(key);
          return right.compareAndSwap.call(this, key, null, value);
        },
      }),
    "tells nobody that it won": () =>
      wrong({
        async compareAndSwap(key, expected, value) {
          const version = await right.compareAndSwap.call(this, key, expected, value);
          return expected === null && value === "0" ? null : version;
        },
      }),
  },
  "stale version": {
    "takes any version": () =>
      wrong({
        async compareAndSwap(key, expected, value) {
          const now = this.engine.rows.get(key)?.version ?? null;
          return right.compareAndSwap.call(this, key, expected === null ? null : now, value);
        },
      }),
    "says null and writes": () =>
      wrong({
        async compareAndSwap(key, expected, value) {
          const row = this.engine.rows.get(key);
          if (row && expected !== null) row.value = value;
          return right.compareAndSwap.call(this, key, expected, value);
        },
      }),
  },
  "one updater": {
    "looks, and updates later": () => wrong({ compareAndSwap: lookThenWrite }),
  },
  "no lost update": {
    "looks, and updates later": () => wrong({ compareAndSwap: lookThenWrite }),
    "says that it wrote, now and then": () => {
      let calls = 0;
      return wrong({
        async compareAndSwap(key, expected, value) {
          if (expected !== null && ++calls % 5 === 0) return "lost";
          return right.compareAndSwap.call(this, key, expected, value);
        },
      });
    },
  },
  "new versions": {
    "takes the value for the version": () => wrong({ compareAndSwap: versionIsValue }),
    "keeps the version of an equal value": () =>
      wrong({
        async compareAndSwap(key, expected, value) {
          const row = this.engine.rows.get(key);
          if (row?.version === expected && row?.value === value) return expected;
          return right.compareAndSwap.call(this, key, expected, value);
        },
      }),
  },
  "keys apart": {
    "cuts keys": () =>
      wrong({
        load(key) {
          return right.load.call(this, key.slice(0, 40));
        },
        async compareAndSwap(key, expected, value) {
          const version = await right.compareAndSwap.call(this, key.slice(0, 40), expected, value);
          return version ?? (expected === null ? "taken" : null);
        },
      }),
  },
  "same bytes": {
    "parses values": () => wrong({ compareAndSwap: withValue((value) => JSON.stringify(JSON.parse(value))) }),
    "cuts values": () => wrong({ compareAndSwap: withValue((value) => value.slice(0, 50_000)) }),
    "keeps Latin-1": () =>
      wrong({ compareAndSwap: withValue((value) => Buffer.from(value, "latin1").toString("latin1")) }),
    "trims values": () => wrong({ compareAndSwap: withValue((value) => value.trim()) }),
  },
  "read at once": {
    "reads from a replica": () => {
      const behind = new Map();
      return wrong({
        async load(key) {
          const now = await right.load.call(this, key);
          const last = behind.get(key) ?? now;
          behind.set(key, now);
          return last;
        },
      });
    },
  },
  age: {
    "counts in seconds": () => wrong({ load: withAge((ageMs) => ageMs / 1_000) }),
    "counts from the first write": () => {
      const first = new Map();
      return wrong({
        async load(key) {
          const entry = await right.load.call(this, key);
          if (entry && !first.has(key)) first.set(key, performance.now() - entry.ageMs);
          return entry && { ...entry, ageMs: performance.now() - first.get(key) };
        },
      });
    },
    "is another host's clock": () => wrong({ load: withAge((ageMs) => ageMs + 60_000) }),
    "is text": () => wrong({ load: withAge(String) }),
    "is negative": () => wrong({ load: withAge((ageMs) => -ageMs) }),
  },
  told: {
    "returns no promise": () => wrong({ changed: () => {} }),
  },
  abort: {
    "never ends": () => wrong({ changed: () => new Promise(() => {}) }),
    "leaves its listener": () =>
      wrong({
        changed(key, version, signal) {
          signal.addEventListener("abort", () => {});
          return right.changed.call(this, key, version, signal);
        },
      }),
  },
};

async function lookThenWrite(key, expected, value) {
  if (((await this.load(key))?.version ?? null) !== expected) return null;
  await sleep(1);
  return right.compareAndSwap.call(this, key, this.engine.rows.get(key)?.version ?? null, value);
}

async function versionIsValue(key, expected, value) {
  if ((await right.compareAndSwap.call(this, key, expected, value)) === null) return null;
  this.engine.rows.get(key).version = value;
  return value;
}

function withValue(change) {
  return function compareAndSwap(key, expected, value) {
    return right.compareAndSwap.call(this, key, expected, change(value));
  };
}

function withAge(change) {
  return async function load(key) {
    const entry = await right.load.call(this, key);
    return entry && { ...entry, ageMs: change(entry.ageMs) };
  };
}

test("every rule has coordinators that break it", () => {
  expect(Object.keys(MUTANTS)).toEqual(RULES);
});

describe.concurrent.each(Object.entries(MUTANTS))("the rule %s", (rule, mutants) => {
  test.concurrent.each(Object.entries(mutants))("is broken by one that %s", async (_, make) => {
    expect(await broken(make())).toContain(rule);
  });
});

/** Answers of a wrong type, whatever was asked. */
test.concurrent.each([
  ["a version that is a number", { load: async () => ({ version: 1, value: "{}" }) }],
  ["an empty version", { load: async () => ({ version: "", value: "{}" }) }],
  ["a value that is an object", { load: async () => ({ version: "1", value: {} }) }],
  ["a row that is text", { load: async () => "{}" }],
  ["true for a swap", { compareAndSwap: async () => true }],
  ["undefined for a swap", { compareAndSwap: async () => undefined }],
  ["a number for a swap", { compareAndSwap: async () => 7 }],
])("refused is an answer of %s", async (_, methods) => {
  expect(await broken(wrong(methods))).toContain("absent");
});

test("one that throws fails, and the report has what it threw", async () => {
  const { ok, checks } = await checkCoordinator(
    wrong({ load: () => Promise.reject(new Error("no such table")) }),
    QUICK,
  );
  expect(ok).toBe(false);
  expect(checks.find(({ rule }) => rule === "absent").detail).toBe("it threw: no such table");
});

test("one that never answers fails, and one that needs half a minute for each answer passes", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  try {
    const checked = async (coordinator) => {
      let report;
      const checking = checkCoordinator(coordinator, QUICK).then((made) => {
        report = made;
      });
      while (!report) await vi.advanceTimersByTimeAsync(1_000);
      await checking;
      return report;
    };
    const silent = await checked(wrong({ load: () => new Promise(() => {}) }));
    expect(silent.checks.find(({ rule }) => rule === "absent").detail).toBe("load did not answer within 60000 ms");
    const right = new MemoryCoordinator();
    const after = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const slow = await checked({
      name: "slow",
      load: (key) => after(30_000).then(() => right.load(key)),
      compareAndSwap: (...given) => after(30_000).then(() => right.compareAndSwap(...given)),
    });
    expect(slow.checks.filter(({ ok }) => !ok)).toEqual([]);
  } finally {
    vi.useRealTimers();
  }
});

test("a changed that never resolves is no fault, and the report says so", async () => {
  const deaf = wrong({
    changed: (_key, _version, signal) =>
      new Promise((resolve) => {
        if (signal.aborted) resolve();
        else signal.addEventListener("abort", () => resolve(), { once: true });
      }),
  });
  const { ok, checks } = await checkCoordinator(deaf, QUICK);
  expect(ok).toBe(true);
  expect(checks.find(({ rule }) => rule === "told").detail).toMatch("not within");
});

test("wrong arguments are refused", async () => {
  for (const given of [[null], ["postgres"], [wrong({}), { rounds: 0 }], [wrong({}), { writer: 3 }]]) {
    await expect(checkCoordinator(...given)).rejects.toMatchObject({ code: "invalid_argument" });
  }
});
