/** `keepOAuthFresh` for a login of a host, on a clock that stands still. */
import { expect, onTestFinished, vi } from "vitest";
import { keepOAuthFresh } from "../../index.mjs";
import { listen, stopClock } from "./calls.mjs";
import { PROFILE, PROVIDER } from "./host.mjs";

/** How long a failure rests at first. */
export const FIRST_REST = 5_000;

/** What is kept fresh there. */
export const profile = (host, more) => ({ provider: PROVIDER, profileId: PROFILE, ...host.as("main"), ...more });

/** Keeps this host's login fresh until the test is over, on a clock that stands still, with no jitter. */
export function keep(host, options) {
  const log = listen();
  const pass = stopClock();
  const controller = new AbortController();
  onTestFinished(() => controller.abort());
  keepOAuthFresh({ profiles: [profile(host)], jitterMs: 0, signal: controller.signal, ...options });
  return {
    log,
    stop: () => controller.abort(),
    /** Resolves once this was told, and what follows from it is done. */
    async seen(like, count) {
      await log.seen(like, count);
      await new Promise(setImmediate);
    },
    /** Lets so much time pass; nothing may happen before the end of it. Then something does, which is told anew. */
    passExactly(ms) {
      log.forget();
      // Whatever it does begins with one of these.
      const timeouts = vi.spyOn(globalThis, "setTimeout");
      pass(ms - 1);
      expect(timeouts).not.toHaveBeenCalled();
      timeouts.mockRestore();
      pass(1);
    },
    pass,
  };
}
