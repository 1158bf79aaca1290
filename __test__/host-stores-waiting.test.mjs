/**
 * A host's store that takes its time, or never answers: it delays its own callers and nobody else.
 */
import { describe, expect, onTestFinished, test } from "vitest";
import { withOAuthRefreshLock } from "../index.mjs";
import { deferred } from "./support/events.mjs";
import { createHost, expired, PROFILE, PROVIDER, usable } from "./support/host.mjs";
import { memoryStore } from "./support/host-stores.mjs";
import { startProgram } from "./support/programs.mjs";
import { answering, unwanted } from "./support/refresh-functions.mjs";
import { rejection, typedRejection } from "./support/rejections.mjs";

/** More than there are threads that all calls share. */
const MANY = 24;
/** How often a store is read for a refresh. */
const LOADS = 6;

const call = (host, refresh, options) =>
  withOAuthRefreshLock(PROVIDER, PROFILE, refresh, { stateDir: host.stateDir, ...options });

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
    const made = call(createHost(), unwanted(), { store, timeoutMs: 50 });
    expect((await typedRejection(made, "store_unreadable")).path).toBe("host:own");
  });

  test("is not waited for by a caller who would take what has not expired", async () => {
    const store = silentStore("own", expired());
    const options = { store, timeoutMs: 50, serveUnexpired: true };
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
