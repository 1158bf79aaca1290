/** A store whose owner, another program, has a lock of its own. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextLoop } from "node:timers/promises";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { keepOAuthFresh } from "../index.mjs";
import { answering, held, listen, typedRejection, unwanted } from "./support/calls.mjs";
import { deferred } from "./support/events.mjs";
import { fileStore, readLogin, writeLogin } from "./support/file-login.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER, usable } from "./support/host.mjs";
import { call, heldStore } from "./support/host-stores.mjs";
import { startProgram } from "./support/programs.mjs";
import { token } from "./support/secrets.mjs";
import { json, startServer, tokens } from "./support/token-server.mjs";

const ROUNDS = 50;
/** More than a promise takes on its way through us. */
const TURNS = 16;

/** After so many turns of the queue of promises. */
async function later(turns) {
  for (let turn = 0; turn < turns; turn++) await undefined;
}

function thrown(error) {
  throw error;
}

/** A provider that takes each refresh token once, and ends the login when one comes again. `hindered` delays its answers. */
async function startStrict(hindered = async () => {}) {
  const state = { valid: undefined, spent: new Set(), isLost: false };
  const server = await startServer(async ({ body }, socket) => {
    const presented = new URLSearchParams(body).get("refresh_token");
    if (state.spent.has(presented)) state.isLost = true;
    state.spent.add(presented);
    const given = tokens();
    const isGood = presented === state.valid && !state.isLost;
    if (isGood) state.valid = given.refresh_token;
    await hindered(server);
    socket.write(isGood && !state.isLost ? json(given) : json({ error: "invalid_grant" }, 400));
  });
  return { server, state };
}

/** A login in a file that its owner's process uses too. */
async function createShared(options) {
  const host = createHost();
  const file = join(host.root, "login.json");
  const { server, state } = await startStrict(options?.hindered);
  const owner = startProgram("login-owner", { file, url: server.url });
  await owner.told({ type: "ready" });
  return {
    host,
    file,
    server,
    state,
    owner,
    async logIn() {
      state.valid = token("refresh");
      await writeLogin(file, { accessToken: token("access"), refreshToken: state.valid, expiresAt: Date.now() - 1 });
    },
  };
}

describe("a login that another program owns", () => {
  test("is lost without its owner's lock", async () => {
    // The answers wait for each other: both have sent the same token.
    const { host, file, server, state, owner, logIn } = await createShared({
      hindered: (server) => server.requested(2),
    });
    await logIn();
    owner.say("refresh");
    const store = fileStore(file, { isHeld: false });
    await call(host, { tokenEndpoint: server.url }, { store }).catch(() => {});
    await owner.told({ type: "done" });
    expect(new Set(server.presented).size).toBe(1);
    expect(state.isLost).toBe(true);
  });

  test(`is never lost with it: ${ROUNDS} rounds, two processes`, async () => {
    const { host, file, server, state, owner, logIn } = await createShared();
    const store = fileStore(file, { isHeld: true });
    for (let round = 1; round <= ROUNDS; round++) {
      await logIn();
      // Who is first is open; every other time the owner is, for sure.
      owner.say("refresh");
      if (round % 2 === 0) await owner.told({ type: "locked" }, round);
      const { credential } = await call(host, { tokenEndpoint: server.url }, { store });
      await owner.told({ type: "done" }, round);
      const { accessToken, refreshToken } = await readLogin(file);
      expect([accessToken, refreshToken], `round ${round}`).toEqual([credential.access, credential.refresh]);
      expect([refreshToken, state.isLost], `round ${round}`).toEqual([state.valid, false]);
    }
    expect(server.requests).toHaveLength(ROUNDS);
    expect(existsSync(`${file}.lock`)).toBe(false);
  });

  test("is there for the next caller when its owner has died with its lock", async () => {
    const { host, file, server, logIn } = await createShared();
    await logIn();
    const { mkdir, utimes } = await import("node:fs/promises");
    await mkdir(`${file}.lock`);
    await utimes(`${file}.lock`, new Date(0), new Date(0));
    const store = fileStore(file, { isHeld: true });
    expect((await call(host, { tokenEndpoint: server.url }, { store })).outcome).toBe("refreshed");
  });
});

