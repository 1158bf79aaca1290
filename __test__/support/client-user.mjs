/**
 * A process that asks a client for its token once, tells what it got and every event, and has nothing else to do.
 *
 * @typedef {object} Work
 * @property {object} client what `createOAuthClient` is given
 * @property {boolean} [waits] whether it waits for its parent's word
 */
import { subscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { createOAuthClient } from "../../index.mjs";
import { CHANNEL } from "./events.mjs";

const { client, waits } = JSON.parse(process.argv[2]);

subscribe(CHANNEL, (event) => process.send(event));
const { token } = createOAuthClient(client);
if (waits) {
  process.send({ type: "ready" });
  await once(process, "message");
  process.channel.unref();
}
process.send({ type: "got", access: await token() });
