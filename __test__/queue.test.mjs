import { AsyncLocalStorage } from "node:async_hooks";
import { once } from "node:events";
import { existsSync, mkdirSync, rmdirSync, symlinkSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import * as api from "../index.mjs";
import { holdLock, startAgent } from "./support/agents.mjs";
import { stopClock } from "./support/clock.mjs";
import { deferred, EventLog } from "./support/events.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER, storeText, usable } from "./support/host.mjs";
import { listen } from "./support/listen.mjs";
import { copyPackage } from "./support/package-copy.mjs";
import { answering, held, unwanted } from "./support/refresh-functions.mjs";
import { rejection, typedRejection } from "./support/rejections.mjs";

const { resolveOAuthRefreshLockPath, withOAuthProfileLock, withOAuthRefreshLock } = api;
const CALLERS = 10;

const refresh = (host, agent, fn, options) => withOAuthRefreshLock(PROVIDER, PROFILE, fn, host.as(agent, options));
const lock = (host, fn, options) =>
  withOAuthProfileLock(PROVIDER, PROFILE, fn, { stateDir: host.stateDir, ...options });

/** The lock of this host's key. */
const lockPath = ({ stateDir }) => resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir });

/** A child process holds the key's lock. */
async function heldElsewhere(host, options) {
  const agent = await startAgent();
  const { release } = await holdLock(agent, { options: { stateDir: host.stateDir, ...options } });
  return { agent, release };
}

/** A worker thread that wants the key's lock; `told` resolves once it has told so. */
function startWorker(host) {
  const workerData = { provider: PROVIDER, profileId: PROFILE, options: { stateDir: host.stateDir } };
  const worker = new Worker(new URL("support/worker.mjs", import.meta.url), { workerData });
  onTestFinished(() => worker.terminate());
  const log = new EventLog();
  worker.on("message", (type) => log.add({ type }));
  const told = (type) => Promise.race([log.seen({ type }), once(worker, "exit").then(() => expect.unreachable())]);
  return { worker, told, letGo: () => worker.postMessage("let go") };
}

/** Nobody holds the lock, and nobody stands in line. */
async function expectFree(host) {
  expect(await lock(host, () => "free")).toBe("free");
}

/** The two calls, behind a common face: a name, and how to make one with a function. */
const CALLS = [
  ["withOAuthRefreshLock", (host, fn, options) => refresh(host, "main", fn, options)],
  ["withOAuthProfileLock", (host, fn, options) => lock(host, fn, options)],
];

