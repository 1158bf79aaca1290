/** A process of agents: it makes calls as its parent says, and tells what becomes of them. */
import { subscribe } from "node:diagnostics_channel";
import { commands, tell } from "../../support/told.mjs";
import { makeCall } from "./calling.mjs";

let last;
let done = false;

async function call(id, ask) {
  const { holds, became } = makeCall(ask, tell);
  last = holds;
  tell("became", { id, became: await became });
}

subscribe("oauth-refresh-lock", ({ type }) => tell("event", { type }));
tell("ready");
for await (const { id, ask, point, isDone } of commands()) {
  if (point) last.goOn(point);
  else if (isDone) done = true;
  else void call(id, ask);
}
// Its parent is gone.
if (!done) process.exit(1);
