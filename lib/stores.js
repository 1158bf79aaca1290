const { OAuthRefreshLockError } = require("./errors.js");
const { asHolder } = require("./line.js");
const { native } = require("./native.js");

/** No host says this, so it is refused as nonsense. */
const NONSENSE = "0";
/** How errors say that a store is in use for a moment; the last two are SQLite's, as its packages and Node's module have them. */
const BUSY_CODES = /^(?:store_busy|EBUSY|EAGAIN|ELOCKED|SQLITE_(?:BUSY|LOCKED)(?:_[A-Z_]+)?)$/;
const BUSY_ERRCODES = [5, 6];
/** How long to wait before a busy store is asked again; doubled each time, give or take a half. */
const FIRST_PAUSE_MS = 10;
const LAST_PAUSE_MS = 500;
/** So long a store may be busy that an answer of the provider's is to be saved in. It is in the journal then, for the next call. */
const BUSY_SAVING_MS = 30_000;

/**
 * A store that a host keeps by itself, for one call. The native side asks from its own threads; what the host's functions
 * return is passed on as JSON text.
 */
class HostStore {
  /** For `NativeRefresh`. */
  native;
  #functions;
  #answers = new (native().NativeAnswers)();
  /** Lets go of the owner's own lock. */
  #release;

  /** @param {import("./arguments.js").HostStore} store */
  constructor({ name, load, compareAndSwap, hold }) {
    this.#functions = { load, compareAndSwap, hold, asked: 0, isSaving: false, isClosed: false };
    this.native = toNative(name, this.#functions, this.#answers);
  }

  /** The caller's context is the functions' too; and a function that asks for what it is asked for is refused. */
  callFor(key) {
    const functions = this.#functions;
    functions.load = asHolder(key, functions.load);
    functions.compareAndSwap = asHolder(key, functions.compareAndSwap);
    if (functions.hold) functions.hold = asHolder(key, functions.hold);
  }

  /** Whether there may be an answer of the provider's to save. */
  set isSaving(isSaving) {
    this.#functions.isSaving = isSaving;
  }

  /** Why a caller has waited in vain, if that is this store's doing. */
  get delay() {
    const { path, asked, busy } = this.#functions;
    if (busy) return inUse(path, `timed out waiting for ${busy.what}`, busy.error);
    if (asked === 0) return undefined;
    return new OAuthRefreshLockError("store_unreadable", `timed out waiting for the credential store: ${path}`, {
      path,
    });
  }

  /**
   * Takes the lock that the store's owner has, if there is one.
   *
   * @returns {Promise<boolean>} whether the caller still wants it
   */
  async hold(profileId, caller, patient) {
    const functions = this.#functions;
    if (!functions.hold || this.#release) return !caller.gone;
    const controller = new AbortController();
    const gone = new Promise((resolve) => {
      caller.onGone = () => resolve(controller.abort());
    });
    functions.busy = { what: "the lock of the credential store's owner" };
    try {
      const held = this.#held(profileId, controller.signal, patient);
      // Of a lock that comes when nobody wants it any more, or why it does not come, nobody else would hear.
      held.then(
        (release) => controller.signal.aborted && letGo(release),
        () => {},
      );
      const release = caller.gone ? undefined : await Promise.race([held, gone]);
      if (caller.gone) return false;
      this.#release = release;
      return true;
    } finally {
      functions.busy = undefined;
      caller.onGone = undefined;
    }
  }

  /** Lets go of that lock. */
  leave() {
    letGo(this.#release);
    this.#release = undefined;
  }

  async #held(profileId, signal, patient) {
    const { path, hold, busy } = this.#functions;
    let release;
    try {
      release = await patiently(
        () => hold(profileId, { signal }),
        (error) => {
          busy.error = error;
          return patient && !signal.aborted;
        },
      );
    } catch (error) {
      if (isBusy(error)) throw inUse(path, `${busy.what} is not free`, error);
      throw inUse(path, "the credential store's `hold` failed", error);
    }
    if (typeof release === "function") return release;
    throw inUse(path, "the credential store's `hold` returned no function that lets go");
  }

  /** Ends what still waits for the host's functions, and calls them no more. */
  close() {
    this.#functions.isClosed = true;
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
    const since = performance.now();
    const work = async () =>
      next == null
        ? loaded(await functions.load(profileId))
        : swapped(await functions.compareAndSwap(profileId, JSON.parse(expected ?? "null"), JSON.parse(next)));
    const goesOn = (error) => {
      if (functions.isClosed || (functions.isSaving && performance.now() - since > BUSY_SAVING_MS)) return false;
      functions.busy = { what: "the credential store, which is busy", error };
      answers.isBusy(number);
      return true;
    };
    let answer;
    functions.asked += 1;
    functions.failed = undefined;
    try {
      answer = await patiently(work, goesOn);
    } catch (error) {
      functions.failed = { error };
    }
    functions.asked -= 1;
    functions.busy = undefined;
    answers.give(number, answer);
  };
  const isHeld = functions.hold !== undefined;
  return new (native().NativeHostStore)(name, isHeld, answers, (...question) => void ask(...question));
}

/** Does the work, again and again while the store is busy and `goesOn`. */
async function patiently(work, goesOn) {
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LAST_PAUSE_MS)) {
    try {
      return await work();
    } catch (error) {
      if (!isBusy(error) || !goesOn(error)) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random())));
  }
}

/** Whether an error says that the store is in use for a moment. */
function isBusy(error) {
  try {
    const { busy, code, errcode } = error;
    return (
      busy === true || BUSY_CODES.test(code) || (code === "ERR_SQLITE_ERROR" && BUSY_ERRCODES.includes(errcode & 255))
    );
  } catch {
    return false;
  }
}

function letGo(release) {
  if (!release) return;
  // What was held for is done; an owner's lock that can't be let go of goes stale, as after a death.
  void (async () => release())().catch(() => {});
}

function inUse(path, what, cause) {
  return new OAuthRefreshLockError("store_busy", `${what}: ${path}`, { path, cause });
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
