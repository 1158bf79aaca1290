import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { onTestFinished } from "vitest";
import { CHANNEL, EventLog } from "./events.mjs";

/** Listens to this thread until the test is over. */
export function listen() {
  const log = new EventLog();
  subscribe(CHANNEL, log.add);
  onTestFinished(() => {
    unsubscribe(CHANNEL, log.add);
  });
  return log;
}
