/**
 * Refresh functions that count their calls.
 */
import { vi } from "vitest";
import { deferred } from "./events.mjs";
import { answer } from "./host.mjs";

/** Answers at once. */
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
