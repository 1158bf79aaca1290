/**
 * What a host's store may hold in the place of a login: an API key, or the claim of another program that is refreshing it.
 */

import { readFileSync, statSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { inspectOAuthRefreshLocks } from "../index.mjs";
import { answering, expectFree, held, listen, lockPathOn, typedRejection, unwanted } from "./support/calls.mjs";
import { deferred } from "./support/events.mjs";
import { answer, createHost, expired, MINUTE, PROFILE, usable } from "./support/host.mjs";
import { call, memoryStore } from "./support/host-stores.mjs";

/** A store that another program has claimed, with what it holds meanwhile; so often looked at, it holds this. */
function claimedStore(name, { credential, looks = Number.POSITIVE_INFINITY, after }) {
  const store = memoryStore(name);
  const usual = store.load.getMockImplementation();
  store.load.mockImplementation(async (...given) => {
    if (store.load.mock.calls.length <= looks) return { claimed: true, credential };
    store.held ??= after;
    return usual(...given);
  });
  return store;
}

describe("a profile that is no login", () => {
  test("of main's is left alone, and needs to show no secret", async () => {
    const host = createHost();
    const [store, mainStore] = [memoryStore("own", expired()), memoryStore("main", { type: "api_key" })];
    const result = await call(host, answering(), { store, mainStore });
    expect(result).toMatchObject({ outcome: "refreshed", credential: store.held });
    expect(result.mirror).toEqual({ written: false, reason: "non-oauth-existing-credential" });
    expect(mainStore.compareAndSwap).not.toHaveBeenCalled();
  });

  test("of the agent's own is none that could be refreshed", async () => {
    const store = memoryStore("own", { type: "api_key" });
    expect(await call(createHost(), unwanted(), { store, mainStore: memoryStore("main", usable()) })).toBeNull();
  });
});

describe("a login that another program has claimed", () => {
  test.each([
    ["own", (claimed) => ({ store: claimed })],
    ["main", (claimed) => ({ store: memoryStore("agent", expired()), mainStore: claimed })],
  ])("in the %s store is waited for, and taken over", async (name, stores) => {
    const fresh = usable();
    const claimed = claimedStore(name, { looks: 4, after: fresh });
    const refresh = unwanted();
    const { outcome, credential } = await call(createHost(), refresh, stores(claimed));
    expect([outcome, credential.access]).toEqual([name === "own" ? "fresh" : "adopted", fresh.access]);
    expect(refresh).not.toHaveBeenCalled();
  });

  test("keeps nobody from our lock", async () => {
    const host = createHost();
    const store = claimedStore("own", {});
    const log = listen();
    const end = new AbortController();
    const waiting = call(host, unwanted(), { store, signal: end.signal });
    await log.seen({ type: "acquired" }, 2);
    await expectFree(host);
    end.abort();
    await typedRejection(waiting, "caller_aborted");
  });

  test("and given back as it was is refreshed by us", async () => {
    const old = expired();
    const store = claimedStore("own", { looks: 3, after: old });
    const refresh = answering();
    expect((await call(createHost(), refresh, { store })).outcome).toBe("refreshed");
    expect(refresh.mock.calls.map(([sent]) => sent)).toEqual([old]);
  });

  test("is waited for as long as the caller has patience, and no longer", async () => {
    const store = claimedStore("own", { credential: expired() });
    const refresh = unwanted();
    const told = await typedRejection(call(createHost(), refresh, { store, timeoutMs: 700 }), "store_busy");
    expect(told).toMatchObject({ path: "host:own", message: expect.stringContaining("another program") });
    // The pauses grow: 50, 100, 200, … ms, and a look or two each, before and under the lock.
    expect(store.load.mock.calls.length).toBeLessThan(16);
    expect(refresh).not.toHaveBeenCalled();
  });

  test("is served as it is meanwhile, if it is still good", async () => {
    const stored = expired({ expires: Date.now() + MINUTE });
    const store = claimedStore("own", { credential: stored });
    const { outcome, credential, refreshError } = await call(createHost(), unwanted(), { store });
    expect({ outcome, credential }).toEqual({ outcome: "fresh", credential: stored });
    expect(refreshError).toMatchObject({ code: "store_busy", path: "host:own" });
    const good = usable();
    const options = { store: claimedStore("other", { credential: good }) };
    expect(await call(createHost(), unwanted(), options)).toEqual({ outcome: "fresh", credential: good });
  });

  test("is not served if the resource server has refused it", async () => {
    const good = usable();
    const store = claimedStore("own", { credential: good });
    const options = { store, rejectedAccess: good.access, timeoutMs: 700 };
    await typedRejection(call(createHost(), unwanted(), options), "store_busy");
  });

  test("while we asked the provider is not overwritten; the answer waits until it is over", async () => {
    const host = createHost();
    const old = expired();
    const store = memoryStore("own", old);
    const slow = held();
    const asking = call(host, slow.refresh, { store });
    await slow.called;
    const usual = store.load.getMockImplementation();
    store.load.mockImplementation(async () => ({ claimed: true }));
    const fields = answer();
    slow.answer(fields);
    const result = await asking;
    expect(result).toMatchObject({ outcome: "refreshed", credential: { ...old, ...fields } });
    expect(result.notSaved.code).toBe("store_busy");
    expect(store.compareAndSwap).not.toHaveBeenCalled();
    store.load.mockImplementation(usual);
    expect(await call(host, unwanted(), { store })).toEqual({ outcome: "recovered", credential: result.credential });
    expect(store.held).toEqual(result.credential);
  });

  test.each([
    ["claimed that is no boolean", { claimed: 1 }],
    ["no claim", { claimed: false }],
    ["a type beside it", { claimed: true, type: 7 }],
  ])("is told by a claim alone, not by %s", async (_, nonsense) => {
    const store = memoryStore("odd");
    store.load.mockResolvedValue(nonsense);
    await typedRejection(call(createHost(), unwanted(), { store }), "store_invalid");
  });
});

test("a login that lands while the provider is asked waits for nobody, and a logout stays", async () => {
  const host = createHost();
  for (const landed of [usable(), null]) {
    const old = expired();
    const store = memoryStore("own", old);
    const slow = held();
    const asking = call(host, slow.refresh, { store });
    await slow.called;
    // As the host's own login does it: by its compare-and-swap, without our lock. The provider has not answered yet.
    expect(await store.compareAndSwap(PROFILE, old, landed)).toBe(true);
    const before = deferred();
    void call(host, unwanted(), { store }).then(before.resolve);
    if (landed) expect(await before.promise).toEqual({ outcome: "fresh", credential: landed });
    else expect(await before.promise).toBeNull();
    slow.answer(answer());
    expect((await asking)?.credential).toEqual(landed ?? undefined);
    expect(store.held).toBe(landed);
    // And nothing is left that blocks whoever logs in next.
    store.held = expired();
    expect((await call(host, answering(), { store })).outcome).toBe("refreshed");
  }
});

/** Stores whose last commits a power cut may undo, as with SQLite in WAL mode and `synchronous=NORMAL`. */

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