describe("in one process", () => {
  test("callers get their turns in the order in which they came", async () => {
    const host = createHost();
    const order = [];
    const calls = Array.from({ length: CALLERS }, (_, number) => lock(host, async () => order.push(number)));
    await Promise.all(calls);
    expect(order).toEqual([...Array(CALLERS).keys()]);
  });

  test("refreshes and locks stand in one line", async () => {
    const host = createHost({ main: expired() });
    const order = [];
    const record = (what) => async () => void order.push(what);
    await Promise.all([
      lock(host, record("lock 1")),
      refresh(host, "main", record("refresh 1")),
      lock(host, record("lock 2")),
      refresh(host, "main", record("refresh 2")),
    ]);
    expect(order).toEqual(["lock 1", "refresh 1", "lock 2", "refresh 2"]);
  });

  test.each([
    [
      "throws",
      () => {
        throw new Error("thrown");
      },
      "thrown",
    ],
    [
      "rejects",
      async () => {
        throw new Error("rejected");
      },
      "rejected",
    ],
  ])("the lock is released after a function that %s", async (_, fn, message) => {
    const host = createHost({ main: expired() });
    const [one, two, three, four] = [
      lock(host, fn),
      lock(host, () => 2),
      refresh(host, "main", fn),
      lock(host, () => 4),
    ];
    expect((await rejection(one)).message).toBe(message);
    expect(await two).toBe(2);
    expect((await rejection(three)).message).toBe(message);
    expect(await four).toBe(4);
    const { agent, release } = await heldElsewhere(host);
    expect(await release()).toEqual([{ result: undefined }]);
    expect(agent.log.types()).toEqual(["acquired"]);
  });

  test(`of a burst of ${CALLERS} callers one at most is inside`, async () => {
    const host = createHost();
    const inside = join(host.root, "inside");
    let entered = 0;
    const work = async () => {
      // Fails if somebody else is inside; the turns of the loop and of the disk in between let them try.
      mkdirSync(inside);
      entered += 1;
      await readFile(import.meta.filename);
      await new Promise(setImmediate);
      rmdirSync(inside);
    };
    await Promise.all(Array.from({ length: CALLERS }, () => lock(host, work)));
    expect(entered).toBe(CALLERS);
  });

  test("those who stand in line behind a peer say so", async () => {
    const host = createHost({ main: expired() });
    const log = listen();
    const call = held();
    const calls = [refresh(host, "main", call.refresh), refresh(host, "main", unwanted()), lock(host, () => {})];
    await call.called;
    expect(log.types({ type: "waiting" })).toHaveLength(2);
    call.answer(answer());
    await Promise.all(calls);
  });

  test("callers of other keys wait for nobody", async () => {
    const host = createHost();
    const release = deferred();
    const log = listen();
    const stuck = lock(host, () => release.promise);
    await log.seen({ type: "acquired" });
    const others = [
      withOAuthProfileLock(PROVIDER, `${PROFILE}2`, () => "profile", { stateDir: host.stateDir }),
      withOAuthProfileLock(`${PROVIDER}2`, PROFILE, () => "provider", { stateDir: host.stateDir }),
      lock(host, () => "state", { stateDir: join(host.root, "other state") }),
      lock(host, () => "path", { lockPath: join(host.root, "other lock") }),
    ];
    expect(await Promise.all(others)).toEqual(["profile", "provider", "state", "path"]);
    expect(log.types()).not.toContain("waiting");
    release.resolve();
    await stuck;
  });

  test("a follower takes its leader's result", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const log = listen();
    const call = held();
    const leading = refresh(host, "main", call.refresh);
    const followers = Array.from({ length: CALLERS }, unwanted);
    const following = followers.map((follower) => refresh(host, "main", follower));
    await call.called;
    const fields = answer();
    call.answer(fields);
    const credential = { ...old, ...fields };
    expect(await leading).toEqual({ outcome: "refreshed", credential });
    expect(await Promise.all(following)).toEqual(followers.map(() => ({ outcome: "fresh", credential })));
    for (const follower of followers) expect(follower).not.toHaveBeenCalled();
    expect(log.types({ type: "acquired" })).toHaveLength(1);
  });

  test("what a leader does with its result does not reach its followers", async () => {
    const old = expired();
    const host = createHost({ leader: old, sub: old });
    host.seed("main", expired({ accountId: "somebody else" }));
    const call = held();
    const leading = refresh(host, "leader", call.refresh).then(({ credential }) => {
      credential.refresh = "redacted";
      credential.access = "redacted";
    });
    const following = refresh(host, "sub", unwanted());
    await call.called;
    const fields = answer();
    call.answer(fields);
    await leading;
    expect(await following).toEqual({ outcome: "adopted", credential: { ...old, ...fields } });
    expect(host.store("sub")).toBe(storeText({ ...old, ...fields }));
  });

  test("a follower's store gets its leader's numbers as they are spelled", async () => {
    const old = expired();
    const text = JSON.stringify({ ...old, quota: 0 }).replace(`"quota":0`, `"quota":9007199254740993`);
    const host = createHost({ leader: storeText(text), sub: storeText(text) });
    host.seed("main", expired({ accountId: "somebody else" }));
    const call = held();
    const calls = [refresh(host, "leader", call.refresh), refresh(host, "sub", unwanted())];
    await call.called;
    call.answer(answer());
    await Promise.all(calls);
    for (const agent of ["leader", "sub"]) expect(host.store(agent)).toContain(`"quota": 9007199254740993\n`);
  });

  test("callers for other profiles that share a lock path do not take the leader's result", async () => {
    const host = createHost({ main: expired() });
    const other = expired();
    host.seed("other", storeText(other, "acme:other"));
    const shared = { lockPath: join(host.root, "shared lock") };
    const call = held();
    const second = answering();
    const calls = [
      refresh(host, "main", call.refresh, shared),
      withOAuthRefreshLock(PROVIDER, "acme:other", second, host.as("other", shared)),
    ];
    await call.called;
    call.answer(answer());
    const refused = typedRejection(calls[1], "journal_unusable");
    expect((await calls[0]).outcome).toBe("refreshed");
    expect((await refused).message).toContain("another provider or profile");
    expect(second).not.toHaveBeenCalled();
    expect(host.store("other")).toBe(storeText(other, "acme:other"));
  });

  test("a follower takes no result from a leader that had none", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const fields = answer();
    const second = answering(fields);
    const calls = [refresh(host, "main", async () => null), refresh(host, "main", second)];
    expect(await Promise.all(calls)).toEqual([null, { outcome: "refreshed", credential: { ...old, ...fields } }]);
    expect(second).toHaveBeenCalledTimes(1);
  });
});

