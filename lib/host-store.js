const { soon } = require("./caller.js");
const { OAuthRefreshLockError } = require("./errors.js");
const { asHolder } = require("./queue.js");
const { native } = require("./native.js");

/** No host says this, so it is refused as nonsense. */
const NONSENSE = "0";
const OWNERS_LOCK = "the lock of the credential store's owner";
/** How errors say that a store is in use for a moment; the last two are SQLite's, as its packages and Node's module have them. */
const BUSY_CODES = /^(?:store_busy|EBUSY|EAGAIN|ELOCKED|SQLITE_(?:BUSY|LOCKED)(?:_[A-Z_]+)?)$/;
const BUSY_ERRCODES = [5, 6];
/** How long to wait before a busy store is asked again; doubled each time, give or take a half. */
const FIRST_PAUSE_MS = 10;
const LAST_PAUSE_MS = 500;
/** So long a store may be busy that an answer of the provider's is to be saved in. It is in the journal then, for the next call. */
const BUSY_SAVING_MS = 30_000;
/** How long a caller that has its result waits for the release of the owner's lock. */
const RELEASE_MS = 1_000;

/**
 * A store that a host keeps by itself, for one call. The native side asks from its own threads; what the host's functions
 * return is passed on as JSON text.
 */
class HostStore {
  /** For `NativeRefresh`. */
  native;
  #functions;
  #answers = new (native().NativeAnswers)();
  /** That we wait for the owner's own lock, and why it was not free. */
  #waiting;
  /** Lets go of that lock. */
  #releaseLock;

  /** @param {import("./arguments.js").CheckedStore} store */
  constructor({ name, load, compareAndSwap, hold, durable }) {
    this.name = name;
    this.#functions = { load, compareAndSwap, hold, questions: new Set(), isSaving: false };
    this.native = toNative(name, durable, this.#functions, this.#answers);
  }

  /** What stores have loaded since a peer refreshed, by their names; for those who have waited for it, and only while they look. */
  set sharedLoads(sharedLoads) {
    this.#functions.sharedLoads = sharedLoads;
  }

  /** Binds the functions to the caller's async context; a call for the same key from inside them is refused. */
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
    const { path, questions } = this.#functions;
    if (this.#waiting) return storeBusy(path, `timed out waiting for ${OWNERS_LOCK}`, this.#waiting.error);
    const busy = [...questions].find(({ error }) => error);
    if (busy) return storeBusy(path, "timed out waiting for the credential store, which is busy", busy.error);
    if (questions.size === 0) return undefined;
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
    if (caller.gone || !this.#functions.hold || this.#releaseLock) return !caller.gone;
    const controller = new AbortController();
    const gone = new Promise((resolve) => {
      caller.onGone = () => resolve(controller.abort());
    });
    this.#waiting = {};
    const held = this.#held(profileId, controller.signal, patient).then((release) => {
      // It came when no caller wanted it any more.
      if (controller.signal.aborted) void letGo(release);
      else this.#releaseLock = release;
    });
    try {
      await Promise.race([held, gone]);
    } finally {
      this.#waiting = undefined;
      caller.onGone = undefined;
    }
    if (caller.gone) void this.release();
    return !caller.gone;
  }

  /** Lets go of that lock. Settles when that is done, or takes too long. */
  async release() {
    const release = this.#releaseLock;
    this.#releaseLock = undefined;
    if (release) await soon(letGo(release), RELEASE_MS);
  }

  async #held(profileId, signal, patient) {
    const { path, hold } = this.#functions;
    const waiting = this.#waiting;
    const goesOn = (error) => {
      waiting.error = error;
      return patient && !signal.aborted;
    };
    let release;
    try {
      release = await patiently(() => hold(profileId, { signal }), goesOn);
    } catch (error) {
      if (isBusy(error)) throw storeBusy(path, `${OWNERS_LOCK} is not free`, error);
      throw storeBusy(path, "the credential store's `hold` failed", error);
    }
    if (typeof release === "function") return release;
    throw storeBusy(path, "the credential store's `hold` did not return a function that releases the lock");
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

/** A call of one of the host's functions for the native side, made again while the store is busy. */
class Question {
  /** Why the store was busy. */
  error;
  #functions;
  #answers;
  #number;
  #since = performance.now();

  constructor(functions, answers, number) {
    this.#functions = functions;
    this.#answers = answers;
    this.#number = number;
  }

  /** @returns {Promise<string>} what the function returned, as JSON text */
  answer(profileId, expected, next) {
    const functions = this.#functions;
    const load = () => loadedBy(functions, profileId);
    const swap = async () =>
      swapped(await functions.compareAndSwap(profileId, JSON.parse(expected ?? "null"), JSON.parse(next)));
    return patiently(next == null ? load : swap, (error) => this.#goesOn(error));
  }

  #goesOn(error) {
    if (this.#functions.isSaving && performance.now() - this.#since > BUSY_SAVING_MS) return false;
    this.error = error;
    return this.#answers.isBusy(this.#number);
  }
}

/** Node holds the function that asks until the native store is gone: it must not lead to what holds that. */
function toNative(name, durable, functions, answers) {
  functions.path = `host:${name}`;
  const ask = async (number, ...asked) => {
    const question = new Question(functions, answers, number);
    let answer;
    functions.questions.add(question);
    functions.failed = undefined;
    try {
      answer = await question.answer(...asked);
    } catch (error) {
      functions.failed = { error };
    }
    functions.questions.delete(question);
    answers.give(number, answer);
  };
  const isHeld = functions.hold !== undefined;
  return new (native().NativeHostStore)(name, isHeld, durable, answers, (...question) => void ask(...question));
}

/** Does the work, again and again while the store is busy and it `goesOn`, after the pause as well. */
async function patiently(work, goesOn) {
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LAST_PAUSE_MS)) {
    try {
      return await work();
    } catch (error) {
      if (!isBusy(error) || !goesOn(error)) throw error;
      await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random())));
      if (!goesOn(error)) throw error;
    }
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

async function letGo(release) {
  try {
    await release();
  } catch {
    // The work under it is done; an owner's lock that can't be released goes stale, as after a death.
  }
}

function storeBusy(path, what, cause) {
  return new OAuthRefreshLockError("store_busy", `${what}: ${path}`, { path, cause });
}

/** What a store holds, as JSON text; from a peer of this process if that has just asked. */
async function loadedBy(functions, profileId) {
  const load = async () => loaded(await functions.load(profileId));
  const { sharedLoads, path } = functions;
  if (!sharedLoads) return load();
  const name = JSON.stringify([path, profileId]);
  const peers = sharedLoads.get(name);
  if (!peers) {
    const own = load();
    sharedLoads.set(name, own);
    return own;
  }
  // What went wrong there is that caller's.
  return peers.catch(load);
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
