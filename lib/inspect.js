const args = require("./arguments.js");
const { rowOf, whyNotWritable } = require("./coordinator.js");
const { unwrap } = require("./errors.js");
const { native } = require("./native.js");
const { surroundings } = require("./surroundings.js");

/** Looks at every key of a state directory. Takes no exclusive lock, changes nothing, hands out no secret. */
async function inspectOAuthRefreshLocks(options) {
  const given = args.optionsObject(options, "options", args.REFRESH_OPTIONS);
  const stateDir = args.absolutePath("stateDir", given.stateDir);
  const { coordinator } = args.coordinatorArguments(given);
  args.trustVolume();
  const keys = unwrap(await native().inspectLocks(stateDir, surroundings(stateDir, undefined)));
  await Promise.all(keys.map((key) => lookAtRows(key, coordinator)));
  return keys;
}

/** Puts what a coordinator knows of a key's rows in the place of their names. */
async function lookAtRows({ shared }, coordinator) {
  if (!shared) return;
  shared.rows = coordinator ? await Promise.all(shared.rows.map((name) => rowOf(coordinator, name))) : undefined;
}

/**
 * For the command line: the same, and stores, directories and files with what is in their way; see `src/inspect.rs`.
 *
 * @param {string} stateDir
 * @param {string} [url] the coordinator's
 */
async function survey(stateDir, url) {
  const given = args.absolutePath("stateDir", stateDir);
  const { coordinator } = args.coordinatorArguments({ coordinator: url });
  args.trustVolume();
  const seen = unwrap(await native().survey(given, surroundings(given, undefined)));
  const rows = [...new Set(seen.stores.flatMap(({ logins }) => logins.map(({ row }) => row)).filter(Boolean))];
  seen.rows = coordinator
    ? Object.fromEntries(await Promise.all(rows.map(async (name) => [name, await rowOf(coordinator, name)])))
    : undefined;
  if (coordinator) seen.coordinator = { name: coordinator.name, problem: await whyNotWritable(coordinator) };
  return seen;
}

/**
 * For the command line: takes other users' rights from what lies below a state directory. On this thread, which has nothing else to
 * do there.
 */
function makePrivate(stateDir, path) {
  unwrap(native().makePrivate(stateDir, path));
}

module.exports = { inspectOAuthRefreshLocks, makePrivate, survey };