describe("the function's result and errors pass through withOAuthProfileLock untouched", () => {
  const failures = [
    new TypeError("an error"),
    Object.freeze(new Error("a frozen error")),
    Object.assign(new Error("with a code"), { code: "file_lock_timeout" }),
    "text",
    "",
    0,
    null,
    undefined,
    false,
    Symbol("a symbol"),
    { code: "nested_call" },
    Object.create(null),
  ];

  test("every result", async () => {
    const host = createHost();
    const results = [undefined, null, 0, "", false, Symbol("s"), {}, [], () => {}, new Error("as a value"), 1n];
    for (const result of results) {
      expect(await lock(host, () => result)).toBe(result);
      expect(await lock(host, async () => result)).toBe(result);
    }
  });

  test("every error, and every other thing that is thrown", async () => {
    const host = createHost();
    for (const failure of failures) {
      const throwing = () => {
        throw failure;
      };
      expect(await rejection(lock(host, throwing))).toBe(failure);
      expect(await rejection(lock(host, () => Promise.reject(failure)))).toBe(failure);
    }
  });

  test("the function gets no arguments, and is called once", async () => {
    const host = createHost();
    const fn = vi.fn(() => "done");
    expect(await lock(host, fn)).toBe("done");
    expect(fn.mock.calls).toEqual([[]]);
  });

  test("it touches no store", async () => {
    const host = createHost({ main: usable() });
    const before = host.tree({ locks: false });
    await lock(host, () => {});
    expect(host.tree({ locks: false })).toEqual(before);
  });

  test("a given lock path is the one that is locked", async () => {
    const host = createHost();
    const given = join(host.root, "locks of the host", "refresh");
    const { release } = await heldElsewhere(host, { lockPath: given });
    const log = listen();
    const waiting = lock(host, () => "mine", { lockPath: given });
    await log.seen({ type: "waiting", lockPath: given });
    await release();
    expect(await waiting).toBe("mine");
    expect(existsSync(lockPath(host))).toBe(false);
  });
});

