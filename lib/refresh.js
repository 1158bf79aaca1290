const { types } = require("node:util");
const args = require("./arguments.js");
const { Caller, soon } = require("./caller.js");
const { OAuthRefreshLockError, fromNative, unwrap } = require("./errors.js");
const { isHeard, publish, tellFailure } = require("./events.js");
const { lookAt } = require("./failure.js");
const { asHolder, enter, inOrder, isHolder, refuseNested } = require("./line.js");
const { explained, lockTimeout, tell, unanswered } = require("./lock.js");
const { native } = require("./native.js");
const { toJson } = require("./result.js");
const { HostStore } = require("./stores.js");
const { providerError, tokenEndpoint } = require("./token-endpoint.js");

/** How long to wait before a provider that was not reached is asked again; doubled each time, give or take a half. */
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 10_000;
/** Callers that wait for the same pause wake up at random times, up to this part of it late. */
const PAUSE_JITTER = 0.1;
/** A call that is overdue by more than this has had no chance to hear its answer: the event loop stood still. It gets this. */
const OVERDUE_MS = 500;
/** How long a caller whose time is up waits for what the stores hold. */
const LAST_LOOK_MS = 500;
/** How long a caller waits for others if the stored token has not expired: for them to refresh it, and no longer. */
const WAIT_WITH_TOKEN_MS = 1_000;
/** The same while it asks the provider itself: a caller that leaves then may end the process, and with it the answer. */
const ASK_WITH_TOKEN_MS = 10_000;
/** So long after its first failure a refresh function is called again, which has ways of its own to try again. */
const FUNCTION_PATIENCE_MS = 10_000;
/** How long an answer that came after its call's limit waits for the store's own lock. */
const LATE_HOLD_MS = 30_000;
/** For so long an answer that is nowhere but in memory keeps the process from exiting. */
const SAVE_PATIENCE_MS = 30_000;

function withOAuthRefreshLock(provider, profileId, refresh, options) {
  return startRefresh(provider, profileId, refresh, options, true);
}

/** As {@link withOAuthRefreshLock}, for who can come back: waits for no lock and no pause, but fails. */
function refreshIfFree(provider, profileId, refresh, options) {
  return startRefresh(provider, profileId, refresh, options, false);
}

async function startRefresh(provider, profileId, refresh, options, patient) {
  args.key(provider, profileId);
  args.inOrder("refresh", refresh, options, (request) => Object.hasOwn(request, "tokenEndpoint"));
  const endpoint = typeof refresh === "function" ? undefined : tokenEndpoint("refresh", refresh);
  const checked = args.refreshArguments(options);
  const { signal, timeoutMs, callTimeoutMs, stores, classify: hostsClassify, ...request } = checked;
  const { stateDir, agentDir: own, mainAgentDir } = request;
  request.surroundings =
    stores.length > 0 ? args.surroundings(stateDir) : args.surroundings(stateDir, own, mainAgentDir);
  Object.assign(request, { provider, profileId });
  // Code that holds a key may not ask for it, be there a token or not.
  if (stores.length === 0 && !signal?.aborted && !isHolder()) {
    const glimpse = native().glance(request, isHeard());
    if (glimpse) {
      const { credential, lockPath, agentDir } = glimpse;
      publish("fresh", { provider, profileId, lockPath, agentDir });
      return { outcome: "fresh", credential: JSON.parse(credential) };
    }
  }

  const hosts = stores.map((store) => new HostStore(store));
  const call = new (native().NativeRefresh)(request, ...hosts.map((host) => host.native));
  const subject = { provider, profileId, lockPath: call.lockPath ?? undefined };
  const caller = new Caller({ signal, timeoutMs }, () => void turn.timedOut());
  const how = endpoint ?? { refresh, classify: hostsClassify };
  const turn = new RefreshTurn(call, subject, caller, {
    ...how,
    callTimeoutMs,
    patient,
    // One order for everyone, whose main store another's own may be.
    hosts: hosts.toSorted((one, other) => (one.name < other.name ? -1 : 1)),
    serveUnexpired: request.serveUnexpired,
    uncertain: request.uncertain,
  });
  tellFailure(caller, subject, turn.begin());
  return caller.promise;
}

