/** Credentials that a host keeps by itself, behind `load` and `compareAndSwap`. */
import { describe, expect, onTestFinished, test } from "vitest";
import { keepOAuthFresh, withOAuthRefreshLock } from "../index.mjs";
import { answering, held, listen, typedRejection, unwanted } from "./support/calls.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER, storeText, usable } from "./support/host.mjs";
import { before, call, memoryStore } from "./support/host-stores.mjs";
import { at, gives, startServer } from "./support/token-server.mjs";

const CALLERS = 20;
const LOGINS = 64;

describe("a host's own stores", () => {
  test(`${CALLERS} agents with one login make one call, and every store ends up with its result`, async () => {
    const old = expired({ accountId: "one", note: { kept: [1.5, null] } });
    const host = createHost();
    const mainStore = memoryStore("main", old);
    const stores = Array.from({ length: CALLERS }, (_, number) => memoryStore(`agent ${number}`, old));
    const log = listen();
    const { refresh, called, answer: reply } = held();
    const calls = stores.map((store) => call(host, refresh, { store, mainStore }));
    await called;
    await log.seen({ type: "waiting" }, CALLERS - 1);
    const fields = answer();
    reply(fields);
    const results = await Promise.all(calls);
    expect(refresh.mock.calls.map(([credential]) => credential)).toEqual([old]);
    const outcomes = results.map(({ outcome }) => outcome).sort();
    expect(outcomes).toEqual([...Array(CALLERS - 1).fill("adopted"), "refreshed"]);
    for (const store of [mainStore, ...stores]) expect(store.held, store.name).toEqual({ ...old, ...fields });
    expect(Object.keys(host.tree({ locks: false }))).toEqual(["state"]);
    for (const [profileId] of stores[7].load.mock.calls) expect(profileId).toBe(PROFILE);
  });

  test(`${LOGINS} logins are refreshed at a time, more than there are threads to ask their stores`, async () => {
    const host = createHost();
    const stores = Array.from({ length: LOGINS }, (_, number) => memoryStore(`store ${number}`, expired()));
    for (const store of stores) before(store, "load", () => new Promise(setImmediate));
    const refresh = answering();
    refresh.mockImplementation(async () => answer());
    const calls = stores.map((store) =>
      withOAuthRefreshLock(PROVIDER, store.name, refresh, { stateDir: host.stateDir, store }),
    );
    const results = await Promise.all(calls);
    expect(new Set(results.map(({ outcome }) => outcome))).toEqual(new Set(["refreshed"]));
    expect(results.map(({ credential }) => credential)).toEqual(stores.map((store) => store.held));
    expect(refresh).toHaveBeenCalledTimes(LOGINS);
  });

  test("a usable credential is served, and nothing is written", async () => {
    const store = memoryStore("own", usable());
    const refresh = unwanted();
    expect(await call(createHost(), refresh, { store })).toEqual({ outcome: "fresh", credential: store.held });
    expect(store.compareAndSwap).not.toHaveBeenCalled();
    expect(refresh).not.toHaveBeenCalled();
  });

  test("a profile that the agent lacks is inherited from main, and refreshed there", async () => {
    const old = expired();
    const [store, mainStore] = [memoryStore("own"), memoryStore("main", old)];
    const fields = answer();
    expect((await call(createHost(), answering(fields), { store, mainStore })).outcome).toBe("refreshed");
    expect([store.held, mainStore.held]).toEqual([null, { ...old, ...fields }]);
  });

  test("a store without the profile is given it; no profile at all is null", async () => {
    const old = expired();
    const [store, mainStore] = [memoryStore("own", old), memoryStore("main")];
    const result = await call(createHost(), answering(), { store, mainStore });
    expect(result.mirror).toEqual({ written: true, reason: "no-existing-credential" });
    expect(mainStore.held).toEqual(store.held);
    const options = { store: memoryStore("own"), mainStore: memoryStore("main") };
    expect(await call(createHost(), unwanted(), options)).toBeNull();
  });

  test("two stores of one name are one: there is no main to mirror to", async () => {
    const old = expired();
    const [store, mainStore] = [memoryStore("one", old), memoryStore("one", old)];
    const result = await call(createHost(), answering(), { store, mainStore });
    expect(result).not.toHaveProperty("mirror");
    expect(mainStore.compareAndSwap).not.toHaveBeenCalled();
  });

  test("main may be a directory of OpenClaw's", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const store = memoryStore("own", old);
    const fields = answer();
    const result = await call(host, answering(fields), { store, mainAgentDir: host.agentDir("main") });
    expect(result.mirror.written).toBe(true);
    expect(host.store("main")).toBe(storeText({ ...old, ...fields }));
  });

  test("no account's tokens get into another's", async () => {
    const [one, other] = [expired({ accountId: "one" }), usable({ accountId: "other" })];
    const [store, mainStore] = [memoryStore("own", one), memoryStore("main", other)];
    const fields = answer();
    // Neither adopted nor mirrored.
    const result = await call(createHost(), answering(fields), { store, mainStore });
    expect(result.mirror).toEqual({ written: false, reason: "identity-mismatch-or-regression" });
    expect([store.held, mainStore.held]).toEqual([{ ...one, ...fields }, other]);
    // Nor stored.
    const [own, main] = [memoryStore("own", one), memoryStore("main", one)];
    const foreign = answering(answer({ accountId: "other" }));
    await typedRejection(call(createHost(), foreign, { store: own, mainStore: main }), "identity_mismatch");
    expect([own.held, main.held]).toEqual([one, one]);
    expect([own, main].map((each) => each.compareAndSwap.mock.calls)).toEqual([[], []]);
  });

  test("two tenants of one process, with a profile of the same name, get a token each", async () => {
    const host = createHost();
    const stores = ["one", "other"].map((tenant) => memoryStore(tenant, expired()));
    const log = listen();
    const first = held();
    const other = answer();
    const calls = [call(host, first.refresh, { store: stores[0] })];
    await first.called;
    calls.push(call(host, answering(other), { store: stores[1] }));
    await log.seen({ type: "waiting", agentDir: "host:other" });
    const one = answer();
    first.answer(one);
    expect((await Promise.all(calls)).map(({ credential }) => credential.access)).toEqual([one.access, other.access]);
    expect(stores.map((store) => store.held.access)).toEqual([one.access, other.access]);
  });

  test("a token endpoint's answer goes there too", async () => {
    const old = expired();
    const store = memoryStore("own", old);
    const server = await startServer(gives());
    const { outcome, credential } = await call(createHost(), at(server), { store });
    expect([outcome, server.presented]).toEqual(["refreshed", [old.refresh]]);
    expect(store.held).toEqual(credential);
  });

  test("they are kept fresh", async () => {
    const old = expired();
    const store = memoryStore("own", old);
    const host = createHost();
    const log = listen();
    const fields = answer();
    const end = new AbortController();
    onTestFinished(() => end.abort());
    const profiles = [{ provider: PROVIDER, profileId: PROFILE, stateDir: host.stateDir, store }];
    keepOAuthFresh({ profiles, refresh: answering(fields), signal: end.signal });
    await log.seen({ type: "refreshed", agentDir: "host:own" });
    expect(store.held).toEqual({ ...old, ...fields });
  });

  test("the host's functions run in the caller's context, as methods", async () => {
    const { AsyncLocalStorage } = await import("node:async_hooks");
    const local = new AsyncLocalStorage();
    class Store {
      name = "own";
      seen = new Set();
      credential = usable();
      load() {
        this.seen.add(local.getStore());
        return this.credential;
      }
      compareAndSwap() {}
    }
    const store = new Store();
    await local.run("the caller", () => call(createHost(), unwanted(), { store }));
    expect([...store.seen]).toEqual(["the caller"]);
  });
});

