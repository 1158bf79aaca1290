/**
 * A worker thread that takes the key's lock and holds it until told to let go. Tells what happens to it.
 */
import { subscribe } from "node:diagnostics_channel";
import { parentPort, workerData } from "node:worker_threads";
import { withOAuthProfileLock } from "../../index.mjs";
import { CHANNEL } from "./events.mjs";

const { provider, profileId, options } = workerData;
const letGo = new Promise((resolve) => parentPort.once("message", resolve));
const work = () => {
  parentPort.postMessage("inside");
  return letGo;
};
subscribe(CHANNEL, ({ type }) => parentPort.postMessage(type));
await withOAuthProfileLock(provider, profileId, work, options);
