const args = require("./arguments.js");
const { rowsOf, whyNotWritable } = require("./coordinator.js");
const { unwrap } = require("./errors.js");
const { native } = require("./native.js");
const { surroundings } = require("./surroundings.js");

/** Looks at every key of a state directory. Takes no exclusive lock, changes nothing, hands out no secret. */
async function inspectOAuthRefreshLocks(options) {
  const given = args.optionsObject(options, "options", args.REFRESH_OPTIONS);
  const stateDir = args.absolutePath("stateDir", given.stateDir);
  const { coordinator, coordinatorKeys } = args.coordinatorArguments(given);
  args.trustVolume();
  const keys = unwrap(await native().inspectLocks(stateDir, surroundings(stateDir, undefined)));
  const shared = keys.flatMap((key) => key.shared ?? []);
  const names = shared.flatMap(({ rows }) => rows);
  const rows = await look(stateDir, names, coordinator, coordinatorKeys);
  // In the place of their names.
  for (const one of shared) one.rows = rows && one.rows.map((name) => rows[name]);
  return keys;
}

/** What a coordinator knows of these rows, by name. */
async function look(stateDir, names, coordinator, coordinatorKeys = []) {
  if (!coordinator) return undefined;
  const notToBeOpened = async (rows) =>
    unwrap(await native().rowsNotToBeOpened(stateDir, surroundings(stateDir, undefined), rows, coordinatorKeys));
  return rowsOf(coordinator, [...new Set(names)], notToBeOpened);
}

/**
 * For the command line: the same, and stores, directories and files with what is in their way; see `src/inspect.rs`.
 *
 * @param {string} stateDir
 * @param {{ coordinator?: string, coordinatorKey?: string[] }} [hosts] the coordinator's URL, and the hosts' keys
 */
async function survey(stateDir, hosts = {}) {
  const given = args.absolutePath("stateDir", stateDir);
  const { coordinator, coordinatorKeys } = args.coordinatorArguments(hosts);
  args.trustVolume();
  const seen = unwrap(await native().survey(given, surroundings(given, undefined)));
  const rows = seen.stores.flatMap(({ logins }) => logins.map(({ row }) => row)).filter(Boolean);
  seen.rows = await look(given, rows, coordinator, coordinatorKeys);
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
