const os = require("node:os");
const path = require("node:path");
const { OAuthRefreshLockError } = require("./errors.js");

/** A provider call older than this is aborted. */
const OAUTH_REFRESH_CALL_TIMEOUT_MS = 120_000;
/** OpenClaw's options for its lock. We wait in the kernel, so of these only `stale` concerns us. */
const OAUTH_REFRESH_LOCK_OPTIONS = Object.freeze({
  retries: Object.freeze({ retries: 20, factor: 2, minTimeout: 100, maxTimeout: 10_000, randomize: true }),
  stale: 180_000,
});
/** A waiter outlasts the longest call, and the age from which a stuck owner may be replaced. */
const DEFAULT_TIMEOUT_MS = 200_000;
/** The longest delay that Node's timers take. */
const MAX_DELAY_MS = 2_147_483_647;

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

/** A lock lies beside its terms, their journals and the lock of all claims: none of these names is free for another. */
function lockPath(value) {
  const resolved = absolutePath("lockPath", value);
  if (resolved !== undefined && /^claims$|\.(?:t\d+|journal)$/.test(path.basename(resolved))) {
    throw invalid('lockPath must not end in ".journal", in ".t" and a number, or be named "claims"');
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

function optionsObject(value, name = "options") {
  if (value === undefined) return {};
  if (typeof value !== "object" || value === null) throw invalid(`${name} must be an object, not ${kind(value)}`);
  return value;
}

/** A longer name would crowd what the journal has room for. */
const MAX_STORE_NAME_LENGTH = 128;

/**
 * A host's store, each member of it read once.
 *
 * @typedef {object} HostStore
 * @property {string} name
 * @property {(profileId: string) => unknown} load
 * @property {(profileId: string, expected: object | null, next: object) => unknown} compareAndSwap
 */
function hostStore(name, value) {
  if (value === undefined) return undefined;
  const { name: given, load, compareAndSwap } = optionsObject(value, name);
  if (id(`${name}.name`, given).length > MAX_STORE_NAME_LENGTH) {
    throw invalid(`${name}.name must have at most ${MAX_STORE_NAME_LENGTH} characters`);
  }
  // It stands where a file's path would.
  if (/[/\\\p{Cc}]/u.test(given)) throw invalid(`${name}.name must contain no slash and no control character`);
  return {
    name: given,
    load: callback(`${name}.load`, load).bind(value),
    compareAndSwap: callback(`${name}.compareAndSwap`, compareAndSwap).bind(value),
  };
}

/** Where credentials are: directories of OpenClaw's agents, or stores of the host's. */
function storeArguments({ agentDir, mainAgentDir, store, mainStore }) {
  if (store !== undefined && agentDir !== undefined) throw invalid("store takes the place of agentDir; give one");
  if (mainStore !== undefined && mainAgentDir !== undefined) {
    throw invalid("mainStore takes the place of mainAgentDir; give one");
  }
  if (mainStore !== undefined && store === undefined) throw invalid("mainStore needs a store beside it");
  return {
    agentDir: absolutePath("agentDir", agentDir),
    mainAgentDir: absolutePath("mainAgentDir", mainAgentDir),
    stores: [hostStore("store", store), hostStore("mainStore", mainStore)].filter((given) => given !== undefined),
  };
}

/** What both calls share. */
function lockArguments(options) {
  return {
    stateDir: absolutePath("stateDir", options.stateDir),
    lockPath: lockPath(options.lockPath),
    signal: abortSignal(options.signal),
    timeoutMs: delay("timeoutMs", options.timeoutMs, { fallback: DEFAULT_TIMEOUT_MS }),
  };
}

/** What a provider call alone takes. */
function callLimits(options) {
  return {
    signal: abortSignal(options.signal),
    timeoutMs: delay("timeoutMs", options.timeoutMs, {
      fallback: OAUTH_REFRESH_CALL_TIMEOUT_MS,
      max: OAUTH_REFRESH_CALL_TIMEOUT_MS,
    }),
  };
}

/** What a refresh takes besides. */
function refreshArguments(options) {
  if (options.rejectedAccess !== undefined && text("rejectedAccess", options.rejectedAccess).trim() === "") {
    throw invalid("rejectedAccess must not be blank");
  }
  return {
    ...lockArguments(options),
    ...storeArguments(options),
    callTimeoutMs: delay("callTimeoutMs", options.callTimeoutMs, {
      fallback: OAUTH_REFRESH_CALL_TIMEOUT_MS,
      max: OAUTH_REFRESH_CALL_TIMEOUT_MS,
    }),
    refreshMarginMs: delay("refreshMarginMs", options.refreshMarginMs, { min: 0, max: Number.MAX_SAFE_INTEGER }),
    forceRefresh: flag("forceRefresh", options.forceRefresh),
    serveUnexpired: flag("serveUnexpired", options.serveUnexpired, true),
    uncertain: oneOf("uncertain", options.uncertain, ["probe", "fail"]),
    rejectedAccess: options.rejectedAccess,
    classify: options.classify === undefined ? undefined : callback("classify", options.classify),
  };
}

/**
 * What default paths are resolved in; nothing if all of these are given. Read at each call: a worker thread has its own
 * `process.env`.
 */
function surroundings(...given) {
  if (given.length > 0 && given.every((path) => path !== undefined)) return undefined;
  const { env } = process;
  return {
    openclawStateDir: env.OPENCLAW_STATE_DIR,
    openclawHome: env.OPENCLAW_HOME,
    home: env.HOME,
    userProfile: env.USERPROFILE,
    openclawAgentDir: env.OPENCLAW_AGENT_DIR,
    piCodingAgentDir: env.PI_CODING_AGENT_DIR,
    osHome: os.homedir(),
    workingDir: process.cwd(),
  };
}

function kind(value) {
  if (value === null) return "null";
  return Array.isArray(value) ? "an array" : typeof value;
}

module.exports = {
  OAUTH_REFRESH_CALL_TIMEOUT_MS,
  OAUTH_REFRESH_LOCK_OPTIONS,
  DEFAULT_TIMEOUT_MS,
  absolutePath,
  abortSignal,
  callLimits,
  callback,
  delay,
  id,
  invalid,
  kind,
  lockArguments,
  oneOf,
  optionsObject,
  provider,
  refreshArguments,
  surroundings,
  text,
};
