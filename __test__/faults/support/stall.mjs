/**
 * A process whose disk stands still at one file operation until this very thread lets it go on, which it does once a call has
 * given up: if the operation ran on this thread, that would never be.
 */
import { writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";

const { module, key, options, goOn, fields, timeoutMs, isHealthy } = JSON.parse(process.argv[2]);
const { withOAuthProfileLock, withOAuthRefreshLock } = await import(module);

const codes = [];
let asked = 0;
const warnings = [];
process.on("warning", ({ code }) => warnings.push(code));
const refresh = async () => {
  asked += 1;
  return fields;
};

/** The call with a limit; and if that runs out, once more on a disk that goes on. */
async function insistent(call) {
  try {
    return await call(isHealthy ? undefined : timeoutMs);
  } catch (error) {
    codes.push(error.code);
    if (isHealthy) return undefined;
    writeFileSync(goOn, "");
    return call();
  }
}

const lockOptions = (timeoutMs) => ({ stateDir: options.stateDir, timeoutMs });
const locked = await insistent((timeoutMs) => withOAuthProfileLock(...key, () => "done", lockOptions(timeoutMs)));
const result = await insistent((timeoutMs) => withOAuthRefreshLock(...key, refresh, { ...options, timeoutMs }));
// What is still under way may use the disk until it is done.
if (!isHealthy) writeFileSync(goOn, "");
const last = await withOAuthRefreshLock(...key, refresh, options).catch(({ code }) => ({ code }));
await delay(0);
console.log(JSON.stringify({ codes, asked, locked, result, last, warnings }));
