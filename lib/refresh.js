const { types } = require("node:util");
const args = require("./arguments.js");
const { Caller } = require("./caller.js");
const { OAuthRefreshLockError, fromNative, unwrap } = require("./errors.js");
const { publish, tellFailure } = require("./events.js");
const { classify } = require("./failure.js");
const { asHolder, enter, refuseNested } = require("./line.js");
const { acquire, lockTimeout } = require("./lock.js");
const { native } = require("./native.js");

/** How long to wait before what could be saved nowhere is saved again; doubled each time. */
const FIRST_SAVE_RETRY_MS = 100;
const LAST_SAVE_RETRY_MS = 10_000;
/** A call that is overdue by more than this has had no chance to hear its answer: the event loop stood still. It gets this. */
const OVERDUE_MS = 500;
/** For so long an answer that is nowhere but in memory keeps the process from exiting. */
const SAVE_PATIENCE_MS = 30_000;

async function withOAuthRefreshLock(provider, profileId, refresh, options) {
  args.provider(provider);
  args.id("profileId", profileId);
  args.callback("refresh", refresh);
  const { signal, timeoutMs, callTimeoutMs, serveUnexpired, ...request } = args.refreshArguments(
    args.optionsObject(options),
  );
  const call = new (native().NativeRefresh)({ provider, profileId, ...request, surroundings: args.surroundings() });
  const { lockPath, agentDir } = call;
  const key = native().canonicalPath(lockPath);
  refuseNested(key);

  const subject = { provider, profileId, lockPath, agentDir, key };
  const caller = new Caller({ signal, timeoutMs }, () => void turn.timedOut(serveUnexpired));
  const turn = new RefreshTurn(call, subject, caller, asHolder(key, refresh), callTimeoutMs);
  tellFailure(caller, subject);
  if (!caller.gone) {
    turn.start();
    enter(subject, turn);
  }
  return caller.promise;
}

/** One caller's refresh: look; else lock, decide, ask the provider, settle. */
class RefreshTurn {
  #call;
  #subject;
  #caller;
  #refresh;
  #callTimeoutMs;
  #looked;
  /** When the refresh function was called, by `performance.now()`. */
  #dispatchedAt;
  /** See `Turn` in line.js. */
  onOverdue;
  isDone = false;

  constructor(call, subject, caller, refresh, callTimeoutMs) {
    this.#call = call;
    this.#subject = subject;
    this.#caller = caller;
    this.#refresh = refresh;
    this.#callTimeoutMs = callTimeoutMs;
  }

  /** Looks at once, whoever is in line before us: who finds a usable credential waits for nobody. */
  start() {
    this.#looked = this.#look();
  }

