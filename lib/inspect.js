const args = require("./arguments.js");
const { unwrap } = require("./errors.js");
const { native } = require("./native.js");

/** Looks at every key of a state directory. Takes no lock, changes nothing, reads no secret. */
async function inspectOAuthRefreshLocks(options) {
  const { stateDir } = args.optionsObject(options);
  return unwrap(await native().inspectLocks(args.absolutePath("stateDir", stateDir), args.surroundings()));
}

module.exports = { inspectOAuthRefreshLocks };
