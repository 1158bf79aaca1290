/**
 * A process whose worker threads make calls and die in the middle of them. Its main thread makes none and never loads the
 * package, so the addon is the workers' alone.
 *
 * @typedef {object} Life
 * @property {number} id
 * @property {keyof typeof deaths} how
 * @property {"calling" | "waiting" | "decided" | "asking" | "answered" | "settled"} at when: so many turns of the event loop after
 *   the call was made; while it waits for the lock; when it is on record that the provider is being asked, and the event loop,
 *   which stands still, has not come to that; in the refresh function, which never returns; so many turns after that returned;
 *   or by itself, once its call has settled
 * @property {number} [epoch] of the journal, at "decided"
 * @property {number} [turns]
 * @property {[provider: string, profileId: string]} key
 * @property {object} options
 * @property {object} fields what the refresh function returns
 */
import { subscribe } from "node:diagnostics_channel";
import { existsSync, readFileSync } from "node:fs";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { CHANNEL } from "./events.mjs";

const deaths = {
  terminate: () => parentPort.postMessage("terminate"),
  "process.exit": () => process.exit(),
  "an uncaught exception": () => {
    setImmediate(() => {
      throw new Error("nobody catches this");
    });
  },
};

/** Stands still until a claim is on record as dispatched; then dies, still standing. */
function dieDecided(lockPath, epoch) {
  const dispatched = `"state":"dispatched","epoch":${epoch},`;
  while (!existsSync(`${lockPath}.journal`) || !readFileSync(`${lockPath}.journal`, "latin1").includes(dispatched));
  deaths.terminate();
  for (;;);
}

/** In a worker thread. */
async function live({ how, at, turns = 0, epoch, key, options, fields, counts }) {
  const reach = async (moment) => {
    if (moment !== at) return;
    for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
    deaths[how]();
  };
  const { withOAuthRefreshLock } = await import("../../index.mjs");
  subscribe(CHANNEL, ({ type, lockPath }) => {
    parentPort.postMessage(type);
    // When the decision has been asked for, and before the event loop can hear of it: we are among promises, which all go first.
    if (type === "acquired" && at === "decided") process.nextTick(dieDecided, lockPath, epoch);
    void reach(type);
  });
  const refresh = () => {
    Atomics.add(counts, 0, 1);
    void reach("asking");
    if (!["answered", "settled"].includes(at)) return new Promise(() => {});
    void reach("answered");
    return fields;
  };
  const called = withOAuthRefreshLock(...key, refresh, options);
  void reach("calling");
  await called;
}

/** In the main thread. */
function begin(life) {
  const counts = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(import.meta.filename, { workerData: { ...life, counts } });
  worker.on("message", (type) => {
    if (type === "terminate") void worker.terminate();
    else process.send({ type, id: life.id });
  });
  worker.on("error", () => {});
  worker.once("exit", () => process.send({ type: "died", id: life.id, calls: counts[0] }));
}

if (isMainThread) process.on("message", begin);
else await live(workerData);