  async run() {
    try {
      await this.#looked;
      for (;;) {
        const lock = this.#caller.gone ? undefined : await acquire(this.#subject, this.#caller, { isRefresh: true });
        const decision = lock && (await this.#decide(lock));
        if (!decision) return undefined;
        if (decision.kind === "backoff" || decision.kind === "later") return this.#pause(decision);
        const done = await this.#carryOut(decision);
        // A peer has taken over from us, before we sent anything or before we were refused: we are its waiters now.
        if (done.kind !== "takenOver") return this.#finish(done);
      }
    } catch (error) {
      this.#fail(error);
    }
    return undefined;
  }

  /** Takes what the leader got, through the same checks as a peer's. */
  async follow({ subject, spelled }) {
    const { provider, profileId } = this.#subject;
    // A host may give several keys one lock path.
    if (subject.provider !== provider || subject.profileId !== profileId) return false;
    await this.#looked;
    if (!this.#caller.gone) await this.#look(spelled);
    return this.#caller.gone;
  }

  /** Ends the caller's wait: with what is stored and not yet expired, if that is wanted, else with an error. */
  async timedOut(serveUnexpired) {
    const error = this.#timeoutError();
    try {
      const unexpired = serveUnexpired && unwrap(await this.#call.unexpired());
      if (unexpired) this.#finish(unexpired);
    } catch {
      // The time-out says more.
    }
    this.#caller.reject(error);
  }

  #timeoutError() {
    if (this.#dispatchedAt === undefined) return lockTimeout(this.#subject.lockPath);
    const seconds = ((performance.now() - this.#dispatchedAt) / 1000).toFixed(1);
    return new OAuthRefreshLockError(
      "caller_timeout",
      `timed out; this process has been asking the provider for ${seconds} s, goes on, and the next caller finds the result`,
      { path: this.#subject.lockPath },
    );
  }

  /** Serves the caller without the lock if that can be done. */
  async #look(peers) {
    try {
      const served = unwrap(await this.#call.look(peers));
      if (served) this.#finish(served);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Decides under the key's lock. Who sends the same refresh token under another name is waited for. */
  async #decide(lock) {
    try {
      for (;;) {
        const decision = unwrap(await this.#call.decide(lock));
        if (decision.kind !== "busy") return decision;
        const other = await acquire(this.#subject, this.#caller, { isRefresh: true, path: decision.lockPath });
        if (!other) return undefined;
        other.release();
      }
    } finally {
      // What the decision took over is not ours to release any more, and that does nothing then.
      lock.release();
    }
  }

  async #carryOut(decision) {
    for (let attempt = 0; decision.kind === "dispatched"; attempt++) {
      if (!this.#call.maySend()) {
        await this.#call.abandon();
        return { kind: "takenOver" };
      }
      let fields;
      try {
        if (!this.#caller.gone) fields = await this.#dispatch(decision.credential);
      } catch (error) {
        const instead = await this.#failed(error);
        if (instead?.kind === "dispatched" && attempt > 0) await this.#call.abandon();
        else if (instead) {
          decision = instead;
          continue;
        }
        throw error;
      }
      if (fields == null) {
        await this.#call.abandon();
        return { kind: "absent" };
      }
      return this.#settle(toJson(fields));
    }
    return decision;
  }

  async #settle(fields) {
    const since = performance.now();
    for (let delay = FIRST_SAVE_RETRY_MS; ; delay = Math.min(delay * 2, LAST_SAVE_RETRY_MS)) {
      const reply = await this.#call.settle(fields);
      if (reply.error?.code !== "receipt_unsaved") return unwrap(reply);
      // The caller learns of it; we hold the lock, so that nobody sends the spent token, until the disk lets us save.
      this.#fail(fromNative(reply.error));
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, delay);
        if (performance.now() - since > SAVE_PATIENCE_MS) timer.unref();
      });
    }
  }

  /**
   * Waits, out of line, for the end of the pause that the provider asked for, or for an owner that nobody can stand in
   * line behind; then stands in line again. A caller with less patience is told of the provider's pause at once.
   */
  #pause({ kind, waitMs: ms }) {
    if (kind === "backoff" && ms >= this.#caller.patienceMs) {
      throw new OAuthRefreshLockError(
        "refresh_backoff",
        `the provider asked everyone to wait; try again in ${Math.ceil(ms / 1000)} s`,
        { retryAfterMs: Math.ceil(ms) },
      );
    }
    const timer = setTimeout(() => {
      this.#caller.onGone = undefined;
      this.start();
      enter(this.#subject, this);
    }, ms);
    this.#caller.onGone = () => clearTimeout(timer);
  }

  /** Calls the refresh function, with the limit that a provider call has. */
  async #dispatch(credential) {
    publish("dispatched", this.#subject);
    this.#dispatchedAt = performance.now();
    const controller = new AbortController();
    const due = performance.now() + this.#callTimeoutMs;
    const abort = () => {
      const error = callTimeout(this.#callTimeoutMs);
      controller.abort(error);
      // A function that ignores its signal keeps the claim, neither the caller nor the line; a late success is saved.
      this.#caller.reject(error);
      this.onOverdue?.();
    };
    const atLimit = () => {
      if (performance.now() < due + OVERDUE_MS) return abort();
      timer = setTimeout(abort, OVERDUE_MS);
      if (this.#caller.gone) timer.unref();
    };
    let timer = setTimeout(atLimit, this.#callTimeoutMs);
    // While somebody waits the process lives on for it; a call that nobody awaits keeps no process from exiting.
    this.#caller.onGone = () => timer.unref();
    try {
      return await this.#refresh(credential, { signal: controller.signal });
    } catch (error) {
      if (types.isNativeError(error) || error instanceof Error) throw error;
      throw new OAuthRefreshLockError(
        "refresh_threw_non_error",
        "the refresh function threw something that is no Error",
        {
          cause: error,
        },
      );
    } finally {
      clearTimeout(timer);
    }
  }

  /** Puts a failed call on record, tells the error what it is, and looks what there is instead. */
  async #failed(error) {
    const failure = classify(error);
    let instead;
    try {
      instead = unwrap(await this.#call.fail(failure.class, failure.retryAfterMs));
    } catch {
      // The refresh function's own error says more.
    }
    if (instead?.kind === "dead") failure.message = instead.message;
    try {
      error.refreshFailure = failure;
    } catch {
      // A frozen error passes through as it is.
    }
    return instead?.kind === "dead" ? undefined : instead;
  }

  #fail(error) {
    this.#caller.reject(error);
  }

  /** Tells the caller and the world. What peers may take over is returned. */
  #finish({ kind, credential, spelled, mirror, notSaved }) {
    this.isDone = true;
    if (kind === "absent") {
      this.#caller.resolve(null);
      return undefined;
    }
    publish(kind, this.#subject);
    if (mirror) publish(mirror.written ? "mirrored" : "refused", this.#subject, { reason: mirror.reason });
    const result = { outcome: kind, credential };
    if (mirror) result.mirror = mirror;
    if (notSaved) result.notSaved = notSaved;
    this.#caller.resolve(result);
    return { subject: this.#subject, spelled };
  }
}

/** The result as JSON text; what is no JSON value in it is refused by the core, which keeps what it can. */
function toJson(fields) {
  if (typeof fields !== "object" || Array.isArray(fields)) return "null";
  // JSON would make `null` of it, which counts as not given.
  const nonsense = (name, value) =>
    name === "expires" && typeof value === "number" && !Number.isFinite(value) ? "no number" : value;
  try {
    return JSON.stringify(fields, nonsense) ?? "null";
  } catch {
    // Told below, without the words of an error that may quote the value.
  }
  try {
    const tokens = { expires: "not JSON" };
    for (const name of ["access", "refresh"]) if (typeof fields[name] === "string") tokens[name] = fields[name];
    return JSON.stringify(tokens);
  } catch {
    return "null";
  }
}

function callTimeout(ms) {
  return new OAuthRefreshLockError(
    "refresh_call_timeout",
    `the provider call was aborted after ${ms / 1000} s; whether the provider has rotated the token is unknown`,
  );
}

module.exports = { withOAuthRefreshLock };