/** One caller's refresh: look; else stand in line, and have the native side take its turn. */
class RefreshTurn {
  #call;
  #subject;
  #caller;
  /**
   * How to ask the provider: `refresh`, a function, or `at`, a native token endpoint; `hosts`, the host's stores;
   * `serveUnexpired`, whether a token that has not expired is better than an error; `uncertain`, whether to ask again in doubt.
   */
  #ask;
  /** Settles when it is known where things lie. */
  #begun;
  #looked;
  #retries = 0;
  /** Why the provider has to be asked again. */
  #failure;
  /** Until when, by `performance.now()`. */
  #asksUntil = Number.POSITIVE_INFINITY;
  /** Why everyone waits, while this caller does. */
  #pausing;
  /** Whether the call of the refresh function is past its limit. */
  #isOverdue = false;
  /** When the provider was asked, by `performance.now()`; not set while the native side waits for a lock. */
  #dispatchedAt;
  /** What the refresh function threw, and what it was marked with; or what `hold` threw. */
  #thrown;
  /** Ends the wait of a caller whose token has not expired. */
  #enough;
  /** Keeps the process from exiting while an answer is nowhere but in memory. */
  #keepAlive;
  #endTurn;
  /** Settles when the stores' owners have their locks back. */
  #leaving;
  /** See `Turn` in line.js. */
  onOverdue;
  isDone = false;

  constructor(call, subject, caller, ask) {
    this.#call = call;
    this.#subject = subject;
    this.#caller = caller;
    this.#ask = ask;
    const leave = () => {
      clearTimeout(this.#enough);
      if (call.leave()) this.#leaveStores();
    };
    caller.promise.then(leave, leave);
    if (ask.serveUnexpired && ask.patient)
      this.#enough = setTimeout(() => void this.#waitedEnough(), WAIT_WITH_TOKEN_MS);
  }

  /** Stands in line, once it is known which one that is. */
  begin() {
    this.#begun = this.#open();
    return this.#begun;
  }

  async #open() {
    const call = this.#call;
    try {
      await inOrder(
        this.#subject.lockPath,
        call.openNow(),
        () => call.open(),
        (opened) => this.#opened(unwrap(opened)),
      );
    } catch (error) {
      this.#caller.reject(error);
    }
  }

