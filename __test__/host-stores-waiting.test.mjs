/** A host's store that takes its time, or never answers: it delays its own callers and nobody else. */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { withOAuthRefreshLock } from "../index.mjs";
import { answering, held, listen, rejection, typedRejection, unwanted } from "./support/calls.mjs";
import { deferred } from "./support/events.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER, usable } from "./support/host.mjs";
import { call, heldStore, memoryStore } from "./support/host-stores.mjs";
import { startProgram } from "./support/programs.mjs";

/** More than there are threads that all calls share. */
const MANY = 24;
/** How often a store is read for a refresh. */
const LOADS = 6;

/** A store whose `load` never returns from its `nth` call on, until the test is over; `silent` tells that it came to that. */
function silentStore(name, credential, nth = 1) {
  const store = memoryStore(name, credential);
  const usual = store.load.getMockImplementation();
  const [silent, end] = [deferred(), deferred()];
  let calls = 0;
  store.load.mockImplementation((...given) => {
    calls += 1;
    if (calls < nth) return usual(...given);
    silent.resolve();
    return end.promise;
  });
  onTestFinished(() => end.resolve(null));
  return Object.assign(store, { silent: silent.promise });
}

describe("a store that does not answer", () => {
  test("delays no other key, however many callers wait for such stores", async () => {
    const host = createHost({ main: expired() });
    const end = new AbortController();
    const stores = Array.from({ length: MANY }, (_, number) => silentStore(`store ${number}`, expired()));
    const waiting = stores.map((store) =>
      rejection(
        withOAuthRefreshLock(PROVIDER, store.name, unwanted(), {
          stateDir: host.stateDir,
          store,
          signal: end.signal,
        }),
      ),
    );
    await Promise.all(stores.map((store) => store.silent));
    const refresh = answering();
    expect((await withOAuthRefreshLock(PROVIDER, PROFILE, refresh, host.as("main"))).outcome).toBe("refreshed");
    end.abort();
    for (const error of await Promise.all(waiting)) expect(error.code).toBe("caller_aborted");
  });

  test.each(Array.from({ length: LOADS }, (_, at) => at + 1))(
    "delays no other key, wherever in a refresh that is (read %i)",
    async (nth) => {
      const host = createHost({ main: expired() });
      const store = silentStore("own", expired(), nth);
      const refreshed = withOAuthRefreshLock(PROVIDER, "silent", answering(), { stateDir: host.stateDir, store });
      refreshed.catch(() => {});
      // The refresh may need fewer.
      await Promise.race([store.silent, refreshed]);
      const refresh = answering();
      expect((await withOAuthRefreshLock(PROVIDER, PROFILE, refresh, host.as("main"))).outcome).toBe("refreshed");
    },
  );

  test("is told to a caller whose time is up", async () => {
    const store = silentStore("own", expired());
    const made = call(createHost(), unwanted(), { store, timeoutMs: 2_000 });
    expect((await typedRejection(made, "store_unreadable")).path).toBe("host:own");
  });

  test("is not waited for by a caller who would take what has not expired", async () => {
    const store = silentStore("own", expired());
    const options = { store, timeoutMs: 2_000, serveUnexpired: true };
    await typedRejection(call(createHost(), unwanted(), options), "store_unreadable");
  });

  test("is not waited for by the process of a caller who has gone", async () => {
    const program = startProgram("silent-store", { stateDir: createHost().stateDir });
    await program.told({ type: "gone", code: "caller_aborted" });
    expect(await program.exited).toEqual({ code: 0, signal: null });
  });
});

describe("a store's function", () => {
  test("may call for other keys, however many do so at a time", async () => {
    const host = createHost();
    const vault = memoryStore("vault", usable());
    const stores = Array.from({ length: MANY }, (_, number) => memoryStore(`store ${number}`, usable()));
    for (const store of stores)
      store.load.mockImplementation(async () => {
        await withOAuthRefreshLock(PROVIDER, "vault", unwanted(), { stateDir: host.stateDir, store: vault });
        return store.held;
      });
    const calls = stores.map((store) =>
      withOAuthRefreshLock(PROVIDER, store.name, unwanted(), { stateDir: host.stateDir, store }),
    );
    expect((await Promise.all(calls)).map(({ outcome }) => outcome)).toEqual(Array(MANY).fill("fresh"));
  });

  test("may leave behind what calls for its own key later", async () => {
    const host = createHost();
    const store = memoryStore("own", expired());
    const usual = store.load.getMockImplementation();
    const second = deferred();
    let left;
    store.load.mockImplementationOnce(async () => {
      left = second.promise.then(() => call(host, unwanted(), { store }));
      return usual();
    });
    store.load.mockImplementationOnce(async () => {
      second.resolve();
      await new Promise(setImmediate);
      return usual();
    });
    const { credential } = await call(host, answering(), { store });
    expect((await left).credential).toEqual(credential);
  });
});

