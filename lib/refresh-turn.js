const { soon } = require("./caller.js");
const { OAuthRefreshLockError, fromNative, isError, unwrap } = require("./errors.js");
const { hasSubscribers, publish } = require("./events.js");
const { explained, tell, unanswered } = require("./lock.js");
const { native } = require("./native.js");
const { callProvider, classifyAndMark } = require("./provider-call.js");
const { asHolder, enter, openInOrder, refuseNested } = require("./queue.js");
const { asksEndpoint, providerError } = require("./token-endpoint.js");

/** How long a caller whose time is up waits for what the stores hold. */
const LAST_LOOK_MS = 500;
/** How long a caller waits for others if the stored token has not expired: for them to refresh it, and no longer. */
const WAIT_WITH_TOKEN_MS = 1_000;
/** The same while it asks the provider itself: a caller that leaves then may end the process, and with it the answer. */
const ASK_WITH_TOKEN_MS = 10_000;
/** For so long after its first failure a refresh function is called again; it may have retries of its own. */
const FUNCTION_PATIENCE_MS = 10_000;
/** For so long an answer that is nowhere but in memory keeps the process from exiting. */
const SAVE_PATIENCE_MS = 30_000;

/** One caller's refresh: look; else stand in line, and have the native side take its turn. */
class RefreshTurn {
  #call;
  #subject;
  #caller;
  /**
   * How to ask the provider: `refresh`, a function, or `at`, a native token endpoint; `hosts`, the host's stores;
   * `serveUnexpired`, whether a token that has not expired is better than an error.
   */
  #ask;
  /** Settles when it is known where things lie. */
  #begun;
  #looked;
  /** When the provider was asked, by `performance.now()`; not set while the native side waits for a lock. */
  #dispatchedAt;
  /** Why the provider is to be asked again. */
  #failure;
  /** What the refresh function threw last, and what it was marked with; or what `hold` threw. */
  #thrown;
  /** Ends the wait of a caller whose token has not expired. */
  #enough;
  /** Keeps the process from exiting while an answer is nowhere but in memory. */
  #keepAlive;
  /** For how long after its first failure the provider is asked again; not set: for as long as the caller waits. */
  #askingMs;
  /** Whether the native side has it. */
  #isUnderWay = false;
  #endTurn;
  /** See `Turn` in queue.js. */
  onOverdue;
  isDone = false;

