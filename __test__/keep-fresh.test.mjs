/** Logins that are kept fresh: when they are refreshed, what failures do, and how it ends. */
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { keepOAuthFresh } from "../index.mjs";
import { heldElsewhere } from "./support/agents.mjs";
import { answering, expectFree, held, listen, refreshAs, stopClock, unwanted } from "./support/calls.mjs";
import { answer, createHost, expired, HOUR, MINUTE, PROFILE, PROVIDER, storeText, usable } from "./support/host.mjs";
import { heldStore } from "./support/host-stores.mjs";
import { FIRST_REST, keep, profile } from "./support/keeping.mjs";
import { at, http, says, startServer } from "./support/token-server.mjs";

/** A token that expires within it counts as expired. */
const MARGIN = 5 * MINUTE;
/** How long a failure rests at most. */
const LONGEST_REST = 5 * MINUTE;

const lasting = (ms) => expired({ expires: Date.now() + ms });

/** An error after which the next one may ask. */
const unreachable = () => Object.assign(new Error("down"), { code: "ECONNREFUSED" });

describe("a token", () => {
  test.each([
    ["that has expired", -MINUTE, 0, 0],
    ["that expires within the margin", MARGIN - 10_000, 0, 0],
    ["that expires within margin and jitter", MARGIN + 50_000, MINUTE, 0.9],
  ])("%s is refreshed", async (_, left, jitterMs, random) => {
    const old = lasting(left);
    const host = createHost({ main: old });
    vi.spyOn(Math, "random").mockReturnValue(random);
    onTestFinished(() => vi.restoreAllMocks());
    const fields = answer();
    const refresh = answering(fields);
    const { log, seen } = keep(host, { refresh, jitterMs });
    await seen({ type: "refreshed" });
    expect(refresh.mock.calls.map(([credential]) => credential)).toEqual([old]);
    expect(log.types()).toEqual(["acquired", "dispatched", "refreshed"]);
    expect(host.store("main")).toBe(storeText({ ...old, ...fields }));
  });

  test.each([
    ["that expires later", HOUR, MINUTE, 0.999],
    ["that expires within the whole jitter, but not within this part of it", MARGIN + 50_000, MINUTE, 0.5],
  ])("%s is left alone, and no lock is taken", async (_, left, jitterMs, random) => {
    const host = createHost({ main: lasting(left) });
    vi.spyOn(Math, "random").mockReturnValue(random);
    onTestFinished(() => vi.restoreAllMocks());
    const before = host.tree();
    const refresh = unwanted();
    const { log, seen } = keep(host, { refresh, jitterMs });
    await seen({ type: "fresh" });
    expect(log.types()).toEqual(["fresh"]);
    expect(refresh).not.toHaveBeenCalled();
    expect(host.tree()).toEqual(before);
  });

  test("is looked at again when it is time, or after five minutes: anything may have happened to it", async () => {
    const host = createHost({ main: usable() });
    const refresh = answering();
    const { seen, passExactly } = keep(host, { refresh });
    await seen({ type: "fresh" });
    host.seed("main", expired());
    passExactly(LONGEST_REST);
    await seen({ type: "refreshed" });
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test("that lives for less than the margin is refreshed in the last fifth of its life, not in a loop", async () => {
    const host = createHost({ main: expired() });
    const refresh = vi.fn(async () => answer({ expires: Date.now() + MINUTE }));
    const { log, seen, pass } = keep(host, { refresh });
    await seen({ type: "refreshed" });
    log.forget();
    // By the clock that moves it lives for a minute: a fifth of that is the margin now, or down to a tenth, at random.
    pass(0.9 * MINUTE);
    await seen({ type: "fresh" });
    host.seed("main", lasting(0.05 * MINUTE));
    pass(0.9 * MINUTE);
    await seen({ type: "refreshed" });
    expect(refresh).toHaveBeenCalledTimes(2);
  });

  test("is refreshed ahead of its own profile's margin", async () => {
    const host = createHost({ main: lasting(20 * MINUTE) });
    const refresh = answering();
    const { seen } = keep(host, { refresh, profiles: [profile(host, { refreshMarginMs: 30 * MINUTE })] });
    await seen({ type: "refreshed" });
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test("of a profile that is not there yet is looked for again", async () => {
    const host = createHost();
    const refresh = answering();
    const { log, seen, passExactly } = keep(host, { refresh });
    const timeouts = vi.spyOn(globalThis, "setTimeout");
    // Nobody tells that there is nothing.
    while (!timeouts.mock.calls.some(([, ms]) => ms === LONGEST_REST)) await new Promise(setImmediate);
    timeouts.mockRestore();
    expect(log.types()).toEqual([]);
    host.seed("main", expired());
    passExactly(LONGEST_REST);
    await seen({ type: "refreshed" });
    expect(refresh).toHaveBeenCalledTimes(1);
  });
});

describe("a failure", () => {
  const who = { provider: PROVIDER, profileId: PROFILE };

  test("is reported with its profile, and tried again after rests that grow, until a success", async () => {
    const host = createHost({ main: expired() });
    const rests = [FIRST_REST, 10_000, 20_000, 40_000, 80_000, 160_000, LONGEST_REST, LONGEST_REST];
    const errors = rests.map(unreachable);
    const refresh = answering();
    for (const error of errors) refresh.mockRejectedValueOnce(error);
    const onError = vi.fn();
    const { seen, passExactly } = keep(host, { refresh, onError });
    for (const [at, rest] of rests.entries()) {
      await seen({ type: "failed", code: "ECONNREFUSED" });
      expect(onError).toHaveBeenCalledTimes(at + 1);
      expect(onError.mock.lastCall[0]).toBe(errors[at]);
      expect(onError.mock.lastCall[1]).toEqual(who);
      passExactly(rest);
    }
    await seen({ type: "refreshed" });

    const again = unreachable();
    refresh.mockRejectedValueOnce(again);
    host.seed("main", expired());
    passExactly(LONGEST_REST);
    await seen({ type: "failed" });
    expect(onError.mock.lastCall[0]).toBe(again);
    passExactly(FIRST_REST);
    await seen({ type: "refreshed" });
    expect(onError).toHaveBeenCalledTimes(errors.length + 1);
  });

  test.each([
    ["throws", () => Promise.resolve(), true],
    ["rejects", () => Promise.reject(new Error("no log")), false],
  ])("is tried again if onError %s", async (_, end, throws) => {
    const host = createHost({ main: expired() });
    const refresh = answering().mockRejectedValueOnce(unreachable());
    const onError = vi.fn(() => {
      if (throws) throw new Error("no log");
      return end();
    });
    // What nobody handles fails the run.
    const { seen, passExactly } = keep(host, { refresh, onError });
    await seen({ type: "failed" });
    passExactly(FIRST_REST);
    await seen({ type: "refreshed" });
    expect(onError).toHaveBeenCalledTimes(1);
  });

  test("of which nobody wants to hear is tried again", async () => {
    const host = createHost({ main: expired() });
    const { seen, passExactly } = keep(host, { refresh: answering().mockRejectedValueOnce(unreachable()) });
    await seen({ type: "failed" });
    passExactly(FIRST_REST);
    await seen({ type: "refreshed" });
  });

  test.each([
    ["a token endpoint's", (server) => at(server)],
    [
      "a refresh function's",
      () => async () => {
        throw Object.assign(new Error("slow down"), { status: 429, headers: { "retry-after": "120" } });
      },
    ],
  ])("that asks for a pause, %s, is not tried again before its end", async (_, how) => {
    const host = createHost({ main: expired() });
    const server = await startServer(says(http(429, "", { "retry-after": "120" })));
    const onError = vi.fn();
    const { seen, passExactly } = keep(host, { refresh: how(server), onError });
    await seen({ type: "failed" });
    passExactly(2 * MINUTE);
    // By the clock that moves: the provider is not asked, as by the host's the pause goes on.
    await seen({ type: "failed", code: "refresh_backoff" });
    expect(onError).toHaveBeenCalledTimes(2);
    expect(server.requests.length).toBeLessThanOrEqual(1);
  });

  test("with a pause that is none rests as any other", async () => {
    const host = createHost({ main: expired() });
    const odd = Object.assign(unreachable(), { retryAfterMs: "soon" });
    const { seen, passExactly } = keep(host, { refresh: answering().mockRejectedValueOnce(odd) });
    await seen({ type: "failed" });
    passExactly(FIRST_REST);
    await seen({ type: "refreshed" });
  });

  test("of one profile is no other's", async () => {
    const [bad, good] = [createHost({ main: expired() }), createHost({ main: expired() })];
    const onError = vi.fn();
    const { seen } = keep(good, {
      profiles: [profile(bad, { refresh: vi.fn().mockRejectedValue(unreachable()) }), profile(good)],
      refresh: answering(),
      onError,
    });
    await seen({ type: "failed" });
    await seen({ type: "refreshed" });
    expect(onError).toHaveBeenCalledTimes(1);
  });
});

test("a lock that a peer holds is not waited for, is no failure, and is tried again in a moment", async () => {
  const host = createHost({ main: expired() });
  const { release } = await heldElsewhere(host);
  const refresh = answering();
  const onError = vi.fn();
  const { log, seen, passExactly } = keep(host, { refresh, onError });
  await seen({ type: "failed", code: "file_lock_timeout" });
  passExactly(FIRST_REST);
  await seen({ type: "failed", code: "file_lock_timeout" });
  expect(log.types({ type: "waiting" })).toEqual([]);
  await release();
  // Who has tried in vain may get it for a moment even so.
  await expectFree(host);
  passExactly(FIRST_REST);
  await seen({ type: "refreshed" });
  expect(onError).not.toHaveBeenCalled();
  expect(refresh).toHaveBeenCalledTimes(1);
});

test("nor is that of a store's owner", async () => {
  const host = createHost();
  const store = heldStore("own", expired());
  store.hold.mockRejectedValueOnce(Object.assign(new Error("held"), { code: "ELOCKED" }));
  const onError = vi.fn();
  const profiles = [{ provider: PROVIDER, profileId: PROFILE, stateDir: host.stateDir, store }];
  const { seen, passExactly } = keep(host, { profiles, refresh: answering(), onError });
  await seen({ type: "failed", code: "store_busy" });
  passExactly(FIRST_REST);
  await seen({ type: "refreshed" });
  expect(onError).not.toHaveBeenCalled();
  expect(store.hold).toHaveBeenCalledTimes(2);
});

test("a lock that stays taken for half a minute is reported once, each time that happens, and still tried again", async () => {
  const host = createHost({ main: expired() });
  const refresh = answering();
  const onError = vi.fn();
  let { release } = await heldElsewhere(host);
  const { seen, passExactly } = keep(host, { refresh, onError });
  for (const time of [1, 2]) {
    for (let rested = 0; ; rested += FIRST_REST) {
      await seen({ type: "failed", code: "file_lock_timeout" });
      expect(onError).toHaveBeenCalledTimes(rested < MINUTE / 2 ? time - 1 : time);
      if (rested === MINUTE) break;
      passExactly(FIRST_REST);
    }
    expect(onError.mock.lastCall[0]).toMatchObject({ code: "file_lock_timeout" });
    await release();
    await expectFree(host);
    passExactly(FIRST_REST);
    await seen({ type: "refreshed" });
    if (time === 2) break;
    host.seed("main", expired());
    ({ release } = await heldElsewhere(host));
    passExactly(LONGEST_REST);
  }
  expect(refresh).toHaveBeenCalledTimes(2);
});

describe("its signal", () => {
  test("ends it before it begins", async () => {
    const host = createHost({ main: expired() });
    const before = host.tree();
    const pass = stopClock();
    const log = listen();
    const refresh = unwanted();
    keepOAuthFresh({ profiles: [profile(host)], refresh, signal: AbortSignal.abort() });
    pass(HOUR);
    // What it began would have come to a result by the time that another call has.
    expect((await refreshAs(createHost({ main: expired() }), "main", answering())).outcome).toBe("refreshed");
    expect(log.types()).toEqual(["acquired", "dispatched", "refreshed"]);
    expect(refresh).not.toHaveBeenCalled();
    expect(host.tree()).toEqual(before);
  });

  test("ends it while it rests", async () => {
    const host = createHost({ main: usable() });
    const { seen, stop } = keep(host, { refresh: unwanted() });
    await seen({ type: "fresh" });
    expect(vi.getTimerCount()).toBe(1);
    stop();
    expect(vi.getTimerCount()).toBe(0);
  });

  test.each([
    ["succeeds", ({ answer: give }) => give(answer()), "refreshed"],
    ["fails", ({ fail }) => fail(unreachable()), "failed"],
  ])("lets a call under way come to its end, which %s, and then no other", async (_, end, type) => {
    const host = createHost({ main: expired() });
    const asked = held();
    const { seen, stop } = keep(host, { refresh: asked.refresh });
    const { signal } = await asked.called;
    stop();
    expect(signal.aborted).toBe(false);
    end(asked);
    await seen({ type });
    expect(vi.getTimerCount()).toBe(0);
    expect(asked.refresh).toHaveBeenCalledTimes(1);
  });
});

test("a profile's own way to refresh comes before that of all; functions and token endpoints both are one", async () => {
  const [one, two, three] = [1, 2, 3].map(() => createHost({ main: expired() }));
  const server = await startServer();
  const own = answering();
  const shared = answering();
  const { log, seen } = keep(one, {
    profiles: [profile(one), profile(two, { refresh: own }), profile(three, { refresh: at(server) })],
    refresh: shared,
  });
  await seen({ type: "refreshed" }, 3);
  expect([shared.mock.calls.length, own.mock.calls.length, server.requests.length]).toEqual([1, 1, 1]);
  for (const { stateDir } of [one, two, three]) {
    const ofHost = log.events.filter(({ lockPath }) => lockPath.startsWith(stateDir));
    expect(ofHost.map(({ type }) => type)).toEqual(["acquired", "dispatched", "refreshed"]);
  }
});
