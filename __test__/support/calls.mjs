/** Calls of the package: how to make them, what they are given, and what is seen and heard of them. */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { expect, onTestFinished, vi } from "vitest";
import { resolveOAuthRefreshLockPath, withOAuthProfileLock, withOAuthRefreshLock } from "../../index.mjs";
import { CHANNEL, deferred, EventLog } from "./events.mjs";
import { answer, PROFILE, PROVIDER } from "./host.mjs";
import { toldBy } from "./secrets.mjs";

/** `withOAuthRefreshLock` by this agent. */
export const refreshAs = (host, agent, refresh, options) =>
  withOAuthRefreshLock(PROVIDER, PROFILE, refresh, host.as(agent, options));

/** `withOAuthProfileLock` on this host. */
export const lockOn = (host, fn, options) =>
  withOAuthProfileLock(PROVIDER, PROFILE, fn, { stateDir: host.stateDir, ...options });

/** The key's lock on this host. */
export const lockPathOn = ({ stateDir }) => resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir });

/** Both, for tables: a name, and how to make the call with a function. */
export const BOTH_CALLS = [
  ["withOAuthRefreshLock", (host, fn, options) => refreshAs(host, "main", fn, options)],
  ["withOAuthProfileLock", (host, fn, options) => lockOn(host, fn, options)],
];

/** Expects that nobody holds the key's lock, or will not before long. */
export async function expectFree(host) {
  expect(await lockOn(host, () => "free")).toBe("free");
}

/** A refresh function that counts its calls and answers at once. */
export const answering = (fields = answer()) => vi.fn(async () => fields);

/** Must not be called; a test that passes one asserts that it was not. */
export const unwanted = () =>
  vi.fn(async () => {
    throw new Error("the refresh function was called");
  });

/** Answers when told to. `called` tells when it was called, and with what. */
export function held() {
  const call = deferred();
  const reply = deferred();
  const refresh = vi.fn((credential, context) => {
    call.resolve({ credential, signal: context.signal });
    return reply.promise;
  });
  return { refresh, called: call.promise, answer: reply.resolve, fail: reply.reject };
}

/** What a promise is rejected with; a fulfilled one fails the test. */
export async function rejection(promise) {
  const settled = await Promise.resolve(promise).then(
    (value) => ({ value }),
    (error) => ({ error }),
  );
  expect(settled, "should have been rejected").not.toHaveProperty("value");
  return settled.error;
}

/** Expects one of our own errors, with this code, that tells no secret. */
export async function typedRejection(promise, code) {
  const error = await rejection(promise);
  expect(error).toBeInstanceOf(Error);
  expect({ name: error.name, code: error.code }).toEqual({ name: "OAuthRefreshLockError", code });
  expect(error.message).not.toBe("");
  expect(toldBy(error)).toEqual([]);
  return error;
}

/** Listens to this thread until the test is over. */
export function listen() {
  const log = new EventLog();
  subscribe(CHANNEL, log.add);
  onTestFinished(() => {
    unsubscribe(CHANNEL, log.add);
  });
  return log;
}

/**
 * Stops this thread's timeouts until the test is over. The function that is returned lets time pass.
 *
 * The lock waits in the kernel and needs no timer; only patience and the age of a call are told by them.
 */
export function stopClock() {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
  return (ms) => vi.advanceTimersByTime(ms);
}
