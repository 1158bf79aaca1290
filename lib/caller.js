const { setMaxListeners } = require("node:events");
const { OAuthRefreshLockError } = require("./errors.js");

/**
 * A caller that awaits a result, and may give up first. Giving up ends the wait, not the work.
 */
class Caller {
  #settle;
  #timer;
  #deadline;
  #signal;
  #onAbort = () => this.reject(aborted(this.#signal.reason));

  /**
   * @param {{ signal?: AbortSignal, timeoutMs: number }} limits
   * @param {(caller: Caller) => void} onTimeout ends the wait when it runs out
   */
  constructor({ signal, timeoutMs }, onTimeout) {
    this.promise = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    /** Called once when the caller gives up while it has no other place to hear of it. */
    this.onGone = undefined;
    this.gone = false;
    /** Whether it has no limits any more. */
    this.stays = false;
    this.#deadline = performance.now() + timeoutMs;
    this.#timer = setTimeout(onTimeout, timeoutMs, this);
    this.#signal = signal;
    // One signal may end any number of callers; Node need not warn of a leak. It takes a signal with 0 for none at all, where undici
    // asks for the number.
    if (signal instanceof AbortSignal) setMaxListeners(Number.POSITIVE_INFINITY, signal);
    if (signal?.aborted) this.#onAbort();
    else signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** How much of its patience is left, in milliseconds. */
  get patienceMs() {
    return this.#deadline - performance.now();
  }

  resolve(value) {
    if (this.#leave()) this.#settle.resolve(value);
  }

  reject(error) {
    if (this.#leave()) this.#settle.reject(error);
  }

  /** Ends the caller's limits: from here on it awaits whatever comes. */
  stay() {
    this.stays = true;
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener("abort", this.#onAbort);
  }

  #leave() {
    if (this.gone) return false;
    this.gone = true;
    this.stay();
    this.onGone?.();
    return true;
  }
}

/** What a promise comes to, if it does within so many milliseconds; else nothing. */
async function soon(promise, ms) {
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function aborted(cause) {
  return new OAuthRefreshLockError(
    "caller_aborted",
    "the caller's signal aborted; a refresh under way goes on and is saved",
    { cause },
  );
}

module.exports = { Caller, soon };
