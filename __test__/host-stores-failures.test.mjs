/** What may go wrong in a host's own stores, and that it costs no credential. */
import { rmSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { inspectOAuthRefreshLocks, withOAuthRefreshLock } from "../index.mjs";
import { answering, rejection, typedRejection, unwanted } from "./support/calls.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER, storeText } from "./support/host.mjs";
import { call, memoryStore } from "./support/host-stores.mjs";
import { toldIn } from "./support/secrets.mjs";

/** How often a swap is tried. */
const SWAPS = 16;

/** How many received credentials wait in journals. */
async function waiting(host) {
  const [{ waitingCredentials }] = await inspectOAuthRefreshLocks({ stateDir: host.stateDir });
  return waitingCredentials;
}

/** What goes wrong with a swap, after the provider has answered. Each is gone with the second call. */
const HINDRANCES = [
  ["throws", /failed/, (store) => store.compareAndSwap.mockRejectedValueOnce(new Error(`no: ${store.held.refresh}`))],
  [
    "throws although it has swapped",
    /failed/,
    (store) => {
      const usual = store.compareAndSwap.getMockImplementation();
      store.compareAndSwap.mockImplementationOnce(async (...given) => {
        await usual(...given);
        throw new Error("the connection was lost");
      });
    },
  ],
  ["returns no boolean", /did not return a boolean/, (store) => store.compareAndSwap.mockResolvedValueOnce(undefined)],
  ["does not keep what it takes", /did not keep/, (store) => store.compareAndSwap.mockResolvedValueOnce(true)],
  [
    "keeps a part of it",
    /did not keep/,
    (store) =>
      store.compareAndSwap.mockImplementationOnce(async (_, expected, { expires: _expires, ...rest }) => {
        const old = expected;
        store.held = rest;
        // As it was, for the second call.
        store.load.mockImplementationOnce(async () => {
          store.held = old;
          return rest;
        });
        return true;
      }),
  ],
  [
    "never finds what it was told to expect",
    /keeps changing/,
    (store) => {
      for (let swap = 0; swap < SWAPS; swap++) store.compareAndSwap.mockResolvedValueOnce(false);
    },
  ],
];

describe("compareAndSwap", () => {
  test.each(HINDRANCES)("that %s costs no credential: the next call brings it in", async (_, why, hinder) => {
    const old = expired({ note: "kept" });
    const host = createHost();
    const store = memoryStore("own", old);
    hinder(store);
    const fields = answer();
    const refresh = answering(fields);
    const first = await call(host, refresh, { store });
    expect(first).toMatchObject({ outcome: "refreshed", credential: { ...old, ...fields } });
    expect(first.notSaved.code).toBe("store_unwritable");
    expect(first.notSaved.message).toMatch(why);
    expect(first.notSaved.message).toContain("host:own");
    expect(toldIn(first.notSaved.message)).toEqual([]);
    expect(await waiting(host)).toBe(1);
    const outcome = store.held.refresh === fields.refresh ? "fresh" : "recovered";
    expect(await call(host, refresh, { store })).toEqual({ outcome, credential: first.credential });
    expect(store.held).toEqual(first.credential);
    if (outcome === "recovered") expect(await waiting(host)).toBe(0);
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test("of main's that throws is told, and made up for", async () => {
    const old = expired();
    const host = createHost();
    const [store, mainStore] = [memoryStore("own", old), memoryStore("main", old)];
    mainStore.compareAndSwap.mockRejectedValueOnce(new Error("full"));
    const result = await call(host, answering(), { store, mainStore });
    expect(result).toMatchObject({ outcome: "refreshed", mirror: { reason: "store-error", written: false } });
    expect(result.mirror.error.code).toBe("store_unwritable");
    expect([await waiting(host), mainStore.held]).toEqual([1, old]);
    // Main itself comes next.
    const refresh = unwanted();
    expect((await call(host, refresh, { store: mainStore })).credential).toEqual(result.credential);
    expect(refresh).not.toHaveBeenCalled();
  });
});

describe("load", () => {
  test.each([
    ["of the agent's store", "own", async () => Promise.reject(new Error("locked"))],
    ["of main's store", "main", async () => Promise.reject(new Error("locked"))],
    [
      "of the agent's store, at once,",
      "own",
      () => {
        throw new Error("locked");
      },
    ],
  ])("%s that throws keeps the provider from being asked", async (_, which, load) => {
    const old = expired();
    const stores = { own: memoryStore("own", old), main: memoryStore("main", old) };
    stores[which].load.mockImplementation(load);
    const refresh = unwanted();
    const made = call(createHost(), refresh, { store: stores.own, mainStore: stores.main });
    const error = await typedRejection(made, "store_unreadable");
    expect(error.path).toBe(`host:${which}`);
    expect(error.cause).toEqual(new Error("locked"));
    expect(refresh).not.toHaveBeenCalled();
  });

  test("that throws what it should not tell: the words are the cause's alone", async () => {
    const store = memoryStore("own", expired());
    const thrown = Object.assign(new Error(`cannot parse ${store.held.refresh}`), { row: store.held });
    store.load.mockRejectedValue(thrown);
    const error = await typedRejection(call(createHost(), unwanted(), { store }), "store_unreadable");
    expect(error.cause).toBe(thrown);
  });

  const circular = { type: "oauth" };
  circular.self = circular;
  test.each([
    ["a number", 7],
    ["text", JSON.stringify(expired())],
    ["a boolean", true],
    ["an array", [expired()]],
    ["an object of no type", { access: "a", refresh: "r" }],
    ["an object of a type that is no text", { ...expired(), type: 1 }],
    ["what is no JSON", circular],
    ["what is a number too large for JSON", { ...expired(), expires: 1n }],
    ["what JSON leaves out", { toJSON: () => undefined }],
    ["a function", () => expired()],
  ])("that returns nonsense (%s) keeps the provider from being asked", async (_, nonsense) => {
    const store = memoryStore("own");
    store.load.mockResolvedValue(nonsense);
    const refresh = unwanted();
    const error = await typedRejection(call(createHost(), refresh, { store }), "store_invalid");
    expect(error.path).toBe("host:own");
    expect(refresh).not.toHaveBeenCalled();
  });

  test("that returns an API key: no OAuth profile", async () => {
    const store = memoryStore("own", { type: "api_key", key: "k" });
    expect(await call(createHost(), unwanted(), { store })).toBeNull();
  });

  test("that returns another refresh token each time ends in an error, and nobody waits for ever", async () => {
    const store = memoryStore("own");
    store.load.mockImplementation(async () => expired());
    const refresh = answering();
    await typedRejection(call(createHost(), refresh, { store }), "superseded");
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test("that throws when the provider has refused leaves the refresh function's error as it is", async () => {
    const host = createHost();
    const store = memoryStore("own", expired());
    const refused = Object.defineProperty(new Error("invalid_grant"), "path", {
      get() {
        throw new Error("looked at");
      },
    });
    const refresh = answering();
    refresh.mockImplementationOnce(async () => {
      store.load.mockRejectedValueOnce(new Error("locked"));
      throw refused;
    });
    expect(await rejection(call(host, refresh, { store }))).toBe(refused);
    expect(refused.cause).toBeUndefined();
    // And the next one in line is served.
    store.held = expired();
    expect((await call(host, refresh, { store })).outcome).toBe("refreshed");
  });

  test("that calls for what it is asked for is refused, as it would wait for itself", async () => {
    const host = createHost();
    const store = memoryStore("own", expired());
    store.load.mockImplementation(() => call(host, unwanted(), { store }));
    const error = await rejection(call(host, unwanted(), { store }));
    expect([error.code, error.cause.code]).toEqual(["store_unreadable", "nested_call"]);
  });
});

describe("an answer that was received for a store that the next call does not have", () => {
  /** A credential that waits for this store. */
  async function received(host, store) {
    store.compareAndSwap.mockRejectedValueOnce(new Error("full"));
    const { credential, notSaved } = await call(host, answering(), { store });
    expect(notSaved.code).toBe("store_unwritable");
    return credential;
  }

  test("waits for one that has it", async () => {
    const host = createHost({ main: expired() });
    const store = memoryStore("own", expired());
    const waits = await received(host, store);
    // Other stores of the same profile, with other logins.
    const other = memoryStore("other", expired());
    expect((await call(host, answering(), { store: other })).outcome).toBe("refreshed");
    expect((await withOAuthRefreshLock(PROVIDER, PROFILE, answering(), host.as("main"))).outcome).toBe("refreshed");
    expect(await waiting(host)).toBe(1);
    expect(Object.keys(host.tree()).filter((path) => path.includes("host:"))).toEqual([]);
    const refresh = unwanted();
    expect(await call(host, refresh, { store })).toMatchObject({ outcome: "recovered", credential: waits });
    expect([store.held, await waiting(host)]).toEqual([waits, 0]);
    expect(refresh).not.toHaveBeenCalled();
  });

  test("goes to main, if that holds the same grant", async () => {
    const old = expired();
    const host = createHost();
    const waits = await received(host, memoryStore("own", old));
    const main = memoryStore("main", old);
    const refresh = unwanted();
    expect((await call(host, refresh, { store: main })).credential).toEqual(waits);
    // And from there to whom it was received for.
    const store = memoryStore("own", old);
    expect((await call(host, refresh, { store, mainStore: main })).credential).toEqual(waits);
    expect([main.held, store.held]).toEqual([waits, waits]);
    expect(refresh).not.toHaveBeenCalled();
  });

  test("waits for that store although another one has it by now", async () => {
    const old = expired();
    const host = createHost();
    const own = memoryStore("own", old);
    const waits = await received(host, own);
    const refresh = unwanted();
    const another = memoryStore("another", old);
    expect((await call(host, refresh, { store: another })).credential).toEqual(waits);
    expect(await waiting(host)).toBe(1);
    own.held = old;
    expect((await call(host, refresh, { store: own })).outcome).toBe("recovered");
    expect([another.held, own.held, await waiting(host)]).toEqual([waits, waits, 0]);
    expect(refresh).not.toHaveBeenCalled();
  });

  test("is brought into a file by a call that has none", async () => {
    const old = expired();
    const host = createHost({ agent: old, main: expired() });
    const blocked = answering();
    blocked.mockImplementationOnce(async () => {
      host.block("agent");
      return answer();
    });
    const first = await withOAuthRefreshLock(PROVIDER, PROFILE, blocked, host.as("agent"));
    expect(first.notSaved.code).toBe("store_unwritable");
    rmSync(`${host.storePath("agent")}.oauth-refresh-lock.tmp`, { recursive: true });
    const store = memoryStore("own", old);
    const refresh = unwanted();
    expect((await call(host, refresh, { store })).credential).toEqual(first.credential);
    expect(host.store("agent")).toBe(storeText(first.credential));
    expect(refresh).not.toHaveBeenCalled();
  });
});

test("load and compareAndSwap of a store that never answers have 30 s, and the answer received by then is kept", async () => {
  const hosts = [createHost(), createHost()];
  const stores = hosts.map(() => memoryStore("own", expired()));
  const never = () => new Promise(() => {});
  stores[0].load.mockImplementation(never);
  stores[1].compareAndSwap.mockImplementationOnce(never);
  const refresh = answering();
  const [error, result] = await Promise.all([
    typedRejection(call(hosts[0], unwanted(), { store: stores[0] }), "store_unreadable"),
    call(hosts[1], refresh, { store: stores[1] }),
  ]);
  expect(error.message).toMatch(/`load` does not return/);
  expect(result.notSaved.code).toBe("store_unwritable");
  expect(result.notSaved.message).toMatch(/`compareAndSwap` does not return/);
  const [{ waitingCredentials }] = await inspectOAuthRefreshLocks({ stateDir: hosts[1].stateDir });
  expect(waitingCredentials).toBe(1);
  const next = await call(hosts[1], refresh, { store: stores[1] });
  expect([next.outcome, next.credential]).toEqual(["recovered", result.credential]);
  expect(stores[1].held).toEqual(result.credential);
  expect(refresh).toHaveBeenCalledTimes(1);
});
