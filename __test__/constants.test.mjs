import { expect, test, vi } from "vitest";
import {
  OAUTH_REFRESH_CALL_TIMEOUT_MS,
  OAUTH_REFRESH_LOCK_OPTIONS,
  withOAuthProfileLock,
  withOAuthRefreshLock,
} from "../index.mjs";
import { holdLock, startAgent } from "./support/agents.mjs";
import { stopClock } from "./support/clock.mjs";
import { createHost, expired, PROFILE, PROVIDER } from "./support/host.mjs";
import { listen } from "./support/listen.mjs";
import { held, unwanted } from "./support/refresh-functions.mjs";
import { typedRejection } from "./support/rejections.mjs";

const { stale } = OAUTH_REFRESH_LOCK_OPTIONS;
/** As index.d.ts says of `timeoutMs`. */
const DEFAULT_PATIENCE_MS = 200_000;

test("the constants are OpenClaw's", () => {
  expect(OAUTH_REFRESH_CALL_TIMEOUT_MS).toBe(120_000);
  expect(OAUTH_REFRESH_LOCK_OPTIONS).toStrictEqual({
    retries: { retries: 20, factor: 2, minTimeout: 100, maxTimeout: 10_000, randomize: true },
    stale: 180_000,
  });
});

test("the constants cannot be changed", () => {
  expect(Object.isFrozen(OAUTH_REFRESH_LOCK_OPTIONS)).toBe(true);
  expect(Object.isFrozen(OAUTH_REFRESH_LOCK_OPTIONS.retries)).toBe(true);
});

test("a call is over well before its owner counts as stuck", () => {
  expect(OAUTH_REFRESH_CALL_TIMEOUT_MS).toBeLessThan(stale);
  expect(stale - OAUTH_REFRESH_CALL_TIMEOUT_MS).toBeGreaterThanOrEqual(30_000);
});

test("by default a provider call is aborted at the call timeout, not before", async () => {
  const host = createHost({ main: expired() });
  const { refresh, called } = held();
  const pass = stopClock();
  const result = withOAuthRefreshLock(PROVIDER, PROFILE, refresh, host.as("main"));
  const failed = typedRejection(result, "refresh_call_timeout");
  const { signal } = await called;
  pass(OAUTH_REFRESH_CALL_TIMEOUT_MS - 1);
  expect(signal.aborted).toBe(false);
  pass(1);
  expect(signal.reason).toBe(await failed);
});

test.each([
  [
    "withOAuthRefreshLock",
    (host, fn) => withOAuthRefreshLock(PROVIDER, PROFILE, fn, host.as("main", { serveUnexpired: false })),
  ],
  ["withOAuthProfileLock", (host, fn) => withOAuthProfileLock(PROVIDER, PROFILE, fn, { stateDir: host.stateDir })],
])("by default a waiter of %s outlasts the longest call and a stuck owner", async (_, call) => {
  const host = createHost({ main: expired() });
  const log = listen();
  const lock = await holdLock(await startAgent(), { options: { stateDir: host.stateDir } });
  const pass = stopClock();
  const fn = unwanted();
  const failed = typedRejection(call(host, fn), "file_lock_timeout");
  await log.seen({ type: "waiting" });
  const pending = vi.getTimerCount();
  pass(stale);
  expect(vi.getTimerCount()).toBe(pending);
  pass(DEFAULT_PATIENCE_MS - stale);
  await failed;
  expect(vi.getTimerCount()).toBe(pending - 1);
  await lock.release();
  expect(fn).not.toHaveBeenCalled();
});
