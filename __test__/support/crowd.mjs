/**
 * A process of callers, on its main thread or on worker threads. At "go" all make their calls at once. Tells every event
 * of the package, and of each call `called`, when its function runs alone, and `settled`.
 *
 * @typedef {object} Work
 * @property {Call[][]} threads the calls of each worker thread
 * @property {Call[]} calls those of the main thread
 *
 * @typedef {object} Call
 * @property {"refresh" | "lock"} ask
 * @property {string} provider
 * @property {string} profileId
 * @property {object} options
 * @property {number} key of all calls for the key
 * @property {object} [server] whom the refresh function asks; without, it answers what came with "go"
 */
import { subscribe } from "node:diagnostics_channel";
import { readSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { withOAuthProfileLock, withOAuthRefreshLock } from "../../index.mjs";
import { CHANNEL } from "./events.mjs";
import { createRefresh } from "./oauth/refresh.mjs";

const MAX_KEYS = 64;

const { calls, inside } = isMainThread
  ? { ...JSON.parse(process.argv[2]), inside: new Int32Array(new SharedArrayBuffer(4 * MAX_KEYS)) }
  : workerData;
const tell = isMainThread ? (message) => process.send(message) : (message) => parentPort.postMessage(message);

async function make({ ask, provider, profileId, options, key, server }, fields) {
  const answer = server ? createRefresh(server) : () => fields;
  const fn = async (credential, context) => {
    const together = Atomics.add(inside, key, 1) > 0;
    tell({ type: together ? "together" : "called", ask, key });
    // Whoever else may enter has the time to.
    await new Promise(setImmediate);
    try {
      return await answer(credential, context);
    } finally {
      Atomics.sub(inside, key, 1);
    }
  };
  const call = ask === "refresh" ? withOAuthRefreshLock : withOAuthProfileLock;
  try {
    const { outcome, credential = fields } = await call(provider, profileId, fn, options);
    tell({ type: "settled", outcome, access: credential.access });
  } catch (error) {
    tell({ type: "settled", error: String(error) });
  }
}

const words = {
  go({ fields }) {
    for (const call of calls) void make(call, fields);
  },
  /** Reads a file so many times, all at once. */
  async read({ count }) {
    const read = await Promise.all(Array.from({ length: count }, () => readFile(import.meta.filename)));
    tell({ type: "read", count: read.length });
  },
  /** Stops the event loop until something comes by standard input. */
  block: () => void process.send({ type: "blocked" }, () => readSync(0, Buffer.alloc(1))),
  leave: () => (isMainThread ? process.disconnect() : parentPort.close()),
};

subscribe(CHANNEL, ({ type }) => tell({ type }));
if (isMainThread) {
  const { threads } = JSON.parse(process.argv[2]);
  const workers = threads.map((calls) => new Worker(import.meta.filename, { workerData: { calls, inside } }));
  for (const worker of workers) worker.on("message", tell);
  process.on("message", (message) => {
    if (["go", "leave"].includes(message.word)) for (const worker of workers) worker.postMessage(message);
    void words[message.word](message);
  });
} else {
  parentPort.on("message", (message) => void words[message.word](message));
}