describe("across processes", () => {
  test("one at most is inside, and all have their turn", async () => {
    const host = createHost();
    const agents = await Promise.all(Array.from({ length: 4 }, () => startAgent()));
    const request = { options: { stateDir: host.stateDir } };
    const first = await holdLock(agents[0], request);
    const others = agents.slice(1).map((agent) => agent.lock(request));
    await Promise.all(agents.slice(1).map(({ log }) => log.seen({ type: "waiting" })));
    const inside = () => others.filter(({ calls }) => calls.length > 0).length;
    expect(inside()).toBe(0);
    await first.release();
    const left = new Set(others);
    for (let turn = 1; turn <= others.length; turn++) {
      const next = await Promise.race([...left].map((call) => call.called.then(() => call)));
      expect(inside()).toBe(turn);
      left.delete(next);
      next.answer();
      await next.settled;
    }
  });

  test("an owner's death frees the lock", async () => {
    const host = createHost();
    const { agent } = await heldElsewhere(host);
    const log = listen();
    const next = lock(host, () => "mine");
    await log.seen({ type: "waiting" });
    await agent.kill();
    expect(await next).toBe("mine");
  });

  test.each(CALLS)("a wait of %s that runs out says who holds the lock", async (_, call) => {
    const host = createHost({ main: expired() });
    const before = host.store("main");
    const { agent, release } = await heldElsewhere(host);
    const log = listen();
    const pass = stopClock();
    const fn = unwanted();
    const failed = typedRejection(call(host, fn, { timeoutMs: 20 }), "file_lock_timeout");
    await log.seen({ type: "waiting" });
    pass(20);
    const error = await failed;
    const base = lockPath(host);
    expect({ path: error.path, lockPath: error.lockPath }).toEqual({ path: base, lockPath: `${base}.lock` });
    expect(error.holder).toEqual({ pid: agent.pid, heldMs: expect.any(Number) });
    expect(error.holder.heldMs).toBeGreaterThanOrEqual(0);
    expect(error.message).toContain(base);
    expect(error.message).toContain(`${agent.pid}`);
    await release();
    await expectFree(host);
    expect(fn).not.toHaveBeenCalled();
    expect(host.store("main")).toBe(before);
  });

  test("a wait in this process's own line runs out all the same", async () => {
    const host = createHost({ main: expired() });
    const log = listen();
    const release = deferred();
    const first = lock(host, () => release.promise);
    await log.seen({ type: "acquired" });
    const fn = unwanted();
    for (const [, call] of CALLS) {
      const error = await typedRejection(call(host, fn, { timeoutMs: 20 }), "file_lock_timeout");
      expect(error.lockPath).toBe(`${lockPath(host)}.lock`);
      expect(error.holder.pid).toBe(process.pid);
    }
    release.resolve();
    await first;
    await expectFree(host);
    expect(fn).not.toHaveBeenCalled();
  });

  test("waiting takes no thread of Node's own pool", async () => {
    const host = createHost();
    const log = listen();
    const keys = Array.from({ length: 64 }, (_, number) => ({ lockPath: join(host.root, "locks", `${number}`) }));
    const agent = await startAgent();
    const holds = await Promise.all(keys.map((options) => holdLock(agent, { options })));
    const waits = keys.map((options) => lock(host, () => "mine", options));
    await log.seen({ type: "waiting" }, keys.length);
    // Would never come back: there are four threads.
    expect(await readFile(import.meta.filename, "utf8")).toContain("waiting takes no thread");
    await Promise.all(holds.map(({ release }) => release()));
    expect(await Promise.all(waits)).toEqual(keys.map(() => "mine"));
  });
});

