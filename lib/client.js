const args = require("./arguments.js");
const { authorizedFetch } = require("./authorized-fetch.js");
const { OAuthRefreshLockError } = require("./errors.js");
const { Found, NoneFound, checkedNeighbours, newerToken } = require("./neighbours.js");
const { refreshIfFree, withOAuthRefreshLock } = require("./refresh.js");
const { tokenEndpoint } = require("./token-endpoint.js");

/** Options of one call. A client has none of them, as it serves many. */
const OF_ONE_CALL = ["signal", "forceRefresh", "rejectedAccess"];
const OPTIONS = [
  "provider",
  "profileId",
  "refresh",
  "fetch",
  "onError",
  "adoptFrom",
  ...args.REFRESH_OPTIONS.filter((name) => !OF_ONE_CALL.includes(name)),
];
const CALL_OPTIONS = ["signal", "timeoutMs", "rejectedAccess"];
/** A token that expires within it might not reach its server in time: callers wait for the next one. */
const SHORTEST_LIFE_MS = 10_000;
/** How long the refresh behind the callers rests once it has looked, and after a failure. */
const REST_MS = 1_000;
const FAILURE_REST_MS = 5_000;
/** For so long another program's token is handed out without a look at what is stored, which needs the lock. */
const FOUND_MS = 5_000;
/** Another process is refreshing, or its store is in use. */
const TAKEN = ["file_lock_timeout", "store_busy"];

function createOAuthClient(options) {
  const given = args.optionsObject(options, "options", OPTIONS);
  const { provider, profileId, refresh, fetch, onError, adoptFrom, ...refreshOptions } = given;
  args.checkKey(provider, profileId);
  args.refreshArguments(refreshOptions);
  if (typeof refresh !== "function") tokenEndpoint("refresh", refresh);
  if (fetch !== undefined) args.callback("fetch", fetch);
  if (onError !== undefined) args.callback("onError", onError);
  const neighbours = checkedNeighbours(adoptFrom);
  const login = new Login({ provider, profileId, refresh, options: refreshOptions, onError, neighbours });
  // Each may be passed on by itself, as `{ fetch: client.fetch }`.
  const credential = (call) => login.credential(call);
  const token = async (call) => (await login.credential(call)).access;
  const headers = async (call) => ({ authorization: `Bearer ${await token(call)}` });
  return Object.freeze({ token, headers, credential, fetch: authorizedFetch(token, fetch) });
}

/** A login, and the one refresh that goes on behind its callers. */
class Login {
  #provider;
  #profileId;
  #refresh;
  #options;
  #onError;
  #neighbours;
  #marginMs;
  /** Another program's token, and until when it needs no look, by `performance.now()`. */
  #found = { result: undefined, until: 0 };
  #isRefreshing = false;
  /** Until when no refresh begins behind a caller, by `performance.now()`. */
  #restsUntil = 0;

  constructor({ provider, profileId, refresh, options, onError, neighbours }) {
    this.#provider = provider;
    this.#profileId = profileId;
    this.#refresh = refresh;
    this.#options = options;
    this.#onError = onError;
    this.#neighbours = neighbours;
    this.#marginMs = options.refreshMarginMs ?? args.REFRESH_MARGIN_MS;
  }

  /** A credential whose token is good, at once if the stored one is. */
  async credential(call) {
    const limits = args.optionsObject(call, "options", CALL_OPTIONS);
    const refreshMarginMs = Math.min(SHORTEST_LIFE_MS, this.#marginMs);
    const options = { ...this.#options, ...limits, refreshMarginMs };
    const result = await this.#ask(withOAuthRefreshLock, options);
    if (!result) throw noLogin(this.#provider, this.#profileId);
    if (result.refreshError) this.#failed(result.refreshError);
    else if (result.credential.expires - Date.now() < this.#marginMs) void this.#refreshBehind();
    return result.credential;
  }

  /** Refreshes if that is due, and if no other program has a newer token. */
  async #ask(call, options) {
    const asking = (refresh, more) => call(this.#provider, this.#profileId, refresh, { ...options, ...more });
    if (!this.#neighbours) return asking(this.#refresh);
    const { result: before, until } = this.#found;
    const isRefused = before?.credential.access === options.rejectedAccess;
    if (before && !isRefused && performance.now() < until && !options.signal?.aborted) return before;
    const { classify, rejectedAccess } = options;
    const refresh = this.#refresh;
    // Under the lock, where it is known what is stored.
    const lookFirst = async (credential, context) => {
      const found = await newerToken(this.#neighbours, credential, rejectedAccess);
      if (found) throw new Found({ ...credential, ...found });
      if (typeof refresh !== "function") throw new NoneFound();
      return refresh(credential, context);
    };
    const isOurs = (error) => error instanceof Found || error instanceof NoneFound;
    const told = { classify: (error) => (isOurs(error) ? "not_asked" : classify?.(error)) };
    const result = await asking(lookFirst, told).catch((error) => {
      if (isOurs(error)) return { refreshError: error };
      throw error;
    });
    const { refreshError } = result ?? {};
    if (refreshError instanceof NoneFound) return asking(refresh);
    if (!(refreshError instanceof Found)) return result;
    const found = { outcome: "adopted", credential: refreshError.credential };
    this.#found = { result: found, until: performance.now() + FOUND_MS };
    return found;
  }

  /** Refreshes for those who come later. It waits for nobody, so only a call to the provider keeps the process. */
  async #refreshBehind() {
    if (this.#isRefreshing || performance.now() < this.#restsUntil) return;
    this.#isRefreshing = true;
    // How long a caller would wait says nothing here; and an error is wanted rather than the token that is there.
    const { timeoutMs: _, ...options } = this.#options;
    try {
      const behind = { ...options, serveUnexpired: false };
      await this.#ask(refreshIfFree, behind);
      this.#rest(REST_MS);
    } catch (error) {
      if (TAKEN.includes(error?.code)) this.#rest(REST_MS);
      else this.#failed(error);
    } finally {
      this.#isRefreshing = false;
    }
  }

  #rest(ms) {
    this.#restsUntil = performance.now() + ms;
  }

  /** A failure behind a caller that was served all the same. */
  #failed(error) {
    // A refresh function's own errors have what is known of them beside them, and anything in them.
    const pause = error?.refreshFailure?.retryAfterMs ?? error?.retryAfterMs;
    this.#rest(Math.max(FAILURE_REST_MS, Number.isFinite(pause) ? pause : 0));
    void Promise.resolve(error)
      .then((told) => this.#onError?.(told))
      .catch(() => {});
  }
}

function noLogin(provider, profileId) {
  return new OAuthRefreshLockError(
    "no_login",
    `there is no OAuth login ${JSON.stringify(profileId)} of ${provider} to use: none is stored, it was logged out, or the refresh function returned nothing; log in, and store the credential that the login gives`,
  );
}

module.exports = { createOAuthClient };
