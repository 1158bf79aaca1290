const args = require("./arguments.js");
const { Caller } = require("./caller.js");
const { asHolder, enter, refuseNested } = require("./line.js");
const { acquire, lockTimeout } = require("./lock.js");
const { native } = require("./native.js");

/**
 * The locks that are held. A function may return a promise that nobody holds on to and that never settles: nothing would
 * refer to its lock then, and the garbage collector would release it.
 */
const held = new Set();

async function withOAuthProfileLock(provider, profileId, fn, options) {
  args.key(provider, profileId);
  args.inOrder("fn", fn, options);
  args.callback("fn", fn);
  const { stateDir, lockPath: given, ...limits } = args.lockArguments(options);
  const lockPath = given ?? native().lockPath(provider, profileId, stateDir, args.surroundings(stateDir));
  refuseNested(lockPath);

  const key = native().canonicalPath(lockPath);
  const subject = { provider, profileId, lockPath, key };
  const caller = new Caller(limits, (caller) => caller.reject(lockTimeout(lockPath)));
  if (!caller.gone) {
    const work = asHolder(key, fn);
    enter(subject, { run: () => run(subject, work, caller) });
  }
  return caller.promise;
}

async function run(subject, work, caller) {
  if (caller.gone) return;
  try {
    const lock = await acquire(subject, caller);
    if (!lock) return;
    // The limits are those of the wait; what it does takes the time it takes.
    caller.stay();
    held.add(lock);
    try {
      caller.resolve(await work());
    } finally {
      held.delete(lock);
      lock.release();
    }
  } catch (error) {
    caller.reject(error);
  }
}

module.exports = { withOAuthProfileLock };