  #opened({ credential, spelled, ...paths }) {
    Object.assign(this.#subject, paths);
    if (this.#caller.gone) return;
    refuseNested(paths.key);
    if (credential) return void this.#finish({ kind: "fresh", credential, spelled });
    const { hosts, refresh } = this.#ask;
    for (const host of hosts) host.callFor(paths.key);
    if (refresh) this.#ask.refresh = asHolder(paths.key, refresh);
    this.start();
    enter(this.#subject, this);
  }

  /** Looks at once, whatever is in line before us: a caller that finds a usable credential does not wait. */
  start() {
    this.#looked = this.#look();
  }

  async run() {
    try {
      await this.#looked;
      return this.#caller.gone ? undefined : await this.#end(unwrap(await this.#turn()));
    } catch (error) {
      await this.#fail(error);
    } finally {
      clearTimeout(this.#keepAlive);
      if (this.#caller.gone) this.#leaveStores();
    }
    return undefined;
  }

  /** One turn on the native side: what it came to. */
  async #turn() {
    const done = await this.#take();
    // Before its caller goes on, which may end the process.
    await this.#leaving;
    this.#dispatchedAt = undefined;
    return done;
  }

  #take() {
    const { at, maxParallel, callTimeoutMs, patient } = this.#ask;
    const hear = (told, reply) => this.#hear(told, reply);
    return new Promise((resolve) => {
      this.#endTurn = resolve;
      if (at) this.#call.exchange(hear, patient, isHeard(), at, maxParallel, callTimeoutMs);
      else this.#call.turn(hear, patient, isHeard());
    });
  }

  /** What the native side tells and asks: see `Told` in the binding. */
  #hear(told, reply) {
    switch (told) {
      case "waiting":
        return publish("waiting", this.#subject);
      case "acquired":
        tell(this.#subject, reply.value);
        return publish("acquired", this.#subject);
      case "noticed":
        return tell(this.#subject, reply.value);
      case "hold":
        return void this.#answerHold();
      case "letGo":
        this.#leaving = this.#leaveHolds();
        return;
      case "ask":
        return void this.#callFunction(unwrap(reply).credential);
      case "askLate":
        return this.#call.late();
      case "dispatched":
        this.#dispatched();
        return this.#stayAlive(this.#ask.callTimeoutMs + SAVE_PATIENCE_MS);
      case "unsaved":
        this.#stayAlive(SAVE_PATIENCE_MS);
        return void this.#fail(fromNative(reply.error));
      default:
        this.#isSaving(false);
        return this.#endTurn(reply);
    }
  }

  #dispatched() {
    publish("dispatched", this.#subject);
    this.#dispatchedAt = performance.now();
    this.#isSaving(true);
  }

  /** Whether there may be an answer to save: for that no store is waited for longer than it takes to know that it is busy. */
  #isSaving(isSaving) {
    for (const host of this.#ask.hosts) host.isSaving = isSaving;
  }

  #stayAlive(ms) {
    clearTimeout(this.#keepAlive);
    this.#keepAlive = setTimeout(() => {}, ms);
  }

  /** Takes the locks that the stores' owners have, after ours and a place. `false` if the caller gave up first. */
  async #hold(caller, patient) {
    for (const host of this.#ask.hosts) {
      if (!(await host.hold(this.#subject.profileId, caller, patient))) return false;
    }
    return true;
  }

  async #answerHold() {
    try {
      this.#call.held(await this.#hold(this.#caller, this.#ask.patient));
    } catch (error) {
      this.#thrown = { error };
      this.#call.notHeld();
    }
  }

  async #leaveHolds() {
    await Promise.all(this.#ask.hosts.toReversed().map((host) => host.leave()));
  }

  /** Before an answer is saved that came after its call's limit: the stores' locks were released then. */
  async #holdAgain() {
    if (!this.#isOverdue) return;
    const patience = new Caller({ timeoutMs: LATE_HOLD_MS }, (late) => late.resolve());
    const isHeld = await this.#hold(patience, true).catch(() => false);
    patience.resolve();
    // Then it waits in the journal, for a call that has it.
    if (!isHeld) this.#leaveStores();
  }

  /** Asks the host's stores no more. */
  #leaveStores() {
    for (const host of this.#ask.hosts) host.close();
  }

  /** Takes what the leader got, through the same checks as a peer's. */
  async follow({ subject, spelled, shared }) {
    const { provider, profileId, mainStore } = this.#subject;
    // A host may give several keys one lock path.
    if (subject.provider !== provider || subject.profileId !== profileId) return false;
    await this.#looked;
    // Agents under different main agents are not peers: they may be different people's.
    if (this.#caller.gone) return true;
    for (const host of this.#ask.hosts) host.shared = shared;
    await this.#look(subject.mainStore === mainStore ? spelled : undefined);
    for (const host of this.#ask.hosts) host.shared = undefined;
    return this.#caller.gone;
  }

  /** Ends the caller's wait when its patience is at its end. */
  async timedOut() {
    const error = this.#timeoutError();
    if (!(await this.#serveUnexpired(error))) this.#caller.reject(await error);
  }

  /** Ends the wait of a caller that has a token; what is under way goes on. */
  async #waitedEnough() {
    // A disk that is slow to tell where things lie would not tell what is stored either.
    await this.#begun;
    if (this.#caller.gone) return;
    const serve = () => this.#serveUnexpired(this.#timeoutError());
    if (this.#dispatchedAt === undefined) await serve();
    else this.#enough = setTimeout(() => void serve(), ASK_WITH_TOKEN_MS);
  }

  /** Serves what is stored, if it has not expired and the caller wants it rather than this error. */
  async #serveUnexpired(error) {
    if (!this.#ask.serveUnexpired || this.#caller.gone) return false;
    try {
      const found = await this.#atLast();
      if (found?.kind === "unexpired") this.#finish({ ...found, kind: "fresh", refreshError: await error });
      else if (found) this.#finish(found);
    } catch {
      // The error that is at hand says more.
    }
    return this.#caller.gone;
  }

  /** What the stores hold that is usable, or has not expired; or were seen to hold if they do not tell soon. */
  async #atLast() {
    const found = await soon(this.#call.atLast(), LAST_LOOK_MS);
    return unwrap(found && !found.error ? found : this.#call.lastSeen());
  }

  async #timeoutError() {
    const isWaiting = this.#dispatchedAt === undefined;
    const delayed = this.#ask.hosts.map((host) => host.delay).find(Boolean);
    const known = this.#pausing || isWaiting ? (this.#failure ?? this.#pausing ?? delayed) : this.#beingAsked();
    const late = await explained(this.#call.whyLate(known !== undefined));
    return late ?? known ?? unanswered(this.#subject.lockPath);
  }

  #beingAsked() {
    const seconds = ((performance.now() - this.#dispatchedAt) / 1000).toFixed(1);
    return new OAuthRefreshLockError(
      "caller_timeout",
      `the provider was asked ${seconds} s ago, and no answer is saved yet; this process goes on, and saves it for later calls`,
      { path: this.#subject.lockPath },
    );
  }

  /** Serves the caller without the lock if that can be done. */
  async #look(peers) {
    try {
      const served = unwrap(await this.#call.look(peers));
      if (served) this.#finish(served);
    } catch (error) {
      await this.#fail(error);
    }
  }

  /** Goes on with what a turn came to. What peers may take over is returned. */
  async #end(done) {
    switch (done.kind) {
      case "left":
        return undefined;
      case "notHeld":
        throw this.#thrown.error;
      case "failed":
        return await this.#tryLater(this.#failed(done));
      case "backoff":
      case "claimed":
      case "later":
        return await this.#pause(done);
      default:
        return this.#finish(done);
    }
  }

  /** The error of a failed call, which tells if the login has ended. */
  #failed({ failure, dead }) {
    if (!failure) {
      const { error, marked, ...more } = this.#thrown;
      if (dead) marked.message = dead;
      return { error, ...more, isTransient: more.isTransient && !dead };
    }
    const { class: failureClass, isTransient, status } = failure;
    const mayRepeat = failureClass === "uncertain" && this.#ask.uncertain !== "fail";
    // What the provider asked for is on record, for everyone.
    const isOnRecord = failureClass !== "not_sent" || status != null;
    return { error: providerError({ ...failure, dead }), isTransient: isTransient || mayRepeat, isOnRecord };
  }

  /** Asks again, within the caller's patience: after the pause that is on record for everyone, or one of our own. */
  async #tryLater({ error, isTransient, isOnRecord }) {
    // Another account's token is not a temporary failure.
    const isInTime = isTransient && error.code !== "identity_mismatch" && !this.#caller.gone;
    // A caller with a token that is still good waits for no better weather.
    if (!isInTime || (await this.#serveUnexpired(error))) throw error;
    if (!this.#failure && !this.#ask.at) this.#asksUntil = performance.now() + FUNCTION_PATIENCE_MS;
    this.#failure = error;
    const pause = Math.min(FIRST_RETRY_MS * 2 ** this.#retries, LAST_RETRY_MS) * (0.5 + Math.random());
    this.#retries += 1;
    return this.#pause({ kind: "retry", waitMs: isOnRecord ? 0 : pause });
  }

  /**
   * Waits, out of line, for the end of the pause that the provider asked for, or for an owner behind which no caller can stand in line,
   * or another program; then stands in line again. A caller with less patience is told why at once.
   */
  async #pause({ kind, waitMs: ms, refreshError }) {
    const patienceMs = Math.min(this.#caller.patienceMs, this.#asksUntil - performance.now());
    const isTooLong = !this.#ask.patient || ms >= patienceMs;
    if (isTooLong && this.#failure) throw this.#failure;
    if (kind === "later" && !this.#ask.patient) throw await lockTimeout(this.#subject.lockPath);
    const retryAfterMs = kind === "backoff" ? Math.ceil(ms) : undefined;
    const backOff = refreshError && told(refreshError, retryAfterMs);
    if (backOff && isTooLong) throw backOff;
    this.#pausing = backOff;
    const timer = setTimeout(
      () => {
        this.#caller.onGone = undefined;
        this.#pausing = undefined;
        this.start();
        enter(this.#subject, this);
      },
      Math.min(ms * (1 + Math.random() * PAUSE_JITTER), (ms + patienceMs) / 2),
    );
    this.#caller.onGone = () => clearTimeout(timer);
  }

  /** Calls the refresh function, and answers with what it made of the credential. */
  async #callFunction(credential) {
    if (this.#caller.gone) return this.#call.nothing();
    let answer;
    try {
      const fields = await this.#dispatch(credential);
      answer = () => (fields === undefined ? this.#call.nothing() : this.#call.answered(fields));
    } catch (error) {
      answer = await this.#refuse(error);
    }
    await this.#holdAgain();
    this.#stayAlive(SAVE_PATIENCE_MS);
    answer();
  }

  /** Tells an error of the refresh function what it is. Returns what tells the native side. */
  async #refuse(error) {
    const { failure, isAnswer, passes, isWeather } = await lookAt(error, this.#ask.classify);
    const { class: failureClass, retryAfterMs } = failure;
    try {
      error.refreshFailure = failure;
    } catch {
      // A frozen error passes through as it is.
    }
    const mayPass = {
      not_sent: true,
      answered_unspent: passes,
      uncertain: isWeather && this.#ask.uncertain !== "fail",
    };
    const isOnRecord = isAnswer || failureClass !== "not_sent";
    this.#thrown = { error, marked: failure, isTransient: mayPass[failureClass] ?? false, isOnRecord };
    // To the core it is one whether the provider could not be asked or was not to be.
    const onRecord = failureClass === "not_asked" ? "not_sent" : failureClass;
    return () => this.#call.failed(onRecord, isAnswer, passes, retryAfterMs);
  }

  /** Calls the refresh function and reads its result, with the limit that a provider call has. */
  async #dispatch(credential) {
    this.#dispatched();
    const controller = new AbortController();
    const due = performance.now() + this.#ask.callTimeoutMs;
    const abort = () => {
      const error = callTimeout(this.#ask.callTimeoutMs);
      controller.abort(error);
      // A function that ignores its signal keeps the claim, neither the caller nor the line; a late success is saved.
      void this.#fail(error);
      // Other programs that use the stores need not wait for it either.
      this.#isOverdue = true;
      void this.#leaveHolds();
      this.onOverdue?.();
    };
    const atLimit = () => {
      if (performance.now() < due + OVERDUE_MS) return abort();
      timer = setTimeout(abort, OVERDUE_MS);
      if (this.#caller.gone) timer.unref();
    };
    let timer = setTimeout(atLimit, this.#ask.callTimeoutMs);
    // While a caller waits the process lives on for it; a call without one does not keep the process from exiting.
    this.#caller.onGone = () => timer.unref();
    try {
      return await toJson(await this.#ask.refresh(credential, { signal: controller.signal }));
    } catch (error) {
      if (types.isNativeError(error) || error instanceof Error) throw error;
      throw new OAuthRefreshLockError(
        "refresh_threw_non_error",
        "the refresh function threw something that is not an Error",
        { cause: error },
      );
    } finally {
      clearTimeout(timer);
    }
  }

  async #fail(error) {
    for (const host of this.#ask.hosts) host.explain(error);
    tell(this.#subject, native().takeWarnings());
    if (!(await this.#serveUnexpired(error))) this.#caller.reject(error);
  }

  /** Tells the caller and the world. What peers may take over is returned. */
  #finish({ kind, credential, spelled, mirror, notSaved, refreshError }) {
    this.isDone = true;
    tell(this.#subject, native().takeWarnings());
    if (kind === "absent") {
      this.#caller.resolve(null);
      return undefined;
    }
    publish(kind, this.#subject, refreshError && { code: refreshError.code });
    if (mirror) publish(mirror.written ? "mirrored" : "refused", this.#subject, { reason: mirror.reason });
    const result = { outcome: kind, credential };
    if (mirror) result.mirror = mirror;
    if (notSaved) result.notSaved = notSaved;
    if (refreshError) result.refreshError = refreshError instanceof Error ? refreshError : told(refreshError);
    this.#caller.resolve(result);
    // No peer may take a token for fresh that could not be refreshed.
    return refreshError ? undefined : { subject: this.#subject, spelled, shared: new Map() };
  }
}

/** An error that the native side has put into words. */
function told({ code, message, path }, retryAfterMs) {
  return new OAuthRefreshLockError(code, message, { path: path ?? undefined, retryAfterMs });
}

function callTimeout(ms) {
  return new OAuthRefreshLockError(
    "refresh_call_timeout",
    `the provider call was aborted after ${ms / 1000} s; whether the provider has rotated the token is unknown`,
  );
}

module.exports = { refreshIfFree, withOAuthRefreshLock };
