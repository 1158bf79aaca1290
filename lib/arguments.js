const path = require("node:path");
const { OAuthRefreshLockError } = require("./errors.js");
const { native } = require("./native.js");
const { refuseUnknown } = require("./unknown.js");

/** A provider call older than this is aborted. */
const OAUTH_REFRESH_CALL_TIMEOUT_MS = 120_000;
const CALL_LIMIT = { fallback: OAUTH_REFRESH_CALL_TIMEOUT_MS, max: OAUTH_REFRESH_CALL_TIMEOUT_MS };
/** OpenClaw's options for its lock. We wait in the kernel, so of these only `stale` concerns us. */
const OAUTH_REFRESH_LOCK_OPTIONS = Object.freeze({
  retries: Object.freeze({ retries: 20, factor: 2, minTimeout: 100, maxTimeout: 10_000, randomize: true }),
  stale: 180_000,
});
/** A waiter outlasts the longest call, and the age from which a stuck owner may be replaced. */
const DEFAULT_TIMEOUT_MS = 200_000;
/** OpenClaw's margin: a token that expires within it counts as expired. */
const REFRESH_MARGIN_MS = 300_000;
/** The longest delay that Node's timers take. */
const MAX_DELAY_MS = 2_147_483_647;
/** For a container whose program can't be changed, and for the command line. */
const TRUSTED_VOLUME = "OAUTH_REFRESH_LOCK_TRUSTED_VOLUME";

/** The members of `RefreshOptions`, those of `LockOptions` among them. */
const REFRESH_OPTIONS = [
  "stateDir",
  "lockPath",
  "signal",
  "timeoutMs",
  "trustedVolume",
  "agentDir",
  "mainAgentDir",
  "store",
  "mainStore",
  "callTimeoutMs",
  "refreshMarginMs",
  "forceRefresh",
  "rejectedAccess",
  "serveUnexpired",
  "uncertain",
  "classify",
  "coordinator",
  "lostHost",
  "coordinatorDown",
  "coordinatorKey",
];
const COORDINATOR_FUNCTIONS = ["load", "compareAndSwap", "changed"];
const STORE_FUNCTIONS = ["load", "compareAndSwap", "hold"];
const STORE_MEMBERS = ["name", ...STORE_FUNCTIONS, "durable"];

function invalid(what) {
  return new OAuthRefreshLockError("invalid_argument", what);
}

function text(name, value) {
  if (typeof value !== "string") throw invalid(`${name} must be a string, not ${kind(value)}`);
  return value;
}

function id(name, value) {
  if (text(name, value).trim() === "") throw invalid(`${name} must not be blank`);
  if (!value.isWellFormed()) throw invalid(`${name} must be well-formed text; it has a lone surrogate`);
  return value;
}

function provider(value) {
  if (id("provider", value).includes("\0")) throw invalid("provider must not contain a NUL character");
  return value;
}

/** Provider and profile id, in this order: `acme` and `acme:owner`. */
function checkKey(providerId, profileId) {
  provider(providerId);
  id("profileId", profileId);
  if (providerId.startsWith(`${profileId}:`)) {
    throw invalid(
      "provider and profileId seem to be swapped; the provider comes first, then the profile id that begins with it",
    );
  }
}

/** A function that comes before the options. `what` is what it may be besides. */
function refuseSwapped(name, value, options, isOther = () => false) {
  const isObject = typeof value === "object" && value !== null;
  const isOptions = isObject && !isOther(value) && REFRESH_OPTIONS.some((option) => Object.hasOwn(value, option));
  if (typeof options === "function" || isOptions) {
    throw invalid(`${name} must come before options; they seem to be swapped, or ${name} is missing`);
  }
}

function callback(name, value) {
  if (typeof value !== "function") throw invalid(`${name} must be a function, not ${kind(value)}`);
  return value;
}

function absolutePath(name, value) {
  if (value === undefined) return undefined;
  if (!path.isAbsolute(text(name, value))) throw invalid(`${name} must be an absolute path`);
  if (value.includes("\0")) throw invalid(`${name} must not contain a NUL character`);
  if (!value.isWellFormed()) throw invalid(`${name} must be well-formed text; it has a lone surrogate`);
  // One spelling, or two calls for one lock would not know of each other.
  return path.resolve(value);
}

/** What this package makes beside a lock, and in a lock directory: terms, journals, hosts' claims; the locks of all claims, of slots. */
const OUR_FILES = /^(?:claims|probe|slot-[\da-f]{16}-\d+-\d+)$|\.(?:t\d+|journal|claim-[\da-f]{32}(?:\.record)?)$/;

