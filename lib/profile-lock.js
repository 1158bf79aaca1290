const args = require("./arguments.js");
const { Caller } = require("./caller.js");
const { unwrap } = require("./errors.js");
const { asHolder, enter, openInOrder, refuseNested } = require("./queue.js");
const { acquire, lockTimeout, release, unanswered } = require("./lock.js");
const { native } = require("./native.js");
const { surroundingsIn } = require("./surroundings.js");

/**
 * The locks that are held. A function may return a promise that nothing refers to and that never settles: nothing would
 * refer to its lock then, and the garbage collector would release it.
 */
const held = new Set();

async function withOAuthProfileLock(...given) {
  const [key, operation, options] = given;
  const isKey = typeof key === "object" && key !== null && typeof operation !== "string";
  if (!isKey) return lockProfile(process.env, ...given);
  // OpenClaw's own form.
  const { env = process.env, ...others } = args.object("options", options ?? {});
  return lockProfile(args.object("options.env", env), key.provider, key.profileId, operation, others);
}

async function lockProfile(env, provider, profileId, fn, options) {
  args.checkKey(provider, profileId);
  args.refuseSwapped("fn", fn, options);
  args.callback("fn", fn);
  const { stateDir, lockPath: given, ...limits } = args.lockArguments(options);
  const found = given === undefined ? surroundingsIn(env, stateDir) : undefined;
  const told = given ?? native().toldLockPath(provider, profileId, stateDir, found) ?? undefined;
  const subject = { provider, profileId, lockPath: told };
  const caller = new Caller(limits, async (caller) => {
    const error = subject.lockPath === undefined ? unanswered() : await lockTimeout(subject.lockPath);
    // Its turn may have come while we asked whom it waits for.
    if (!caller.stays) caller.reject(error);
  });
  if (!caller.gone) void begin(subject, fn, caller, found);
  return caller.promise;
}

/** Stands in line, once it is known which one that is. */
async function begin(subject, fn, caller, found) {
  const { provider, profileId, lockPath } = subject;
  const { openLockPath, openLockPathNow } = native();
  try {
    const place = [provider, profileId, lockPath, lockPath === undefined ? found : undefined];
    await openInOrder(
      lockPath,
      openLockPathNow(...place),
      () => openLockPath(...place),
      (opened) => {
        Object.assign(subject, unwrap(opened));
        refuseNested(subject.key);
        if (caller.gone) return;
        const work = asHolder(subject.key, fn);
        enter(subject, { run: () => run(subject, work, caller) });
      },
    );
  } catch (error) {
    caller.reject(error);
  }
}

async function run(subject, work, caller) {
  if (caller.gone) return;
  try {
    // The limits are those of the wait; what it does takes the time it takes.
    const lock = await acquire(subject, caller, { stays: true });
    if (!lock) return;
    held.add(lock);
    let result;
    try {
      result = await work();
    } finally {
      held.delete(lock);
      await release(lock);
    }
    caller.resolve(result);
  } catch (error) {
    caller.reject(error);
  }
}

module.exports = { withOAuthProfileLock };
