const { soon } = require("./caller.js");
const { OAuthRefreshLockError, fromNative, unwrap } = require("./errors.js");
const { publish } = require("./events.js");
const { native } = require("./native.js");

/** How long a caller whose time is up waits to be told whom it has waited for. */
const DIAGNOSIS_MS = 250;
/** How long a caller that has its result waits for the lock to be released. */
const RELEASE_MS = 1_000;

/** The error of a wait for the lock that ran out, with what is known of its holder. */
async function lockTimeout(lockPath) {
  return (await explained(new (native().NativeLock)(lockPath).timedOut())) ?? unanswered(lockPath);
}

/** The error that the native side tells of; nothing if it can't tell soon. */
async function explained(reply) {
  const { error } = (await soon(reply, DIAGNOSIS_MS)) ?? {};
  return error && fromNative(error);
}

/** The error of a wait for a file system that stands still. */
function unanswered(lockPath) {
  const what = "timed out waiting for the file system, which does not answer";
  if (lockPath === undefined)
    return new OAuthRefreshLockError("file_lock_timeout", `${what}; the lock's path is not known yet`);
  return new OAuthRefreshLockError("file_lock_timeout", `${what}: ${lockPath}`, {
    path: lockPath,
    lockPath: `${lockPath}.lock`,
  });
}

/**
 * Takes a lock, at once if it is free. A caller that `stays` has no limits any more once it has the lock.
 *
 * @returns the native lock, held; `undefined` if the caller gave up first
 */
async function acquire(subject, caller, { lock = new (native().NativeLock)(subject.lockPath), stays = false } = {}) {
  if (caller.gone) return undefined;
  caller.onGone = () => void lock.release();
  try {
    if (!unwrap(await lock.acquire()) && !caller.gone) {
      publish("waiting", subject);
      unwrap(await lock.wait());
    }
  } finally {
    caller.onGone = undefined;
  }
  if (caller.gone) {
    void lock.release();
    return undefined;
  }
  if (stays) caller.stay();
  tell(subject, lock.notices());
  tell(subject, native().takeWarnings());
  publish("acquired", subject);
  return lock;
}

/** Publishes what was found out on the way, as JSON; and warns of what people should know. */
function tell(subject, notices) {
  for (const { type, ...details } of JSON.parse(notices ?? "[]")) {
    publish(type, subject, details);
    if (type === "warned")
      process.emitWarning(details.message, { type: "OAuthRefreshLockWarning", code: details.code });
  }
}

/** Releases a lock: before the caller goes on, unless its disk takes too long. */
const release = (lock) => soon(lock.release(), RELEASE_MS);

module.exports = { acquire, explained, lockTimeout, release, tell, unanswered };
