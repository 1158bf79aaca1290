const args = require("./arguments.js");
const { refreshIfFree } = require("./refresh.js");
const { tokenEndpoint } = require("./token-endpoint.js");

const OPTIONS = ["profiles", "refresh", "jitterMs", "signal", "onError"];
const DEFAULT_JITTER_MS = 60_000;
/** How long to let a peer be that is refreshing, or a failure; doubled with each failure. */
const FIRST_RETRY_MS = 5_000;
const LAST_RETRY_MS = 300_000;
/** A lock is taken: the key's, or that of a store's owner. */
const TAKEN = ["file_lock_timeout", "store_busy"];
/** After so many tries in a row that met a taken lock its holder is not a refreshing peer: half a minute. */
const TAKEN_TOO_OFTEN = 7;
/** How long to sleep at most: looking is cheap, and a login or a suspended host may have changed everything. */
const LONGEST_SLEEP_MS = 300_000;

function keepOAuthFresh(options) {
  const { profiles, refresh, jitterMs, signal, onError } = args.optionsObject(options, "options", OPTIONS);
  if (!Array.isArray(profiles) || profiles.length === 0) throw args.invalid("profiles must be a non-empty array");
  args.abortSignal(signal);
  const jitter = args.delay("jitterMs", jitterMs, { fallback: DEFAULT_JITTER_MS, min: 0 });
  if (onError !== undefined) args.callback("onError", onError);
  const keepers = profiles.map((profile) => new Keeper(profile, { refresh, jitterMs: jitter, onError }));
  const stop = () => {
    for (const keeper of keepers) keeper.stop();
  };
  if (signal?.aborted) return;
  signal?.addEventListener("abort", stop, { once: true });
  for (const keeper of keepers) void keeper.keep();
}

/** Keeps one profile fresh. */
class Keeper {
  #profile;
  #refresh;
  #marginMs;
  #jitterMs;
  #onError;
  #timer;
  #failures = 0;
  /** How many tries in a row have met a taken lock. */
  #taken = 0;
  /** How long the last token lived when it came. */
  #lifetimeMs = Number.POSITIVE_INFINITY;
  #isStopped = false;

  constructor(profile, { refresh: shared, jitterMs, onError }) {
    const { provider, profileId, refresh = shared, ...options } = args.object("profile", profile);
    args.checkKey(provider, profileId);
    args.refreshArguments(options, "profile");
    for (const name of ["signal", "timeoutMs", "forceRefresh", "serveUnexpired"]) {
      if (options[name] !== undefined) throw args.invalid(`a kept profile can't have ${name}`);
    }
    if (typeof refresh !== "function") tokenEndpoint("refresh", refresh);
    this.#profile = { provider, profileId, options };
    this.#refresh = refresh;
    this.#marginMs = options.refreshMarginMs ?? args.REFRESH_MARGIN_MS;
    this.#jitterMs = jitterMs;
    this.#onError = onError;
  }

  stop() {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  /** Refreshes if it is time, and comes back when it will be. */
  async keep() {
    if (this.#isStopped) return;
    const { provider, profileId, options } = this.#profile;
    // Everyone at another time; and of a token that lives not much longer than the margin a fifth at most, as the core has it.
    const longest = this.#lifetimeMs * (0.1 + 0.1 * Math.random());
    const margin = Math.min(this.#marginMs + Math.random() * this.#jitterMs, longest);
    try {
      const refreshMarginMs = Math.floor(margin);
      const result = await refreshIfFree(provider, profileId, this.#refresh, { ...options, refreshMarginMs });
      if (result?.refreshError) throw result.refreshError;
      this.#failures = 0;
      this.#taken = 0;
      // A profile that is not there may come, by a login.
      if (!result) return this.#sleep(LONGEST_SLEEP_MS);
      const left = result.credential.expires - Date.now();
      if (result.outcome !== "fresh") this.#lifetimeMs = left;
      // One that is not due although it is within the margin lives for a short time that only the core knows.
      this.#sleep(left > margin ? left - margin : left / 2);
    } catch (error) {
      if (TAKEN.includes(error?.code)) {
        this.#taken += 1;
        // Once; the next one would say the same.
        if (this.#taken === TAKEN_TOO_OFTEN) this.#tell(error);
        return this.#sleep(FIRST_RETRY_MS);
      }
      this.#taken = 0;
      this.#tell(error);
      // A refresh function's own errors have what is known of them beside them, and anything in them.
      const pause = error?.refreshFailure?.retryAfterMs ?? error?.retryAfterMs;
      this.#sleep(Math.max(FIRST_RETRY_MS * 2 ** this.#failures, Number.isFinite(pause) ? pause : 0));
      if (FIRST_RETRY_MS * 2 ** this.#failures < LAST_RETRY_MS) this.#failures += 1;
    }
  }

  #sleep(ms) {
    if (this.#isStopped) return;
    const delay = Math.min(Math.max(ms, FIRST_RETRY_MS), LONGEST_SLEEP_MS);
    this.#timer = setTimeout(() => void this.keep(), delay);
    this.#timer.unref();
  }

  #tell(error) {
    const { provider, profileId } = this.#profile;
    // The next profile's token matters more than what becomes of a report.
    void Promise.resolve({ provider, profileId })
      .then((profile) => this.#onError?.(error, profile))
      .catch(() => {});
  }
}

module.exports = { keepOAuthFresh };
