/**
 * Stores whose last commits a power cut may undo, as with SQLite in WAL mode and `synchronous=NORMAL`.
 */
import { readFileSync, statSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { inspectOAuthRefreshLocks, withOAuthRefreshLock } from "../index.mjs";
import { lockPathOn } from "./support/calls.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER, usable } from "./support/host.mjs";
import { memoryStore } from "./support/host-stores.mjs";
import { answering, unwanted } from "./support/refresh-functions.mjs";
import { typedRejection } from "./support/rejections.mjs";

const call = (host, refresh, options) =>
  withOAuthRefreshLock(PROVIDER, PROFILE, refresh, { stateDir: host.stateDir, ...options });

/** A store that may lose what it has taken. */
const volatileStore = (name, credential) => Object.assign(memoryStore(name, credential), { durable: false });

const journal = (host) => readFileSync(`${lockPathOn(host)}.journal`, "utf8");

describe("a store that is not durable by itself", () => {
  test("and has lost its last commit gets it back from the journal, and the provider is not asked", async () => {
    const host = createHost();
    const old = expired();
    const store = volatileStore("own", old);
    const { credential } = await call(host, answering(), { store });
    // More than once: what was brought back may be lost again.
    for (let cut = 0; cut < 2; cut++) {
      store.held = old;
      const refresh = unwanted();
      expect(await call(host, refresh, { store })).toEqual({ outcome: "recovered", credential });
      expect(store.held).toEqual(credential);
      expect(refresh).not.toHaveBeenCalled();
    }
    expect(await call(host, unwanted(), { store })).toEqual({ outcome: "fresh", credential });
  });

  test("waits for nothing: its credential is kept, nobody is told of it, and nobody else can read it", async () => {
    const host = createHost();
    const store = volatileStore("own", expired());
    const { credential } = await call(host, answering(), { store });
    expect(journal(host)).toContain(credential.refresh);
    expect(statSync(`${lockPathOn(host)}.journal`).mode & 0o777).toBe(0o600);
    const [report] = await inspectOAuthRefreshLocks({ stateDir: host.stateDir });
    expect(report).toMatchObject({ state: "committed", waitingCredentials: 0, waitingFor: [] });
  });

  test("and has lost several gets the last one", async () => {
    const host = createHost();
    const old = expired();
    const store = volatileStore("own", old);
    await call(host, answering(), { store });
    const second = await call(host, answering(), { store, forceRefresh: true });
    store.held = old;
    expect(await call(host, unwanted(), { store })).toEqual({ outcome: "recovered", credential: second.credential });
  });

  test("is brought back what has expired meanwhile, and that is refreshed", async () => {
    const host = createHost();
    const old = expired();
    const store = volatileStore("own", old);
    const { credential } = await call(host, answering(), { store });
    store.held = old;
    const refresh = answering();
    const result = await call(host, refresh, { store, rejectedAccess: credential.access });
    expect(result.outcome).toBe("refreshed");
    expect(refresh.mock.calls.map(([sent]) => sent.refresh)).toEqual([credential.refresh]);
  });

  test("beside a main store that has lost it too: both have it again", async () => {
    const host = createHost();
    const old = expired();
    const [store, mainStore] = [volatileStore("own", old), volatileStore("main", old)];
    const { credential } = await call(host, answering(), { store, mainStore });
    for (const each of [store, mainStore]) each.held = old;
    expect((await call(host, unwanted(), { store, mainStore })).credential).toEqual(credential);
    expect([store.held, mainStore.held]).toEqual([credential, credential]);
  });

  test("of one agent does not keep another from what main has lost", async () => {
    const host = createHost();
    const old = expired();
    const [store, peers, mainStore] = ["own", "peer", "main"].map((name) => volatileStore(name, old));
    const { credential } = await call(host, answering(), { store, mainStore });
    mainStore.held = old;
    const refresh = unwanted();
    expect((await call(host, refresh, { store: peers, mainStore })).credential).toEqual(credential);
    expect([peers.held, mainStore.held]).toEqual([credential, credential]);
    expect(refresh).not.toHaveBeenCalled();
  });

  test("from which the login was taken gets nothing back: the logout wins, and is the end of what was kept", async () => {
    const host = createHost();
    const old = expired();
    const store = volatileStore("own", old);
    const { credential } = await call(host, answering(), { store });
    store.held = null;
    expect(await call(host, unwanted(), { store })).toBeNull();
    expect(store.held).toBeNull();
    expect(journal(host)).not.toContain(credential.refresh);
    expect(journal(host)).not.toContain(credential.access);
    store.held = old;
    await typedRejection(call(host, unwanted(), { store }), "refresh_token_spent");
  });

  test.each(["main", "agent"])(
    "that was logged out after the %s's refresh gives nothing to an old copy of the login",
    async (by) => {
      const host = createHost();
      const old = expired();
      const mainStore = volatileStore("main", old);
      const [store, copy] = [volatileStore("own", old), volatileStore("copy", old)];
      const { credential } = await call(host, answering(), by === "main" ? { store: mainStore } : { store, mainStore });
      expect(mainStore.held).toEqual(credential);
      mainStore.held = store.held = null;
      const told = call(host, unwanted(), { store: copy, mainStore });
      await typedRejection(told, "refresh_token_spent");
      expect([mainStore.held, copy.held]).toEqual([null, old]);
      expect(journal(host)).not.toContain(credential.refresh);
    },
  );

  test("into which a newer login has come keeps that, and what was kept ends with its refresh", async () => {
    const host = createHost();
    const store = volatileStore("own", expired());
    const { credential } = await call(host, answering(), { store });
    const login = usable();
    store.held = login;
    expect(await call(host, unwanted(), { store })).toEqual({ outcome: "fresh", credential: login });
    store.held = expired();
    const next = await call(host, answering(), { store });
    expect(next.outcome).toBe("refreshed");
    expect(journal(host)).toContain(next.credential.refresh);
    expect(journal(host)).not.toContain(credential.refresh);
  });

  test("that can't take it back yet: the caller has it all the same", async () => {
    const host = createHost();
    const old = expired();
    const store = volatileStore("own", old);
    const { credential } = await call(host, answering(), { store });
    store.held = old;
    store.compareAndSwap.mockRejectedValueOnce(new Error("full"));
    const result = await call(host, unwanted(), { store });
    expect(result).toMatchObject({ outcome: "recovered", credential, notSaved: { code: "store_unwritable" } });
    expect(await call(host, unwanted(), { store })).toEqual({ outcome: "recovered", credential });
    expect(store.held).toEqual(credential);
  });

  test("whose provider keeps its refresh token has nothing to lose: nothing is kept", async () => {
    const host = createHost();
    const old = expired();
    const store = volatileStore("own", old);
    const { credential } = await call(host, answering(answer({ refresh: old.refresh })), { store });
    expect(journal(host)).not.toContain(credential.access);
    store.held = old;
    expect((await call(host, answering(), { store })).outcome).toBe("refreshed");
  });
});

test("a store that is durable, which is the default, has nothing kept for it", async () => {
  const host = createHost();
  const old = expired();
  const store = memoryStore("own", old);
  const { credential } = await call(host, answering(), { store });
  expect(journal(host)).not.toContain(credential.refresh);
  store.held = old;
  await typedRejection(call(host, unwanted(), { store }), "refresh_token_spent");
});
