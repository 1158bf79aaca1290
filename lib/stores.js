const { OAuthRefreshLockError } = require("./errors.js");
const { asHolder } = require("./line.js");
const { native } = require("./native.js");

/** No host says this, so it is refused as nonsense. */
const NONSENSE = "0";

/**
 * A store that a host keeps by itself, for one call. The native side asks from its own threads; what the host's functions
 * return is passed on as JSON text.
 */
class HostStore {
  /** For `NativeRefresh`. */
  native;
  #functions;
  #answers = new (native().NativeAnswers)();

  /** @param {import("./arguments.js").HostStore} store */
  constructor({ name, load, compareAndSwap }) {
    this.#functions = { load, compareAndSwap, asked: 0, failed: undefined };
    this.native = toNative(name, this.#functions, this.#answers);
  }

  /** The caller's context is the functions' too; and a function that asks for what it is asked for is refused. */
  callFor(key) {
    const functions = this.#functions;
    functions.load = asHolder(key, functions.load);
    functions.compareAndSwap = asHolder(key, functions.compareAndSwap);
  }

  /** Why a caller has waited in vain, if that is this store's doing. */
  get delay() {
    const { path, asked } = this.#functions;
    if (asked === 0) return undefined;
    return new OAuthRefreshLockError("store_unreadable", `timed out waiting for the credential store: ${path}`, {
      path,
    });
  }

  /** Ends what still waits for the host's functions, and calls them no more. */
  close() {
    this.#answers.close();
  }

  /** Adds to an error of ours that comes from this store the host's own, which may say anything. */
  explain(error) {
    const { path, failed } = this.#functions;
    if (!failed || !(error instanceof OAuthRefreshLockError) || error.path !== path || error.cause !== undefined)
      return;
    // As the constructor sets it: what writes errors out as JSON does not get to see it.
    Object.defineProperty(error, "cause", { value: failed.error, writable: true, configurable: true });
  }
}

/** Node holds the function that asks until the native store is gone: it must not lead to what holds that. */
function toNative(name, functions, answers) {
  functions.path = `host:${name}`;
  const ask = async (number, profileId, expected, next) => {
    let answer;
    functions.asked += 1;
    functions.failed = undefined;
    try {
      answer =
        next == null
          ? loaded(await functions.load(profileId))
          : swapped(await functions.compareAndSwap(profileId, JSON.parse(expected ?? "null"), JSON.parse(next)));
    } catch (error) {
      functions.failed = { error };
    }
    functions.asked -= 1;
    answers.give(number, answer);
  };
  return new (native().NativeHostStore)(name, answers, (...question) => void ask(...question));
}

function loaded(credential) {
  if (credential == null) return "null";
  try {
    return (typeof credential === "object" && JSON.stringify(credential)) || NONSENSE;
  } catch {
    // Not with the words of an error that may quote the value.
    return NONSENSE;
  }
}

const swapped = (done) => (typeof done === "boolean" ? String(done) : NONSENSE);

module.exports = { HostStore };
