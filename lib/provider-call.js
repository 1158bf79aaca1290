const { FOUND, OAuthRefreshLockError, isError } = require("./errors.js");
const { lookAt } = require("./failure.js");
const { toJson } = require("./result.js");

/** A call that is overdue by more than this has had no chance to hear its answer: the event loop stood still. It gets this. */
const OVERDUE_MS = 500;

/**
 * Calls a refresh function and reads its result, with the limit that a provider call has.
 *
 * @param {(credential: object, context: { signal: AbortSignal }) => unknown} refresh
 * @param {object} credential
 * @param {{ limitMs: number, caller: import("./caller.js").Caller, onOverdue: (error: Error) => void }} context
 * @returns {Promise<string | undefined>} the new fields as JSON; nothing if the function has nothing to ask with
 */
async function callProvider(refresh, credential, { limitMs, caller, onOverdue }) {
  const controller = new AbortController();
  const due = performance.now() + limitMs;
  const abort = () => {
    const error = callTimeout(limitMs);
    controller.abort(error);
    onOverdue(error);
  };
  const atLimit = () => {
    if (performance.now() < due + OVERDUE_MS) return abort();
    timer = setTimeout(abort, OVERDUE_MS);
    if (caller.gone) timer.unref();
  };
  let timer = setTimeout(atLimit, limitMs);
  // While a caller waits the process lives on for it; a call without one does not keep the process from exiting.
  caller.onGone = () => timer.unref();
  try {
    return await toJson(await refresh(credential, { signal: controller.signal }));
  } catch (error) {
    if (isError(error)) throw error;
    const message = "the refresh function threw something that is not an Error";
    throw new OAuthRefreshLockError("refresh_threw_non_error", message, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** Finds out what an error of a refresh function means, and marks it with that. The native side goes by the rest. */
async function classifyAndMark(error, classify) {
  const { failure, isAnswer, isTemporary: unspentIsTemporary, isNetworkOrProvider } = await lookAt(error, classify);
  const found = classify === undefined && error instanceof OAuthRefreshLockError ? error[FOUND] : undefined;
  const { class: failureClass, retryAfterMs } = failure;
  try {
    error.refreshFailure = failure;
  } catch {
    // A frozen error passes through as it is.
  }
  const guessed =
    { not_sent: true, answered_unspent: unspentIsTemporary, uncertain: isNetworkOrProvider }[failureClass] ?? false;
  // To the core it is one whether the provider could not be asked or was not to be.
  const onRecord = failureClass === "not_asked" ? "not_sent" : failureClass;
  const isTemporary = found?.isTemporary ?? guessed;
  return { marked: failure, onRecord, isAnswer: found?.pauses ?? isAnswer, isTemporary, retryAfterMs };
}

function callTimeout(ms) {
  return new OAuthRefreshLockError(
    "refresh_call_timeout",
    `the provider call was aborted after ${ms / 1000} s; whether the provider has rotated the token is unknown`,
  );
}

module.exports = { callProvider, classifyAndMark };