  constructor(call, subject, caller, ask) {
    this.#call = call;
    this.#subject = subject;
    this.#caller = caller;
    this.#ask = ask;
    if (!ask.at && !asksEndpoint(ask.refresh)) this.#askingMs = FUNCTION_PATIENCE_MS;
    const leave = () => {
      clearTimeout(this.#enough);
      if (!this.#isUnderWay || call.leave()) ask.hosts.close();
    };
    caller.promise.then(leave, leave);
    if (ask.serveUnexpired && ask.patient)
      this.#enough = setTimeout(() => void this.#waitedEnough(), WAIT_WITH_TOKEN_MS);
  }

  /** Stands in line, once it is known which one that is. */
  begin(opened) {
    this.#begun = this.#open(opened);
    return this.#begun;
  }

  async #open(now) {
    const call = this.#call;
    try {
      await openInOrder(
        this.#subject.lockPath,
        now,
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
    hosts.callFor(paths.key);
    if (refresh) this.#ask.refresh = asHolder(paths.key, refresh);
    // Whatever is in line before us: a caller that finds a usable credential does not wait.
    this.#looked = this.#look();
    enter(this.#subject, this);
  }

  async run() {
    try {
      await this.#looked;
      return this.#caller.gone ? undefined : await this.#end(unwrap(await this.#turn()));
    } catch (error) {
      await this.#fail(error);
    } finally {
      clearTimeout(this.#keepAlive);
      if (this.#caller.gone) this.#ask.hosts.close();
    }
    return undefined;
  }

  /** One turn on the native side: what it came to. */
  async #turn() {
    const done = await this.#take();
    // Before its caller goes on, which may end the process.
    await this.#ask.hosts.released();
    this.#dispatchedAt = undefined;
    return done;
  }

  #take() {
    const { at, maxParallel, callTimeoutMs, patient: waits } = this.#ask;
    const hear = (told, reply) => this.#hear(told, reply);
    const patience = { waits, ms: this.#caller.patienceMs, askingMs: this.#askingMs };
    this.#isUnderWay = true;
    return new Promise((resolve) => {
      this.#endTurn = resolve;
      if (at) this.#call.exchange(hear, patience, hasSubscribers(), at, maxParallel, callTimeoutMs);
      else this.#call.turn(hear, patience, hasSubscribers());
    });
  }

  /** What the native side tells and asks: see `Notification` in the binding. */
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
        return void this.#ask.hosts.release();
      case "ask":
        return void this.#callFunction(unwrap(reply).credential);
      case "askLate":
        return this.#call.late();
      case "dispatched":
        this.#dispatched();
        return this.#stayAlive(this.#ask.callTimeoutMs + SAVE_PATIENCE_MS);
      case "pausing":
        return this.#pausing(unwrap(reply));
      case "unsaved":
        this.#stayAlive(SAVE_PATIENCE_MS);
        return void this.#fail(fromNative(reply.error));
      default:
        this.#isUnderWay = false;
        this.#ask.hosts.isSaving = false;
        return this.#endTurn(reply);
    }
  }

  /** Those who wait behind us in this process need not wait for a pause. */
  #pausing({ failure }) {
    this.#failure = failure ? providerError(failure) : (this.#thrown?.error ?? this.#failure);
    this.#dispatchedAt = undefined;
    this.#ask.hosts.isSaving = false;
    clearTimeout(this.#keepAlive);
    // They may want what the stores' owners are just getting back.
    void Promise.resolve(this.#ask.hosts.released()).then(() => this.onOverdue?.());
  }

  #dispatched() {
    publish("dispatched", this.#subject);
    this.#dispatchedAt = performance.now();
    this.#ask.hosts.isSaving = true;
  }

  #stayAlive(ms) {
    clearTimeout(this.#keepAlive);
    this.#keepAlive = setTimeout(() => {}, ms);
  }

  /** After our lock and a place. */
  async #answerHold() {
    const { hosts, patient } = this.#ask;
    try {
      this.#call.held(await hosts.hold(this.#subject.profileId, this.#caller, patient));
    } catch (error) {
      this.#thrown = { error };
      this.#call.notHeld();
    }
  }

  /** Takes what the leader got, through the same checks as a peer's. */
  async follow({ subject, spelled, sharedLoads }) {
    const { provider, profileId, mainStore } = this.#subject;
    // A host may give several keys one lock path.
    if (subject.provider !== provider || subject.profileId !== profileId) return false;
    await this.#looked;
    // Agents under different main agents are not peers: they may be different people's.
    if (this.#caller.gone) return true;
    this.#ask.hosts.sharedLoads = sharedLoads;
    await this.#look(subject.mainStore === mainStore ? spelled : undefined);
    this.#ask.hosts.sharedLoads = undefined;
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
    const known = isWaiting ? (this.#failure ?? this.#ask.hosts.delay) : this.#beingAsked();
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

  /** Goes on with what the refresh came to. What peers may take over is returned. */
  #end(done) {
    switch (done.kind) {
      case "left":
        return undefined;
      case "notheld":
        throw this.#thrown.error;
      case "failed":
        throw this.#failed(done);
      default:
        return this.#finish(done);
    }
  }

  /** The error of a failed call, which tells if the login has ended. */
  #failed({ failure, dead }) {
    if (failure) return providerError({ ...failure, dead });
    const { error, marked } = this.#thrown;
    if (dead) marked.message = dead;
    return error;
  }

  /** Calls the refresh function, and answers with what it made of the credential. */
  async #callFunction(credential) {
    if (this.#caller.gone) return this.#call.nothing();
    const { refresh, classify, callTimeoutMs: limitMs, hosts } = this.#ask;
    let isOverdue = false;
    // A function that ignores its signal keeps the claim, neither the caller nor the line; a late success is saved. Other programs
    // that use the stores need not wait for it either.
    const onOverdue = (error) => {
      void this.#fail(error);
      isOverdue = true;
      void hosts.release();
      this.onOverdue?.();
    };
    let answer;
    this.#dispatched();
    try {
      const fields = await callProvider(refresh, credential, { limitMs, caller: this.#caller, onOverdue });
      answer = () => (fields === undefined ? this.#call.nothing() : this.#call.answered(fields));
    } catch (error) {
      const { marked, onRecord, isAnswer, isTemporary, retryAfterMs } = await classifyAndMark(error, classify);
      this.#thrown = { error, marked };
      answer = () => this.#call.failed(onRecord, isAnswer, isTemporary, retryAfterMs);
    }
    if (isOverdue) await hosts.holdLate(this.#subject.profileId);
    this.#stayAlive(SAVE_PATIENCE_MS);
    answer();
  }

  async #fail(error) {
    this.#ask.hosts.explain(error);
    tell(this.#subject, native().takeWarnings());
    if (!(await this.#serveUnexpired(error))) this.#caller.reject(error);
  }

  /** Tells the caller and the world. What peers may take over is returned. */
  #finish({ kind, credential, spelled, mirror, notSaved, notShared, adoptedFrom, refreshError }) {
    this.isDone = true;
    tell(this.#subject, native().takeWarnings());
    if (kind === "absent") {
      this.#caller.resolve(null);
      return undefined;
    }
    publish(kind, this.#subject, refreshError ? { code: refreshError.code } : (adoptedFrom ?? undefined));
    if (mirror) publish(mirror.written ? "mirrored" : "refused", this.#subject, { reason: mirror.reason });
    const result = { outcome: kind, credential };
    if (mirror) result.mirror = mirror;
    if (notSaved) result.notSaved = notSaved;
    if (notShared) result.notShared = notShared;
    if (adoptedFrom) result.adoptedFrom = adoptedFrom;
    if (refreshError) result.refreshError = isError(refreshError) ? refreshError : fromNative(refreshError);
    this.#caller.resolve(result);
    // No peer may take a token for fresh that could not be refreshed.
    return refreshError ? undefined : { subject: this.#subject, spelled, sharedLoads: new Map() };
  }
}

module.exports = { RefreshTurn };
