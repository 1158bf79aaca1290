import { rmSync, writeFileSync } from "node:fs";
import { describe, expect, test, vi } from "vitest";
import { resolveOAuthRefreshLockPath } from "../index.mjs";
import { askingElsewhere, heldElsewhere, startAgent } from "./support/agents.mjs";
import {
  answering,
  BOTH_CALLS,
  expectFree,
  held,
  listen,
  lockOn,
  lockPathOn,
  refreshAs,
  stopClock,
  typedRejection,
  unwanted,
} from "./support/calls.mjs";
import { deferred } from "./support/events.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER, storeText } from "./support/host.mjs";

describe("a provider call that is too old", () => {
  test("is aborted, and the caller told", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const refresh = vi.fn(
      (_, { signal }) =>
        new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
    );
    const error = await typedRejection(refreshAs(host, "main", refresh, { callTimeoutMs: 5 }), "refresh_call_timeout");
    const [[, { signal }]] = refresh.mock.calls;
    expect(signal.reason).toBe(error);
    expect(host.store("main")).toBe(storeText(old));
    // It has let go: the next caller may try.
    expect((await refreshAs(host, "main", answering())).outcome).toBe("refreshed");
  });

  test("is not aborted because its caller left", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const { refresh, called, answer: reply } = held();
    const controller = new AbortController();
    const result = refreshAs(host, "main", refresh, { signal: controller.signal });
    const { signal } = await called;
    controller.abort();
    await typedRejection(result, "caller_aborted");
    expect(signal.aborted).toBe(false);
    const fields = answer();
    reply(fields);
    expect((await refreshAs(host, "main", unwanted())).credential).toEqual({ ...old, ...fields });
    expect(signal.aborted).toBe(false);
  });

  test("and ignores its signal keeps the claim, and its late success is saved", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const { refresh, called, answer: reply } = held();
    const failed = typedRejection(refreshAs(host, "main", refresh, { callTimeoutMs: 5 }), "refresh_call_timeout");
    const { signal } = await called;
    await failed;
    expect(signal.aborted).toBe(true);

    // Neither here nor in another process does anybody ask the provider meanwhile.
    const agent = await startAgent();
    const elsewhere = agent.refresh({ options: host.as("main") });
    const here = unwanted();
    const next = refreshAs(host, "main", here);
    await agent.log.seen({ type: "waiting" });
    expect(host.store("main")).toBe(storeText(old));

    const fields = answer();
    reply(fields);
    const credential = { ...old, ...fields };
    expect(await next).toEqual({ outcome: "fresh", credential });
    expect(await elsewhere.settled).toEqual([{ result: { outcome: "fresh", credential } }]);
    expect(here).not.toHaveBeenCalled();
    expect(elsewhere.calls).toEqual([]);
    expect(host.store("main")).toBe(storeText(credential));
  });

  test("and fails late leaves the next caller to try", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const { refresh, called, fail } = held();
    const failed = typedRejection(refreshAs(host, "main", refresh, { callTimeoutMs: 5 }), "refresh_call_timeout");
    await called;
    await failed;
    const fields = answer();
    const next = refreshAs(host, "main", answering(fields));
    fail(new Error("late"));
    expect(await next).toEqual({ outcome: "refreshed", credential: { ...old, ...fields } });
  });
});

describe("a caller whose patience runs out while its refresh is under way", () => {
  test("is told so; the result is saved, and found by the next caller", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const { refresh, called, answer: reply } = held();
    const pass = stopClock();
    const failed = typedRejection(refreshAs(host, "main", refresh, { timeoutMs: 5_000 }), "caller_timeout");
    const { signal } = await called;
    pass(5_000);
    const error = await failed;
    expect(error.path).toBe(resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir: host.stateDir }));
    expect(signal.aborted).toBe(false);
    const log = listen();
    const fields = answer();
    reply(fields);
    await log.seen({ type: "refreshed" });
    const credential = { ...old, ...fields };
    expect(host.store("main")).toBe(storeText(credential));
    expect(await refreshAs(host, "main", unwanted())).toEqual({ outcome: "fresh", credential });
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test("in another process leaves its result to us", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const [, theirs] = await askingElsewhere({ options: host.as("main") });
    theirs.abort("no more time");
    expect(await theirs.settled).toMatchObject([{ error: { code: "caller_aborted" } }]);
    const log = listen();
    const ours = refreshAs(host, "main", unwanted());
    await log.seen({ type: "waiting" });
    const fields = answer();
    theirs.answer(fields);
    expect(await ours).toEqual({ outcome: "fresh", credential: { ...old, ...fields } });
  });
});

test("a caller that waits for an owner of a term that is over is told that its time is up, and of no provider's pause", async () => {
  const old = expired();
  const host = createHost({ main: old });
  const [, theirs] = await askingElsewhere({ options: host.as("main") });
  // As if it had got the lock just when its predecessor was taken over from, and OpenClaw had deleted its lock file.
  rmSync(`${lockPathOn(host)}.lock`);
  writeFileSync(`${lockPathOn(host)}.t1.journal`, "", { mode: 0o600 });
  const log = listen();
  const failed = typedRejection(refreshAs(host, "main", unwanted(), { timeoutMs: 400 }), "file_lock_timeout");
  const next = refreshAs(host, "main", unwanted());
  await failed;
  expect(log.types({ type: "acquired" })).not.toEqual([]);
  const fields = answer();
  theirs.answer(fields);
  // From the store, or on its way there.
  const outcome = expect.stringMatching(/^(fresh|recovered)$/);
  expect(await next).toEqual({ outcome, credential: { ...old, ...fields } });
});

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
    expect(await agent.finish()).toEqual({ code: 0, signal: null });
    await release();
  });

  test("lets its process end by itself while its refresh is under way", async () => {
    const host = createHost({ main: expired() });
    const [agent, call] = await askingElsewhere({ options: host.as("main") });
    call.abort("enough");
    expect(await call.settled).toMatchObject([{ error: { code: "caller_aborted" } }]);
    expect(await agent.finish()).toEqual({ code: 0, signal: null });
    await expectFree(host);
  });

  test("has its process end by itself also after all went well", async () => {
    const host = createHost({ main: expired() });
    const [agent, call] = await askingElsewhere({ options: host.as("main"), callers: 3 });
    call.answer(answer());
    expect(await call.settled).toHaveLength(3);
    expect(await agent.finish()).toEqual({ code: 0, signal: null });
  });
});
