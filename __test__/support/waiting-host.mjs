/**
 * A process that makes a call with a host's store in a file, behind a refresh of its parent's. Once the parent has said so, each
 * `load` is told and waits for the parent's word. Tells events, loads, and how the call went.
 */
import { subscribe } from "node:diagnostics_channel";
import { readFileSync } from "node:fs";
import { withOAuthRefreshLock } from "../../index.mjs";
import { CHANNEL, deferred } from "./events.mjs";

const { provider, profileId, stateDir, file } = JSON.parse(process.argv[2]);
const words = new Map();
const word = (name) => {
  if (!words.has(name)) words.set(name, deferred());
  return words.get(name);
};
process.on("message", ({ word: said }) => word(said).resolve());

let isTold = false;
void word("watch").promise.then(() => {
  isTold = true;
  process.send({ type: "watching" });
});
subscribe(CHANNEL, ({ type }) => process.connected && process.send({ type }));

const load = async () => {
  if (isTold) {
    process.send({ type: "loading" });
    await word("load").promise;
  }
  return JSON.parse(readFileSync(file, "utf8"));
};
const store = { name: "shared", load, compareAndSwap: () => false };
const unwanted = () => {
  throw new Error("the refresh function was called");
};
const { outcome, credential } = await withOAuthRefreshLock(provider, profileId, unwanted, { stateDir, store });
process.send({ type: "done", outcome, access: credential.access });
process.disconnect();