describe("while the provider is asked", () => {
  test.each([
    ["a login that lands wins", () => usable(), ({ outcome, credential }, login) => [outcome, credential, login]],
    ["a logout that lands stays", () => null, (result) => [result]],
  ])("%s", async (_, land, shown) => {
    const [store, mainStore] = [memoryStore("own", expired()), memoryStore("main")];
    const landed = land();
    const refresh = answering();
    refresh.mockImplementationOnce(async () => {
      store.held = landed;
      return answer();
    });
    const result = await call(createHost(), refresh, { store, mainStore });
    expect(shown(result, landed)).toEqual(landed ? ["fresh", landed, landed] : [null]);
    expect([store.held, mainStore.held]).toEqual([landed, null]);
  });

  test("a login that lands between load and compareAndSwap wins", async () => {
    const login = usable();
    const store = memoryStore("own", expired());
    before(store, "compareAndSwap", () => {
      store.held = login;
    });
    expect(await call(createHost(), answering(), { store })).toEqual({ outcome: "fresh", credential: login });
    expect(store.held).toBe(login);
    expect(store.compareAndSwap).toHaveBeenCalledTimes(1);
  });

  test("so does one that lands before it is read back", async () => {
    const login = usable();
    const store = memoryStore("own", expired());
    const usual = store.compareAndSwap.getMockImplementation();
    store.compareAndSwap.mockImplementationOnce(async (...given) => {
      const done = await usual(...given);
      store.held = login;
      return done;
    });
    expect(await call(createHost(), answering(), { store })).toEqual({ outcome: "fresh", credential: login });
  });
});

