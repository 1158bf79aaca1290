import { onTestFinished, vi } from "vitest";

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