describe("a caller that gives up", () => {
  test.each(CALLS)("is freed at once: %s behind another process", async (_, call) => {
    const host = createHost({ main: expired() });
    const { release } = await heldElsewhere(host);
    const log = listen();
    const fn = unwanted();
    const controller = new AbortController();
    const result = call(host, fn, { signal: controller.signal });
    await log.seen({ type: "waiting" });
    const reason = new Error("the user left");
    controller.abort(reason);
    const error = await typedRejection(result, "caller_aborted");
    expect(error.cause).toBe(reason);
    await release();
    await expectFree(host);
    expect(fn).not.toHaveBeenCalled();
  });

  test.each(CALLS)("is freed at once: %s in this process's line", async (_, call) => {
    const host = createHost({ main: expired() });
    const log = listen();
    const release = deferred();
    const first = lock(host, () => release.promise);
    await log.seen({ type: "acquired" });
    const [one, two] = [unwanted(), vi.fn()];
    const controller = new AbortController();
    const result = call(host, one, { signal: controller.signal });
    const last = lock(host, two);
    controller.abort();
    await typedRejection(result, "caller_aborted");
    expect(two).not.toHaveBeenCalled();
    release.resolve();
    await Promise.all([first, last]);
    expect(one).not.toHaveBeenCalled();
    expect(two).toHaveBeenCalledTimes(1);
  });

  test.each(CALLS)("before it calls %s does nothing at all", async (_, call) => {
    const host = createHost({ main: expired() });
    const before = host.tree();
    const log = listen();
    const fn = unwanted();
    const signal = AbortSignal.abort("no more");
    const error = await typedRejection(call(host, fn, { signal }), "caller_aborted");
    expect(error.cause).toBe("no more");
    expect(fn).not.toHaveBeenCalled();
    expect(log.types().filter((type) => type !== "failed")).toEqual([]);
    expect(host.tree()).toEqual(before);
  });

  test("is not asked for, once it has the lock and before it asks the provider", async () => {
    const host = createHost({ main: expired() });
    const log = listen();
    const fn = unwanted();
    const controller = new AbortController();
    void log.seen({ type: "acquired" }).then(() => controller.abort());
    await typedRejection(refresh(host, "main", fn, { signal: controller.signal }), "caller_aborted");
    await expectFree(host);
    expect(fn).not.toHaveBeenCalled();
    expect(log.types()).not.toContain("dispatched");
  });

  test("leaves the others in line", async () => {
    const host = createHost();
    const { release } = await heldElsewhere(host);
    const log = listen();
    const controllers = Array.from({ length: CALLERS }, () => new AbortController());
    const order = [];
    const calls = controllers.map(({ signal }, number) => lock(host, () => order.push(number), { signal }));
    const settled = Promise.allSettled(calls);
    await log.seen({ type: "waiting" });
    for (const number of [0, 3, 9]) controllers[number].abort();
    for (const number of [0, 3, 9]) await typedRejection(calls[number], "caller_aborted");
    await release();
    const statuses = (await settled).map(({ status }) => status);
    expect(statuses.filter((status) => status === "fulfilled")).toHaveLength(CALLERS - 3);
    expect(order).toEqual([1, 2, 4, 5, 6, 7, 8]);
  });

  test("inside withOAuthProfileLock has had its turn: its function is awaited", async () => {
    const host = createHost();
    const log = listen();
    const work = deferred();
    const controller = new AbortController();
    const result = lock(host, () => work.promise, { signal: controller.signal });
    await log.seen({ type: "acquired" });
    controller.abort();
    work.resolve("done");
    expect(await result).toBe("done");
  });

  test.each(["refresh", "lock"])("lets its process end by itself: %s", async (ask) => {
    const host = createHost({ main: expired() });
    const { release } = await heldElsewhere(host);
    const agent = await startAgent();
    const call = agent[ask]({ options: host.as("main"), callers: 3 });
    await agent.log.seen({ type: "waiting" });
    call.abort("enough");
    const outcomes = await call.settled;
    expect(outcomes.map(({ error }) => error?.code)).toEqual(Array(3).fill("caller_aborted"));
    // The lock is still held, and no thread that waits for it keeps the process.
    expect(await agent.leave()).toEqual({ code: 0, signal: null });
    await release();
  });

  test("lets its process end by itself while its refresh is under way", async () => {
    const host = createHost({ main: expired() });
    const agent = await startAgent();
    const call = agent.refresh({ options: host.as("main") });
    await call.called;
    call.abort("enough");
    expect(await call.settled).toMatchObject([{ error: { code: "caller_aborted" } }]);
    expect(await agent.leave()).toEqual({ code: 0, signal: null });
    await expectFree(host);
  });

  test("has its process end by itself also after all went well", async () => {
    const host = createHost({ main: expired() });
    const agent = await startAgent();
    const call = agent.refresh({ options: host.as("main"), callers: 3 });
    await call.called;
    call.answer(answer());
    expect(await call.settled).toHaveLength(3);
    expect(await agent.leave()).toEqual({ code: 0, signal: null });
  });
});

