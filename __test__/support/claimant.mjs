/**
 * A process that holds a claim or waits for one, tells what it is told, and keeps what it has until it is told otherwise.
 *
 * @typedef {object} Work
 * @property {"hold" | "wait"} ask
 * @property {[provider: string, profileId: string]} key
 * @property {object} options
 */
import { subscribe } from "node:diagnostics_channel";
import { awaitOAuthRefreshClaim, holdOAuthRefreshClaim } from "../../index.mjs";
import { CHANNEL } from "./events.mjs";

const { ask, key, options } = JSON.parse(process.argv[2]);
subscribe(CHANNEL, ({ type }) => process.send({ type }));
const claim =
  ask === "hold" ? await holdOAuthRefreshClaim(...key, options) : await awaitOAuthRefreshClaim(...key, options);
const { state = "held", credential, mayProbe } = claim;
process.on("message", async ({ word }) => {
  if (word === "leave") return process.disconnect();
  await claim[word]();
  process.send({ type: word });
});
process.send({ type: state, credential, mayProbe });
