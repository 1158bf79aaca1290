const { fromNative, unwrap } = require("./errors.js");
const { publish } = require("./events.js");
const { native } = require("./native.js");

/** The error of a wait for the lock that ran out, with what is known of its holder. */
function lockTimeout(lockPath) {
  return fromNative(new (native().NativeLock)(lockPath, false).timedOut());
}

/**
 * Takes a lock, at once if it is free: the key's, or the one at `path`. Peers may take over from a refresh that is stuck.
 *
 * @returns the native lock, held; `undefined` if the caller gave up first
 * @throws the error of a wait that ran out, if it is not free and the caller is not `patient`
 */
async function acquire(subject, caller, { isRefresh = false, path = subject.lockPath, patient = true } = {}) {
  if (caller.gone) return undefined;
  const lock = new (native().NativeLock)(path, isRefresh);
  if (!unwrap(lock.acquire(patient))) {
    if (!patient) throw lockTimeout(path);
    publish("waiting", subject);
    caller.onGone = () => lock.release();
    unwrap(await lock.wait());
    caller.onGone = undefined;
  }
  if (caller.gone) {
    lock.release();
    return undefined;
  }
  for (const { type, ...details } of JSON.parse(lock.notices() ?? "[]")) {
    publish(type, subject, details);
    if (type === "warned")
      process.emitWarning(details.message, { type: "OAuthRefreshLockWarning", code: details.code });
  }
  if (path === subject.lockPath) publish("acquired", subject);
  return lock;
}

module.exports = { acquire, lockTimeout };
