/**
 * A process that makes a call and in the middle of it starts a child, which has its standard output and outlives it.
 *
 * @typedef {object} Work
 * @property {keyof typeof starts} how
 * @property {"waiting" | "inside"} at when: while it waits for the lock, or in the function, which never returns
 * @property {boolean} [thread] a worker thread does all that
 * @property {"refresh" | "lock"} ask
 * @property {[provider: string, profileId: string]} key
 * @property {object} options
 */
import { fork, spawn } from "node:child_process";
import { subscribe } from "node:diagnostics_channel";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { withOAuthProfileLock, withOAuthRefreshLock } from "../../index.mjs";
import { CHANNEL } from "./events.mjs";

const CHILD = "child";
const self = import.meta.filename;
const starts = {
  spawn: () => spawn(process.execPath, [self, CHILD], { stdio: "inherit" }),
  "spawn, detached": () => spawn(process.execPath, [self, CHILD], { stdio: "inherit", detached: true }),
  fork: () => fork(self, [CHILD]),
};

async function call({ how, at, ask, key, options }, tell) {
  const reach = (moment) => {
    tell({ type: moment });
    if (moment !== at) return;
    const child = starts[how]();
    child.once("spawn", () => tell({ type: "started", pid: child.pid }));
  };
  subscribe(CHANNEL, ({ type }) => reach(type));
  const fn = () => {
    reach("inside");
    return new Promise(() => {});
  };
  const make = ask === "refresh" ? withOAuthRefreshLock : withOAuthProfileLock;
  await make(...key, fn, options);
}

if (process.argv[2] === CHILD || isMainThread) setInterval(() => {}, 1_000_000);
if (process.argv[2] !== CHILD) {
  const work = isMainThread ? JSON.parse(process.argv[2]) : workerData;
  const tell = (message) => process.send(message);
  if (!isMainThread) await call(work, (message) => parentPort.postMessage(message));
  else if (work.thread) new Worker(self, { workerData: work }).on("message", tell);
  else await call(work, tell);
}
