import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { expect, onTestFinished } from "vitest";
import { EventLog } from "./events.mjs";
import { PROFILE, PROVIDER } from "./host.mjs";

/** A worker thread that wants the key's lock, by `"lock"` or `"refresh"`. */
export function startWorker(host, ask = "lock") {
  const workerData = { ask, provider: PROVIDER, profileId: PROFILE, options: { stateDir: host.stateDir } };
  const worker = new Worker(new URL("worker.mjs", import.meta.url), { workerData });
  onTestFinished(() => worker.terminate());
  const log = new EventLog();
  worker.on("message", (type) => log.add({ type }));
  const ended = once(worker, "exit").then(() => expect.unreachable("the worker has ended"));
  return {
    /** Resolves once it has told that it waits, or is inside. */
    told: (type) => Promise.race([log.seen({ type }), ended]),
    letGo: () => worker.postMessage("let go"),
    end: () => worker.terminate(),
  };
}