describe("arguments", () => {
  const store = () => memoryStore("own");
  test.each([
    ["store beside agentDir", { store: store(), agentDir: "/agent" }],
    ["mainStore beside mainAgentDir", { store: store(), mainStore: store(), mainAgentDir: "/main" }],
    ["mainStore without store", { mainStore: store() }],
    ["a store that is null", { store: null }],
    ["a store that is a function", { store: () => {} }],
    ["no name", { store: { ...store(), name: undefined } }],
    ["a name that is no text", { store: { ...store(), name: 1 } }],
    ["a blank name", { store: { ...store(), name: " " } }],
    ["a name that is too long", { store: { ...store(), name: "n".repeat(129) } }],
    ["a name with a slash", { store: { ...store(), name: "a/b" } }],
    ["a name with a backslash", { store: { ...store(), name: "a\\b" } }],
    ["a name with a line break", { store: { ...store(), name: "a\nb" } }],
    ["a name with a lone surrogate", { store: { ...store(), name: "\ud800" } }],
    ["no load", { store: { ...store(), load: undefined } }],
    ["a compareAndSwap that is none", { store: { ...store(), compareAndSwap: {} } }],
    ["a durable that is no boolean", { store: { ...store(), durable: "no" } }],
    ["a mainStore that is none", { store: store(), mainStore: { name: "main" } }],
  ])("%s are refused, and nothing is done", async (_, options) => {
    const host = createHost();
    const tree = host.tree();
    const refresh = unwanted();
    await typedRejection(call(host, refresh, options), "invalid_argument");
    const profiles = [{ provider: PROVIDER, profileId: PROFILE, ...options }];
    await typedRejection(new Promise(() => keepOAuthFresh({ profiles, refresh })), "invalid_argument");
    expect(refresh).not.toHaveBeenCalled();
    expect(host.tree()).toEqual(tree);
  });

  test("each member is read once", async () => {
    const reads = [];
    const watched = (what, values) =>
      Object.defineProperties(
        {},
        Object.fromEntries(
          Object.entries(values).map(([name, value]) => [
            name,
            { enumerable: true, get: () => reads.push(`${what}.${name}`) && value },
          ]),
        ),
      );
    const own = memoryStore("n".repeat(128), expired());
    const hold = async () => () => {};
    const members = ["name", "load", "compareAndSwap", "hold", "durable"];
    const only = (store) =>
      Object.fromEntries(members.map((member) => [member, { ...store, hold, durable: true }[member]]));
    const options = watched("options", {
      store: watched("store", only(own)),
      mainStore: watched("main", only(memoryStore("main"))),
      stateDir: createHost().stateDir,
    });
    expect((await withOAuthRefreshLock(PROVIDER, PROFILE, answering(), options)).outcome).toBe("refreshed");
    const expected = ["store", "main"].flatMap((which) => members.map((member) => `${which}.${member}`));
    expect(reads.sort()).toEqual([...expected, "options.store", "options.mainStore", "options.stateDir"].sort());
  });
});