describe("peers in one process", () => {
  test("a worker thread is one", async () => {
    const host = createHost({ main: expired() });
    const worker = startWorker(host);
    await worker.told("inside");
    const log = listen();
    const error = await typedRejection(lock(host, unwanted(), { timeoutMs: 20 }), "file_lock_timeout");
    expect(error.holder.pid).toBe(process.pid);
    const fields = answer();
    const refreshed = refresh(host, "main", answering(fields));
    await log.seen({ type: "waiting", agentDir: host.agentDir("main") });
    worker.letGo();
    expect((await refreshed).credential).toMatchObject(fields);
  });

  test("worker threads wait for this one and for each other", async () => {
    const host = createHost();
    const release = deferred();
    const log = listen();
    const mine = lock(host, () => release.promise);
    await log.seen({ type: "acquired" });
    const [one, two] = [startWorker(host), startWorker(host)];
    await Promise.all([one.told("waiting"), two.told("waiting")]);
    let inside = 0;
    for (const worker of [one, two]) {
      void worker.told("inside").then(() => {
        inside += 1;
      });
    }
    release.resolve();
    await mine;
    const first = await Promise.race([one, two].map((worker) => worker.told("inside").then(() => worker)));
    const last = first === one ? two : one;
    const behind = lock(host, () => inside);
    expect(inside).toBe(1);
    first.letGo();
    await last.told("inside");
    last.letGo();
    expect(await behind).toBe(2);
  });

  test("a worker thread that is ended while it holds the lock frees it", async () => {
    const host = createHost();
    const { worker, told } = startWorker(host);
    await told("inside");
    const log = listen();
    const waiting = lock(host, () => "mine");
    await log.seen({ type: "waiting" });
    await worker.terminate();
    expect(await waiting).toBe("mine");
  });

  test("import and require are one package, with one line", async () => {
    const host = createHost();
    const required = createRequire(import.meta.url)("../index.js");
    expect({ ...required }).toEqual({ ...api });
    const order = [];
    await Promise.all([
      required.withOAuthProfileLock(PROVIDER, PROFILE, async () => order.push(1), { stateDir: host.stateDir }),
      api.withOAuthProfileLock(PROVIDER, PROFILE, async () => order.push(2), { stateDir: host.stateDir }),
      required.withOAuthProfileLock(PROVIDER, PROFILE, async () => order.push(3), { stateDir: host.stateDir }),
    ]);
    expect(order).toEqual([1, 2, 3]);
  });

  test("another copy of the package is one", async () => {
    const host = createHost();
    const copy = await import(pathToFileURL(join(copyPackage(), "index.mjs")).href);
    expect(copy.withOAuthProfileLock).not.toBe(withOAuthProfileLock);
    const log = listen();
    const release = deferred();
    const first = lock(host, () => release.promise);
    await log.seen({ type: "acquired" });
    const fn = vi.fn(() => "its");
    const second = copy.withOAuthProfileLock(PROVIDER, PROFILE, fn, { stateDir: host.stateDir });
    await log.seen({ type: "waiting" });
    expect(fn).not.toHaveBeenCalled();
    release.resolve();
    await first;
    expect(await second).toBe("its");
  });
});

