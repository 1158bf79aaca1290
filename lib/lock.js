const { fromNative, unwrap } = require("./errors.js");
const { publish } = require("./events.js");
const { native } = require("./native.js");

/** The error of a wait for the lock that ran out, with what is known of its holder. */
function lockTimeout(lockPath) {
  return fromNative(new (native().NativeLock)(lockPath).timedOut());
}

/**
 * Takes a lock, at once if it is free: the key's, or the one at `path`.
 *
 * @returns the native lock, held; `undefined` if the caller gave up first
 */
async function acquire(subject, caller, path = subject.lockPath) {
  if (caller.gone) return undefined;
  const lock = new (native().NativeLock)(path);
  if (!unwrap(lock.acquire())) {
    publish("waiting", subject);
    caller.onGone = () => lock.release();
    unwrap(await lock.wait());
    caller.onGone = undefined;
  }
  if (caller.gone) {
    lock.release();
    return undefined;
  }
  publish("acquired", subject);
  return lock;
}

module.exports = { acquire, lockTimeout };
