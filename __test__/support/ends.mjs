/**
 * A process that makes a call and comes to its end in the middle of it, by its own hand.
 *
 * @typedef {object} Work
 * @property {keyof typeof ends} how
 * @property {"waiting" | "inside" | "answered"} at when: while it waits for the lock; in the function, which then never
 *   returns; or so many turns of the event loop after the function has returned
 * @property {number} [turns]
 * @property {boolean} [thread] the call is made by a worker thread
 * @property {"refresh" | "lock"} ask
 * @property {[provider: string, profileId: string]} key
 * @property {object} options
 * @property {object} fields what the function returns
 */
import { subscribe } from "node:diagnostics_channel";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { withOAuthProfileLock, withOAuthRefreshLock } from "../../index.mjs";
import { CHANNEL } from "./events.mjs";

const sigterm = () => process.kill(process.pid, "SIGTERM");
const ends = {
  SIGTERM: sigterm,
  "SIGTERM that it handles": () => {
    process.on("SIGTERM", () => process.exit(3));
    sigterm();
  },
  "process.exit": () => process.exit(3),
  "an uncaught exception": () => {
    setImmediate(() => {
      throw new Error("nobody catches this");
    });
  },
  "an unhandled rejection": () => void Promise.reject(new Error("nobody handles this")),
  "having nothing else to do": () => {
    process.disconnect();
    clearInterval(otherThings);
  },
};

/** What else an agent does, which keeps its thread alive. */
const otherThings = setInterval(() => {}, 1_000_000);

const work = isMainThread ? JSON.parse(process.argv[2]) : workerData;

/** Makes the call; `reach` is told how far it has come. */
async function call({ at, ask, key, options, fields }, reach) {
  subscribe(CHANNEL, ({ type }) => reach(type));
  const make = ask === "refresh" ? withOAuthRefreshLock : withOAuthProfileLock;
  const fn = () => {
    reach("inside");
    if (at === "inside") return new Promise(() => {});
    reach("answered");
    return fields;
  };
  await make(...key, fn, options);
}

async function reached(type) {
  if (process.connected) process.send({ type });
  if (type !== work.at) return;
  if (type === "answered") for (let turn = 0; turn < work.turns; turn++) await new Promise(setImmediate);
  else await new Promise((resolve) => process.once("message", resolve));
  ends[work.how]();
}

if (!isMainThread) await call(work, (type) => parentPort.postMessage(type));
else if (work.thread) new Worker(import.meta.filename, { workerData: work }).on("message", reached);
else await call(work, reached);
