/** A process of agents: it makes calls as its parent says, and tells what becomes of them. */
import { subscribe } from "node:diagnostics_channel";
import { makeCall } from "./calling.mjs";

const tell = (told, more) => new Promise((resolve) => process.send({ told, ...more }, resolve));
let last;
let isDone = false;

// Its parent is gone.
process.on("disconnect", () => isDone || process.exit(1));
subscribe("oauth-refresh-lock", ({ type }) => void tell("event", { type }));
process.on("message", async ({ id, ask, point }) => {
  if (point) return last.goOn(point);
  if (ask === undefined) {
    isDone = true;
    return process.disconnect();
  }
  const { holds, became } = makeCall(ask, tell);
  last = holds;
  await tell("became", { id, became: await became });
});
await tell("ready");