function lockPath(value) {
  const resolved = absolutePath("lockPath", value);
  if (resolved !== undefined && OUR_FILES.test(path.basename(resolved))) {
    throw invalid(
      "lockPath must not be named like the files that this package makes beside a lock; choose another name",
    );
  }
  return resolved;
}

function delay(name, value, { fallback, min = 1, max = MAX_DELAY_MS }) {
  if (value === undefined) return fallback;
  if (typeof value !== "number" || !(value >= min && value <= max)) {
    throw invalid(`${name} must be a number of milliseconds from ${min} to ${max}`);
  }
  return value;
}

function flag(name, value, fallback = false) {
  if (value !== undefined && typeof value !== "boolean") throw invalid(`${name} must be a boolean, not ${kind(value)}`);
  return value ?? fallback;
}

function oneOf(name, value, choices) {
  if (value !== undefined && !choices.includes(value)) {
    throw invalid(`${name} must be one of ${choices.map((choice) => `"${choice}"`).join(", ")}`);
  }
  return value;
}

function abortSignal(value) {
  if (value === undefined) return undefined;
  if (typeof value?.aborted !== "boolean" || typeof value.addEventListener !== "function") {
    throw invalid(`signal must be an AbortSignal, not ${kind(value)}`);
  }
  return value;
}

function object(name, value) {
  if (typeof value !== "object" || value === null) throw invalid(`${name} must be an object, not ${kind(value)}`);
  return value;
}

/** @param {readonly string[]} known the members that there are */
function optionsObject(value, name, known) {
  if (value === undefined) return {};
  refuseUnknown(name, object(name, value), known);
  return value;
}

/** A longer name would crowd what the journal has room for. */
const MAX_STORE_NAME_LENGTH = 128;

/**
 * A host's store, each member of it read once.
 *
 * @typedef {object} CheckedStore
 * @property {string} name
 * @property {(profileId: string) => unknown} load
 * @property {(profileId: string, expected: object | null, next: object) => unknown} compareAndSwap
 * @property {(profileId: string, context: { signal: AbortSignal }) => unknown} [hold]
 * @property {boolean} durable
 */
function hostStore(name, value) {
  if (value === undefined) return undefined;
  // It may have members of its own, which its functions use.
  refuseUnknown(name, object(name, value), STORE_MEMBERS, { isOpen: true, functions: STORE_FUNCTIONS });
  const { name: given, load, compareAndSwap, hold, durable } = value;
  if (id(`${name}.name`, given).length > MAX_STORE_NAME_LENGTH) {
    throw invalid(`${name}.name must have at most ${MAX_STORE_NAME_LENGTH} characters`);
  }
  // It stands where a file's path would.
  if (/[/\\\p{Cc}]/u.test(given)) throw invalid(`${name}.name must contain no slash and no control character`);
  return {
    name: given,
    load: callback(`${name}.load`, load).bind(value),
    compareAndSwap: callback(`${name}.compareAndSwap`, compareAndSwap).bind(value),
    hold: hold === undefined ? undefined : callback(`${name}.hold`, hold).bind(value),
    durable: flag(`${name}.durable`, durable, true),
  };
}

/**
 * A coordinator, each member of it read once.
 *
 * @typedef {object} CheckedCoordinator
 * @property {object} coordinator as it was given
 * @property {string} name
 * @property {(row: string) => unknown} load
 * @property {(row: string, expected: string | null, value: string) => unknown} compareAndSwap
 * @property {(row: string, version: string, signal: AbortSignal) => unknown} [changed]
 */
function checkedCoordinator(given) {
  if (given === undefined) return undefined;
  const coordinator = typeof given === "string" ? require("./coordinators/open.js").openCoordinator(given) : given;
  refuseUnknown("coordinator", object("coordinator", coordinator), ["name", ...COORDINATOR_FUNCTIONS], {
    isOpen: true,
    functions: COORDINATOR_FUNCTIONS,
  });
  const { name, load, compareAndSwap, changed } = coordinator;
  return {
    coordinator,
    name: id("coordinator.name", name),
    load: callback("coordinator.load", load).bind(coordinator),
    compareAndSwap: callback("coordinator.compareAndSwap", compareAndSwap).bind(coordinator),
    changed: changed === undefined ? undefined : callback("coordinator.changed", changed).bind(coordinator),
  };
}

/** What hosts share their grant by. */
function coordinatorArguments({ coordinator, lostHost, coordinatorDown, coordinatorKey }) {
  const keys = coordinatorKey === undefined ? undefined : [coordinatorKey].flat();
  // In a list an empty one stands for what was told before there was a key.
  for (const key of keys ?? []) if (key !== "") id("coordinatorKey", key);
  if (keys?.every((key) => key === "")) throw invalid("coordinatorKey must have at least one key");
  return {
    coordinator: checkedCoordinator(coordinator),
    lostHost: oneOf("lostHost", lostHost, ["wait", "probe"]),
    coordinatorDown: oneOf("coordinatorDown", coordinatorDown, ["refuse", "alone"]),
    coordinatorKeys: keys,
  };
}

