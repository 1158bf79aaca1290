/**
 * Stores that are in use for a moment, and stores that keep what they know and nothing else.
 */
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { withOAuthRefreshLock } from "../index.mjs";
import { createHost, expired, PROFILE, PROVIDER, usable } from "./support/host.mjs";
import { heldStore, memoryStore } from "./support/host-stores.mjs";
import { answering, unwanted } from "./support/refresh-functions.mjs";
import { typedRejection } from "./support/rejections.mjs";

const call = (host, refresh, options) =>
  withOAuthRefreshLock(PROVIDER, PROFILE, refresh, { stateDir: host.stateDir, ...options });

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