describe("a nested call for the same key", () => {
  const outer = [
    ["withOAuthRefreshLock", (host, fn) => refresh(host, "main", fn)],
    ["withOAuthProfileLock", (host, fn) => lock(host, fn)],
  ];
  const nestings = outer.flatMap(([outerName, outside]) =>
    CALLS.map(([innerName, inside]) => [innerName, outerName, inside, outside]),
  );

  test.each(nestings)("is refused: %s in %s", async (_, __, inside, outside) => {
    const host = createHost({ main: expired() });
    const fn = unwanted();
    const inner = deferred();
    const fields = answer();
    const result = outside(host, async () => {
      // From deep inside, too.
      await readFile(import.meta.filename);
      await new Promise((resolve) => setTimeout(resolve, 0));
      inner.resolve(await rejection(inside(host, fn)));
      return fields;
    });
    const error = await inner.promise;
    expect(await result).toBeTruthy();
    await typedRejection(Promise.reject(error), "nested_call");
    expect(error.path).toBe(lockPath(host));
    expect(fn).not.toHaveBeenCalled();
    await expectFree(host);
  });

  test.each([
    [
      "a path that is not normalised",
      ({ stateDir }) => ({ lockPath: join(stateDir, "x") }),
      ({ stateDir }) => ({ lockPath: `${stateDir}/./y/../x` }),
    ],
    [
      "a link to the state directory",
      () => ({}),
      (host) => {
        symlinkSync(host.stateDir, join(host.root, "link"));
        return { stateDir: join(host.root, "link") };
      },
    ],
  ])("is refused by whatever name: %s", async (_, outside, inside) => {
    const host = createHost();
    const fn = unwanted();
    const result = await lock(
      host,
      () => rejection(lock(host, fn, { ...inside(host), timeoutMs: 1_000 })),
      outside(host),
    );
    await typedRejection(Promise.reject(result), "nested_call");
    expect(fn).not.toHaveBeenCalled();
  });

  test("is refused through another key", async () => {
    const host = createHost();
    const other = (fn) => withOAuthProfileLock(PROVIDER, "acme:other", fn, { stateDir: host.stateDir });
    const error = await lock(host, () => other(() => rejection(lock(host, unwanted()))));
    await typedRejection(Promise.reject(error), "nested_call");
  });

  test("is refused to a caller that had to queue", async () => {
    const host = createHost();
    const release = deferred();
    const first = lock(host, () => release.promise);
    const queued = lock(host, () => rejection(lock(host, unwanted())));
    release.resolve();
    await first;
    await typedRejection(Promise.reject(await queued), "nested_call");
  });

  test("is allowed for another key", async () => {
    const host = createHost({ main: expired() });
    const other = () => withOAuthProfileLock(PROVIDER, "acme:other", () => "inner", { stateDir: host.stateDir });
    expect(await lock(host, other)).toBe("inner");
  });

  test("is allowed to what outlives the function", async () => {
    const host = createHost();
    const over = deferred();
    let later;
    await lock(host, () => {
      later = over.promise.then(() => lock(host, () => "later"));
    });
    over.resolve();
    expect(await later).toBe("later");
  });
});

describe("the caller's async context", () => {
  const context = new AsyncLocalStorage();

  test("is that of its function, however long it queued", async () => {
    const host = createHost();
    const calls = Array.from({ length: CALLERS }, (_, number) =>
      context.run(number, () =>
        lock(host, async () => {
          const before = context.getStore();
          await readFile(import.meta.filename);
          return [before, context.getStore()];
        }),
      ),
    );
    expect(await Promise.all(calls)).toEqual(Array.from({ length: CALLERS }, (_, number) => [number, number]));
  });

  test("is that of its refresh function, behind another process and behind each other", async () => {
    const host = createHost({ main: expired() });
    const { release } = await heldElsewhere(host);
    const log = listen();
    const seen = [];
    const calls = [1, 2, 3].map((number) =>
      context.run(number, () =>
        refresh(host, "main", async () => {
          seen.push(context.getStore());
          return null;
        }),
      ),
    );
    await log.seen({ type: "waiting" });
    await release();
    expect(await Promise.all(calls)).toEqual([null, null, null]);
    expect(seen).toEqual([1, 2, 3]);
  });

  test("goes on after the call", async () => {
    const host = createHost();
    await context.run("mine", async () => {
      await Promise.all([lock(host, () => {}), lock(host, () => {})]);
      expect(context.getStore()).toBe("mine");
    });
  });
});