/**
 * Who waits while a peer refreshes a login in a host's store: all look at it at a time once it is there, and none with the lock
 * held.
 */

const CALLERS = 20;
const PROCESSES = 5;

describe(`${CALLERS} callers of one process`, () => {
  /** All of them behind the first one; what its store has loaded once the provider answers, until all are served. */
  async function behindOne(hinder = () => {}) {
    const host = createHost();
    const store = memoryStore("own", expired());
    const log = listen();
    const { refresh, called, answer: reply } = held();
    const calls = [call(host, refresh, { store })];
    await called;
    for (let caller = 1; caller < CALLERS; caller++) calls.push(call(host, unwanted(), { store }));
    await log.seen({ type: "waiting" }, CALLERS - 1);
    // All have looked before they wait.
    while (store.load.mock.calls.length < CALLERS + 1) await new Promise(setImmediate);
    const before = store.load.mock.calls.length;
    hinder(store);
    reply(answer());
    const results = await Promise.allSettled(calls);
    const acquired = log.matching({ type: "acquired" }).length;
    return { store, results, acquired, loads: store.load.mock.calls.length - before };
  }

  test("are served with one load more than the refresh itself takes, and one lock", async () => {
    const { store, results, acquired, loads } = await behindOne();
    const outcomes = results.map(({ value }) => value.outcome).sort();
    expect(outcomes).toEqual([...Array(CALLERS - 1).fill("fresh"), "refreshed"]);
    for (const { value } of results) expect(value.credential).toEqual(store.held);
    // To swap, to read that back, and for all who have waited.
    expect([loads, acquired]).toEqual([3, 1]);
  });

  test("are served by a load of their own if the one that they share fails", async () => {
    const { store, results } = await behindOne((store) => {
      const usual = store.load.getMockImplementation();
      store.load.mockImplementationOnce(usual).mockImplementationOnce(usual).mockRejectedValueOnce(new Error("once"));
    });
    expect(results.map(({ value }) => value?.credential)).toEqual(Array(CALLERS).fill(store.held));
  });
});

test(`${PROCESSES} processes that have waited ask their store at a time, none of them with the lock`, async () => {
  const host = createHost();
  const file = join(host.root, "login.json");
  const old = expired();
  writeFileSync(file, JSON.stringify(old));
  const read = () => JSON.parse(readFileSync(file, "utf8"));
  const store = {
    name: "shared",
    load: read,
    compareAndSwap: (_profileId, expected, next) => {
      if (read().refresh !== expected?.refresh) return false;
      writeFileSync(file, JSON.stringify(next));
      return true;
    },
  };
  const { refresh, called, answer: reply } = held();
  const first = call(host, refresh, { store });
  await called;
  const work = { provider: PROVIDER, profileId: PROFILE, stateDir: host.stateDir, file };
  const others = Array.from({ length: PROCESSES }, () => startProgram("waiting-host", work));
  for (const other of others) {
    await other.told({ type: "waiting" });
    other.say("watch");
    await other.told({ type: "watching" });
  }
  reply(answer());
  const { credential } = await first;
  // Each waits in its load for all others: with the lock held nobody else would get that far.
  await Promise.all(others.map((other) => other.told({ type: "loading" })));
  for (const other of others) other.say("load");
  for (const other of others) {
    await other.told({ type: "done", outcome: "fresh", access: credential.access });
    expect(await other.exited).toEqual({ code: 0, signal: null });
    expect(other.log.matching({ type: "loading" })).toHaveLength(1);
  }
});

/** Stores that are in use for a moment, and stores that keep what they know and nothing else. */

/** The first pause is 10 ms, give or take a half. */
const LONGEST_FIRST_PAUSE_MS = 20;

/** How SQLite's packages, Node's module, file systems and hosts say that they are busy. */
const BUSY = [
  { code: "store_busy" },
  { busy: true },
  { code: "EBUSY" },
  { code: "SQLITE_BUSY" },
  { code: "SQLITE_BUSY_SNAPSHOT" },
  { code: "ERR_SQLITE_ERROR", errcode: 5 },
  { code: "ERR_SQLITE_ERROR", errcode: 517 },
];

