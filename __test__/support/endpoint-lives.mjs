/**
 * A process that asks a token endpoint in worker threads, which die when it is told so, or in its main thread, whose event
 * loop then stands still until it is told to go on.
 *
 * @typedef {object} Life
 * @property {"live" | "block"} word
 * @property {number} id
 * @property {[provider: string, profileId: string]} key
 * @property {object} endpoint
 * @property {object} options
 */
import { subscribe } from "node:diagnostics_channel";
import { readSync } from "node:fs";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { CHANNEL } from "./events.mjs";

const workers = new Map();

async function call({ key, endpoint, options }) {
  const { withOAuthRefreshLock } = await import("../../index.mjs");
  return withOAuthRefreshLock(...key, endpoint, options);
}

const words = {
  live(life) {
    const worker = new Worker(import.meta.filename, { workerData: life });
    workers.set(life.id, worker);
    worker.once("exit", () => process.send({ type: "died", id: life.id }));
  },
  die: ({ id }) => void workers.get(id).terminate(),
  async block(life) {
    subscribe(CHANNEL, ({ type }) => {
      // The call is on its way once this has returned.
      if (type === "dispatched") queueMicrotask(standStill);
    });
    const { outcome, credential } = await call(life);
    process.send({ type: "settled", outcome, credential });
  },
};

function standStill() {
  process.send({ type: "blocked" });
  readSync(0, Buffer.alloc(1));
  process.send({ type: "unblocked" });
}

if (isMainThread) {
  process.on("message", (message) => void words[message.word](message));
} else {
  await call(workerData);
  parentPort.close();
}