describe("hold", () => {
  test("is taken after the key's lock, in the order of names, around the decision and what is written", async () => {
    const old = expired();
    const host = createHost();
    const steps = [];
    const [store, mainStore] = ["own", "main"].map((name) => heldStore(name, old, steps));
    const log = listen();
    void log.seen({ type: "acquired" }).then(() => steps.push("acquired"));
    const refresh = vi.fn(async () => {
      steps.push("asked");
      return answering()();
    });
    await call(host, refresh, { store, mainStore });
    const [own, main] = ["own", "main"].map((name) => [`${name} held`, `${name} written`, `${name} released`]);
    expect(steps).toEqual(["acquired", main[0], own[0], "asked", own[1], main[1], own[2], main[2]]);
    expect(store.hold.mock.calls).toEqual([[PROFILE, { signal: expect.any(AbortSignal) }]]);
  });

  test("is taken in that order by those whose stores are each other's main", async () => {
    const steps = [];
    const [store, mainStore] = ["a", "b"].map((name) => heldStore(name, expired(), steps));
    await call(createHost(), answering(), { store, mainStore });
    await call(createHost(), answering(), { store: mainStore, mainStore: store, forceRefresh: true });
    expect(steps.filter((step) => step.endsWith("held"))).toEqual(["a held", "b held", "a held", "b held"]);
  });

  test("is taken once of a store that is its own main", async () => {
    const store = heldStore("own", expired());
    expect((await call(createHost(), answering(), { store, mainStore: store })).outcome).toBe("refreshed");
    expect([store.hold, store.release].map(({ mock }) => mock.calls.length)).toEqual([1, 1]);
  });

  test("is not taken by a caller who has just left", async () => {
    const store = heldStore("own", expired());
    const caller = new AbortController();
    void listen()
      .seen({ type: "acquired" })
      .then(() => caller.abort());
    const host = createHost();
    await typedRejection(call(host, unwanted(), { store, signal: caller.signal }), "caller_aborted");
    expect((await call(host, answering(), { store })).outcome).toBe("refreshed");
    expect(store.release).toHaveBeenCalledTimes(store.hold.mock.calls.length);
  });

  test("is let go of once, whenever the caller leaves", async () => {
    for (let turns = 0; turns < TURNS; turns++) {
      const store = heldStore("own", expired());
      const caller = new AbortController();
      store.hold.mockImplementation(async () => {
        void later(turns).then(() => caller.abort());
        return store.release;
      });
      await call(createHost(), answering(), { store, signal: caller.signal }).catch(() => {});
      await expect.poll(() => store.release, `after ${turns} turns`).toHaveBeenCalledTimes(1);
    }
  });

  test.each([
    ["succeeds", answering()],
    ["fails", async () => Promise.reject(new Error("no"))],
  ])("is over before a caller goes on whose refresh %s", async (_, refresh) => {
    const store = heldStore("own", expired());
    let isOver = false;
    store.release.mockImplementation(async () => {
      await nextLoop();
      isOver = true;
    });
    await call(createHost(), refresh, { store }).catch(() => {});
    expect(isOver).toBe(true);
  });

  test.each([
    ["throws", () => thrown(new Error("no"))],
    ["rejects", async () => thrown(new Error("no"))],
    ["never answers", () => new Promise(() => {})],
  ])("keeps nothing back when letting go of it %s", async (_, release) => {
    const store = heldStore("own", expired());
    store.release.mockImplementation(release);
    expect((await call(createHost(), answering(), { store })).outcome).toBe("refreshed");
    expect(store.release).toHaveBeenCalledTimes(1);
  });

  test("is not taken by a caller who needs nothing, and is by one who takes over what main has", async () => {
    const host = createHost();
    const steps = [];
    const store = heldStore("own", expired(), steps);
    const mainStore = heldStore("main", { ...store.held, ...usable() }, steps);
    expect((await call(host, unwanted(), { store, mainStore })).outcome).toBe("adopted");
    expect(steps).toEqual(["main held", "own held", "own written", "own released", "main released"]);
    steps.length = 0;
    expect((await call(host, unwanted(), { store, mainStore })).outcome).toBe("fresh");
    expect(steps).toEqual([]);
  });

  test.each([
    ["the provider refuses", async () => Promise.reject(new Error("no"))],
    ["nothing is to be asked", async () => null],
  ])("is let go of when %s", async (_, refresh) => {
    const store = heldStore("own", expired());
    await call(createHost(), refresh, { store }).catch(() => {});
    expect(store.release).toHaveBeenCalledTimes(1);
  });

  test("is let go of when the call is past its limit, and taken again for a late answer", async () => {
    const steps = [];
    const store = heldStore("own", expired(), steps);
    const asking = held();
    const made = call(createHost(), asking.refresh, { store, callTimeoutMs: 50 });
    await typedRejection(made, "refresh_call_timeout");
    await expect.poll(() => steps).toEqual(["own held", "own released"]);
    const fields = answering()();
    asking.answer(await fields);
    await expect.poll(() => store.release).toHaveBeenCalledTimes(2);
    expect(steps).toEqual(["own held", "own released", "own held", "own written", "own released"]);
  });

  test("is waited for with a late answer, by a caller that waits for no lock otherwise", async () => {
    const store = heldStore("own", expired());
    const asking = held();
    const keeper = new AbortController();
    onTestFinished(() => keeper.abort());
    const profile = {
      provider: PROVIDER,
      profileId: PROFILE,
      stateDir: createHost().stateDir,
      store,
      callTimeoutMs: 50,
    };
    keepOAuthFresh({ profiles: [profile], refresh: asking.refresh, signal: keeper.signal });
    await expect.poll(() => store.release).toHaveBeenCalledTimes(1);
    store.hold.mockRejectedValueOnce(Object.assign(new Error("held"), { code: "ELOCKED" }));
    const fields = answer();
    asking.answer(fields);
    await expect.poll(() => store.held.access).toBe(fields.access);
  });

  test.each([
    // Long enough for a look whether there is a token to serve meanwhile.
    ["runs out of time", { timeoutMs: 1_500 }, "store_busy"],
    ["is called off", {}, "caller_aborted"],
  ])("that never comes ends with the caller who %s; what comes later is let go of", async (_, limits, code) => {
    const store = heldStore("own", expired());
    const caller = new AbortController();
    const late = deferred();
    let signal;
    store.hold.mockImplementationOnce((_profileId, context) => {
      signal = context.signal;
      if (code === "caller_aborted") caller.abort();
      return late.promise;
    });
    const host = createHost();
    const error = await typedRejection(call(host, unwanted(), { store, signal: caller.signal, ...limits }), code);
    if (code === "store_busy")
      expect([error.path, error.message]).toEqual(["host:own", expect.stringContaining("owner")]);
    expect(signal.aborted).toBe(true);
    late.resolve(store.release);
    await expect.poll(() => store.release).toHaveBeenCalledTimes(1);
    expect((await call(host, answering(), { store })).outcome).toBe("refreshed");
  });

  test.each([
    ["throws", async () => Promise.reject(new Error("no"))],
    ["gives nothing to let go with", async () => undefined],
  ])("that %s keeps the provider from being asked", async (_, hold) => {
    const store = heldStore("own", expired());
    store.hold.mockImplementation(hold);
    const error = await typedRejection(call(createHost(), unwanted(), { store }), "store_busy");
    expect(error.message).toContain("`hold`");
  });

  test("that is not free is tried again", async () => {
    const store = heldStore("own", expired());
    const taken = Object.assign(new Error("Lock file is already being held"), { code: "ELOCKED" });
    for (let time = 0; time < 3; time++) store.hold.mockRejectedValueOnce(taken);
    expect((await call(createHost(), answering(), { store })).outcome).toBe("refreshed");
    expect(store.hold).toHaveBeenCalledTimes(4);
  });
});
