import { describe, expect, test, vi } from "vitest";
import { heldElsewhere, startAgent } from "./support/agents.mjs";
import { BOTH_CALLS, expectFree, lockOn, refreshAs } from "./support/calls.mjs";
import { deferred } from "./support/events.mjs";
import { answer, createHost, expired } from "./support/host.mjs";
import { listen } from "./support/listen.mjs";
import { unwanted } from "./support/refresh-functions.mjs";
import { typedRejection } from "./support/rejections.mjs";

const CALLERS = 10;

describe("a caller that gives up", () => {
  test.each(BOTH_CALLS)("is freed at once: %s behind another process", async (_, call) => {
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

  test.each(BOTH_CALLS)("is freed at once: %s in this process's line", async (_, call) => {
    const host = createHost({ main: expired() });
    const log = listen();
    const release = deferred();
    const first = lockOn(host, () => release.promise);
    await log.seen({ type: "acquired" });
    const [one, two] = [unwanted(), vi.fn()];
    const controller = new AbortController();
    const result = call(host, one, { signal: controller.signal });
    const last = lockOn(host, two);
    controller.abort();
    await typedRejection(result, "caller_aborted");
    expect(two).not.toHaveBeenCalled();
    release.resolve();
    await Promise.all([first, last]);
    expect(one).not.toHaveBeenCalled();
    expect(two).toHaveBeenCalledTimes(1);
  });

  test.each(BOTH_CALLS)("before it calls %s does nothing at all", async (_, call) => {
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
    await typedRejection(refreshAs(host, "main", fn, { signal: controller.signal }), "caller_aborted");
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
    const calls = controllers.map(({ signal }, number) => lockOn(host, () => order.push(number), { signal }));
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
    const result = lockOn(host, () => work.promise, { signal: controller.signal });
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
