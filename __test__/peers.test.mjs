import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, test, vi } from "vitest";
import { withOAuthProfileLock } from "../index.mjs";
import { heldElsewhere, holdLock, startAgent } from "./support/agents.mjs";
import { BOTH_CALLS, expectFree, lockOn, lockPathOn, refreshAs } from "./support/calls.mjs";
import { stopClock } from "./support/clock.mjs";
import { deferred } from "./support/events.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER } from "./support/host.mjs";
import { listen } from "./support/listen.mjs";
import { copyPackage } from "./support/package-copy.mjs";
import { answering, unwanted } from "./support/refresh-functions.mjs";
import { typedRejection } from "./support/rejections.mjs";
import { startWorker } from "./support/workers.mjs";

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
    const next = lockOn(host, () => "mine");
    await log.seen({ type: "waiting" });
    await agent.kill();
    expect(await next).toBe("mine");
  });

  test.each(BOTH_CALLS)("a wait of %s that runs out says who holds the lock", async (_, call) => {
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
    const base = lockPathOn(host);
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
    const first = lockOn(host, () => release.promise);
    await log.seen({ type: "acquired" });
    const fn = unwanted();
    for (const [, call] of BOTH_CALLS) {
      const error = await typedRejection(call(host, fn, { timeoutMs: 20 }), "file_lock_timeout");
      expect(error.lockPath).toBe(`${lockPathOn(host)}.lock`);
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
    const waits = keys.map((options) => lockOn(host, () => "mine", options));
    await log.seen({ type: "waiting" }, keys.length);
    // Would never come back: there are four threads.
    expect(await readFile(import.meta.filename, "utf8")).toContain("waiting takes no thread");
    await Promise.all(holds.map(({ release }) => release()));
    expect(await Promise.all(waits)).toEqual(keys.map(() => "mine"));
  });
});

describe("peers in one process", () => {
  test("a worker thread is one", async () => {
    const host = createHost({ main: expired() });
    const worker = startWorker(host);
    await worker.told("inside");
    const log = listen();
    const error = await typedRejection(lockOn(host, unwanted(), { timeoutMs: 20 }), "file_lock_timeout");
    expect(error.holder.pid).toBe(process.pid);
    const fields = answer();
    const refreshed = refreshAs(host, "main", answering(fields));
    await log.seen({ type: "waiting", agentDir: host.agentDir("main") });
    worker.letGo();
    expect((await refreshed).credential).toMatchObject(fields);
  });

  test("worker threads wait for this one and for each other", async () => {
    const host = createHost();
    const release = deferred();
    const log = listen();
    const mine = lockOn(host, () => release.promise);
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
    const behind = lockOn(host, () => inside);
    expect(inside).toBe(1);
    first.letGo();
    await last.told("inside");
    last.letGo();
    expect(await behind).toBe(2);
  });

  test.each(["lock", "refresh"])("a worker thread that is ended inside its %s frees the lock", async (ask) => {
    const host = createHost({ main: expired() });
    const worker = startWorker(host, ask);
    await worker.told("inside");
    const log = listen();
    const waiting = lockOn(host, () => "mine");
    await log.seen({ type: "waiting" });
    await worker.end();
    expect(await waiting).toBe("mine");
  });

  test("import and require are one package, with one line", async () => {
    const host = createHost();
    const required = createRequire(import.meta.url)("../index.js");
    const order = [];
    await Promise.all([
      required.withOAuthProfileLock(PROVIDER, PROFILE, async () => order.push(1), { stateDir: host.stateDir }),
      withOAuthProfileLock(PROVIDER, PROFILE, async () => order.push(2), { stateDir: host.stateDir }),
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
    const first = lockOn(host, () => release.promise);
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
