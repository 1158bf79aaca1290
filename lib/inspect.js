const args = require("./arguments.js");
const { unwrap } = require("./errors.js");
const { native } = require("./native.js");

/** Looks at every key of a state directory. Takes no exclusive lock, changes nothing, hands out no secret. */
async function inspectOAuthRefreshLocks(options) {
  const given = args.optionsObject(options, "options", args.REFRESH_OPTIONS);
  const stateDir = args.absolutePath("stateDir", given.stateDir);
  args.trustVolume();
  return unwrap(await native().inspectLocks(stateDir, args.surroundings(stateDir, undefined)));
}

/** For the command line: the same, and stores, directories and files with what is in their way; see `src/inspect.rs`. */
async function survey(stateDir) {
  const given = args.absolutePath("stateDir", stateDir);
  args.trustVolume();
  return unwrap(await native().survey(given, args.surroundings(given, undefined)));
}

/**
 * For the command line: takes other users' rights from what lies below a state directory. On this thread, which has nothing else to
 * do there.
 */
function makePrivate(stateDir, path) {
  unwrap(native().makePrivate(stateDir, path));
}

module.exports = { inspectOAuthRefreshLocks, makePrivate, survey };
