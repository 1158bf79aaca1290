/** A worker thread that takes the key's lock, by either call, and holds it until told to let go. Tells what happens. */
import { subscribe } from "node:diagnostics_channel";
import { parentPort, workerData } from "node:worker_threads";
import { withOAuthProfileLock, withOAuthRefreshLock } from "../../index.mjs";
import { CHANNEL } from "./events.mjs";

const { ask, provider, profileId, options } = workerData;
const letGo = new Promise((resolve) => parentPort.once("message", resolve));
const work = () => {
  parentPort.postMessage("inside");
  return letGo;
};
subscribe(CHANNEL, ({ type }) => parentPort.postMessage(type));
const call = ask === "refresh" ? withOAuthRefreshLock : withOAuthProfileLock;
await call(provider, profileId, work, options);
