/**
 * A process that calls the package as its parent asks, and tells what happens to it.
 *
 * @typedef {object} Ask
 * @property {string} provider
 * @property {string} profileId
 * @property {object} [options]
 * @property {object} [server] whom the refresh function asks
 * @property {object} [request] the token endpoint, to be asked without a refresh function
 * @property {string} [holdAt] stop for good, with every thread of JavaScript, once this is told: `acquired` or another
 *   event, `called`, `answered`, `settled`
 * @property {Linger} [linger] what the refresh function does when it has told this
 * @property {boolean} [lockOnly] do nothing but hold the key's lock, and linger in it
 *
 * @typedef {object} Linger
 * @property {"acquired" | "called" | "answered" | "inside"} at in `acquired`, while it is being decided what to do
 * @property {string} until a file: nothing goes on before it is there
 * @property {"busy" | "deaf"} manner keep the event loop busy, or only ignore the signal
 */
import { subscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { request } from "node:http";
import { json } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { commands, tell as plainTell } from "../../support/told.mjs";
import { describeError } from "./errors.mjs";

if (process.env.TEST_NO_TIMERS) {
  // Whoever waits for a timer waits for ever.
  globalThis.setTimeout = () => ({ ref() {}, unref() {} });
}
const { withOAuthProfileLock, withOAuthRefreshLock } = await import(process.env.TEST_PACKAGE);

let holdAt;
let lingerOnceAcquired;
function tell(told, more) {
  plainTell(told, more);
  if (told === holdAt) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

async function linger(told, { at, until, manner } = {}) {
  if (told !== at) return;
  while (!existsSync(until)) if (manner === "deaf") await delay(5);
}

/** A refresh function of few milliseconds: thousands of these processes live for one call. What went wrong is in the error. */
const asking =
  ({ tokenEndpoint, clientId }) =>
  async ({ refresh }, { signal } = {}) => {
    const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: refresh, client_id: clientId });
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    const call = request(tokenEndpoint, { method: "POST", agent: false, headers, signal }).end(`${body}`);
    const [response] = await once(call, "response");
    const { statusCode: status } = response;
    const answer = await json(response).catch(() => ({}));
    if (status !== 200) throw Object.assign(new Error(`status ${status}`), { status, error: answer.error });
    const { access_token: access, refresh_token, expires_in } = answer;
    return { access, refresh: refresh_token, expires: Date.now() + expires_in * 1000 };
  };

async function obey(ask) {
  const { id, provider, profileId, options } = ask;
  const tellAndLinger = async (told, more) => {
    tell(told, { id, ...more });
    await linger(told, ask.linger);
  };
  const askProvider = ask.server && asking(ask.server);
  const refresh = async (credential, context) => {
    await tellAndLinger("called");
    const fields = await askProvider(credential, ask.linger?.manner === "deaf" ? undefined : context);
    await tellAndLinger("answered", { fields });
    return fields;
  };
  try {
    const result = ask.lockOnly
      ? await withOAuthProfileLock(provider, profileId, () => tellAndLinger("inside"), options)
      : await withOAuthRefreshLock(provider, profileId, ask.request ?? refresh, options);
    tell("settled", { id, result });
  } catch (error) {
    tell("settled", { id, error: describeError(error) });
  }
}

subscribe("oauth-refresh-lock", (event) => {
  tell(event.type, { event });
  // When the decision has been asked for, and before the event loop can hear of it: we are among promises, which all go first.
  if (event.type === "acquired" && lingerOnceAcquired) process.nextTick(linger, "acquired", lingerOnceAcquired);
});
for await (const ask of commands()) {
  holdAt = ask.holdAt;
  lingerOnceAcquired = ask.linger?.at === "acquired" ? ask.linger : undefined;
  void obey(ask);
}