describe("a busy store", () => {
  test.each(BUSY)("is asked again: %o", async (fields) => {
    const store = memoryStore("own", expired());
    const busy = Object.assign(new Error("busy"), fields);
    for (const name of ["load", "compareAndSwap"])
      for (let time = 0; time < 3; time++) store[name].mockRejectedValueOnce(busy);
    const refresh = answering();
    const result = await call(createHost(), refresh, { store });
    expect(result).toEqual({ outcome: "refreshed", credential: store.held });
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test("is named when the caller's patience ends, and the provider is not asked", async () => {
    const store = memoryStore("own", expired());
    store.load.mockRejectedValue(Object.assign(new Error("in use"), { code: "EBUSY" }));
    const error = await typedRejection(call(createHost(), unwanted(), { store, timeoutMs: 1000 }), "store_busy");
    expect([error.path, error.cause.message]).toEqual(["host:own", "in use"]);
  });

  test("is asked no more once its caller has left, be it between two tries", async () => {
    const store = heldStore("own", expired());
    const mainStore = memoryStore("main", { ...store.held, ...usable() });
    const caller = new AbortController();
    store.compareAndSwap.mockImplementation(async () => {
      setTimeout(() => caller.abort(), 0);
      throw Object.assign(new Error("busy"), { busy: true });
    });
    const called = call(createHost(), unwanted(), { store, mainStore, signal: caller.signal });
    await typedRejection(called, "caller_aborted");
    await delay(LONGEST_FIRST_PAUSE_MS);
    expect(store.compareAndSwap).toHaveBeenCalledTimes(1);
  });

  test("that fails otherwise is not asked again", async () => {
    const store = memoryStore("own", expired());
    store.load.mockRejectedValue(Object.assign(new Error("corrupt"), { code: "ERR_SQLITE_ERROR", errcode: 11 }));
    await typedRejection(call(createHost(), unwanted(), { store }), "store_unreadable");
    // Once to look, once to decide or to serve at last.
    expect(store.load.mock.calls.length).toBeLessThanOrEqual(2);
  });
});

describe("a store that keeps what it knows", () => {
  test.each([
    [
      "drops fields, adds its own",
      ({ type, provider, access, refresh, expires }) => ({ type, provider, access, refresh, expires, rowid: 7 }),
    ],
    ["counts in seconds", (next) => ({ ...next, expires: Math.floor(next.expires / 1000) * 1000 })],
    ["drops whose it is", ({ accountId: _, ...next }) => next],
    ["has null for what is missing", (next) => ({ ...next, accountId: null, email: null })],
  ])("has saved what it keeps: %s", async (_, kept) => {
    const store = memoryStore("own", expired({ note: "x", accountId: "a" }));
    store.compareAndSwap.mockImplementation(async (_profileId, _expected, next) => {
      store.held = kept(next);
      return true;
    });
    const result = await call(createHost(), answering(), { store });
    expect(result.outcome).toBe("refreshed");
    expect(result.notSaved).toBeUndefined();
  });

  test("has not if that is another account", async () => {
    const store = memoryStore("own", expired({ accountId: "a" }));
    store.compareAndSwap.mockImplementation(async (_profileId, _expected, next) => {
      store.held = { ...next, accountId: "b" };
      return true;
    });
    const { notSaved } = await call(createHost(), answering(), { store });
    expect(notSaved.code).toBe("store_unwritable");
    expect(notSaved.message).toContain("accountId");
  });

  test.each([
    ["refresh", ({ refresh: _, ...next }) => next],
    ["refresh", (next) => ({ ...next, refresh: null })],
    ["refresh", ({ refresh, ...next }) => ({ ...next, refresh: refresh.slice(0, -1) })],
    ["refresh", (next, old) => ({ ...next, refresh: old.refresh })],
    ["access", (next, old) => ({ ...next, access: old.access })],
    ["access", (_, old) => old],
    ["expires", ({ expires: _, ...next }) => next],
  ])("has not if %s is lost, and the token is not (%#)", async (lost, kept) => {
    const old = expired();
    const store = memoryStore("own", old);
    const swap = store.compareAndSwap.getMockImplementation();
    store.compareAndSwap.mockImplementation(async (_profileId, _expected, next) => {
      store.held = kept(next, old);
      return true;
    });
    const host = createHost();
    const fields = await answering()();
    const { outcome, credential, notSaved } = await call(host, answering(fields), { store });
    expect([outcome, credential.access, credential.refresh]).toEqual(["refreshed", fields.access, fields.refresh]);
    expect([notSaved.code, notSaved.message]).toEqual(["store_unwritable", expect.stringContaining(lost)]);
    // Once it keeps what it is given.
    store.held = old;
    store.compareAndSwap.mockImplementation(swap);
    await call(host, unwanted(), { store });
    expect([store.held.access, store.held.refresh]).toEqual([fields.access, fields.refresh]);
  });
});