/** Where credentials are: directories of OpenClaw's agents, or stores of the host's. */
function storeArguments({ agentDir, mainAgentDir, store, mainStore }) {
  if (store !== undefined && agentDir !== undefined) throw invalid("store replaces agentDir; give only one of them");
  if (mainStore !== undefined && mainAgentDir !== undefined) {
    throw invalid("mainStore replaces mainAgentDir; give only one of them");
  }
  if (mainStore !== undefined && store === undefined) throw invalid("mainStore needs a store beside it");
  const own = hostStore("store", store);
  const main = hostStore("mainStore", mainStore);
  return {
    agentDir: absolutePath("agentDir", agentDir),
    mainAgentDir: absolutePath("mainAgentDir", mainAgentDir),
    // Two of one name are one.
    stores: [own, main?.name === own?.name ? undefined : main].filter((given) => given !== undefined),
  };
}

/** The operator's word that no other user can get to a directory that everyone may write to. */
function trustVolume(given) {
  const name = given === undefined ? TRUSTED_VOLUME : "trustedVolume";
  const volume = absolutePath(name, given ?? (process.env[TRUSTED_VOLUME]?.trim() || undefined));
  if (volume !== undefined) native().trustVolume(volume);
}

/** What both calls share. */
function lockArguments(given) {
  // One object may serve both calls.
  return checkedLock(optionsObject(given, "options", REFRESH_OPTIONS));
}

function checkedLock(options) {
  trustVolume(options.trustedVolume);
  return {
    stateDir: absolutePath("stateDir", options.stateDir),
    lockPath: lockPath(options.lockPath),
    signal: abortSignal(options.signal),
    timeoutMs: delay("timeoutMs", options.timeoutMs, { fallback: DEFAULT_TIMEOUT_MS }),
  };
}

/** What a provider call alone takes. */
function callLimits(given) {
  const options = optionsObject(given, "options", ["signal", "timeoutMs"]);
  return {
    signal: abortSignal(options.signal),
    timeoutMs: delay("timeoutMs", options.timeoutMs, CALL_LIMIT),
  };
}

/** What a refresh takes. */
function refreshArguments(given, name = "options") {
  const options = optionsObject(given, name, REFRESH_OPTIONS);
  if (options.rejectedAccess !== undefined && text("rejectedAccess", options.rejectedAccess).trim() === "") {
    throw invalid("rejectedAccess must not be blank");
  }
  const { stateDir, lockPath, signal, timeoutMs } = checkedLock(options);
  const { agentDir, mainAgentDir, stores } = storeArguments(options);
  const { coordinator, lostHost, coordinatorDown, coordinatorKeys } = coordinatorArguments(options);
  // One literal, without spreads: they took a third of the time of a call that finds a usable credential.
  return {
    stateDir,
    lockPath,
    signal,
    timeoutMs,
    agentDir,
    mainAgentDir,
    stores,
    coordinator,
    lostHost,
    coordinatorDown,
    coordinatorKeys,
    callTimeoutMs: delay("callTimeoutMs", options.callTimeoutMs, CALL_LIMIT),
    refreshMarginMs: delay("refreshMarginMs", options.refreshMarginMs, { min: 0, max: Number.MAX_SAFE_INTEGER }),
    forceRefresh: flag("forceRefresh", options.forceRefresh),
    serveUnexpired: flag("serveUnexpired", options.serveUnexpired, true),
    uncertain: oneOf("uncertain", options.uncertain, ["probe", "fail"]),
    rejectedAccess: options.rejectedAccess,
    classify: options.classify === undefined ? undefined : callback("classify", options.classify),
  };
}

function kind(value) {
  if (value === null) return "null";
  return Array.isArray(value) ? "an array" : typeof value;
}

module.exports = {
  REFRESH_OPTIONS,
  OAUTH_REFRESH_CALL_TIMEOUT_MS,
  OAUTH_REFRESH_LOCK_OPTIONS,
  REFRESH_MARGIN_MS,
  absolutePath,
  abortSignal,
  callLimits,
  callback,
  checkedLock,
  coordinatorArguments,
  delay,
  flag,
  id,
  refuseSwapped,
  invalid,
  checkKey,
  kind,
  lockArguments,
  object,
  oneOf,
  optionsObject,
  refreshArguments,
  text,
  trustVolume,
};
