/**
 * A process that calls the package as its parent asks, and tells what happens to it. What it tells is written before it
 * goes on, so the parent has it even if it dies in the next instant.
 *
 * @typedef {object} Ask
 * @property {string} provider
 * @property {string} profileId
 * @property {object} [options]
 * @property {object} server whom the refresh function asks
 * @property {string} [holdAt] stop for good, with every thread of JavaScript, once this is told: `acquired` or another
 *   event, `called`, `answered`, `settled`
 */
import { subscribe } from "node:diagnostics_channel";
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { createRefresh } from "../../../storm/refresh.mjs";
import { describeError } from "./errors.mjs";

const TELL_FD = 3;

if (process.env.TEST_NO_TIMERS) {
  // Whoever waits for a timer waits for ever.
  globalThis.setTimeout = () => ({ ref() {}, unref() {} });
}
const { withOAuthRefreshLock } = await import(process.env.TEST_PACKAGE);

let holdAt;
function tell(told, more) {
  writeSync(TELL_FD, `${JSON.stringify({ told, ...more })}\n`);
  if (told === holdAt) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

async function refresh({ id, provider, profileId, options, server }) {
  const ask = createRefresh(server);
  const call = async (credential, context) => {
    tell("called", { id });
    const fields = await ask(credential, context);
    tell("answered", { id, fields });
    return fields;
  };
  try {
    tell("settled", { id, result: await withOAuthRefreshLock(provider, profileId, call, options) });
  } catch (error) {
    tell("settled", { id, error: describeError(error) });
  }
}

subscribe("oauth-refresh-lock", (event) => tell(event.type, { event }));
for await (const line of createInterface({ input: process.stdin })) {
  const ask = JSON.parse(line);
  holdAt = ask.holdAt;
  void refresh(ask);
}
