const { types } = require("node:util");
const args = require("./arguments.js");
const { Caller } = require("./caller.js");
const { OAuthRefreshLockError, unwrap } = require("./errors.js");
const { publish } = require("./events.js");
const { asHolder, enter, refuseNested } = require("./line.js");
const { acquire, lockTimeout } = require("./lock.js");
const { native } = require("./native.js");
const { isRefreshTokenReusedError } = require("./policy.js");

async function withOAuthRefreshLock(provider, profileId, refresh, options) {
  args.provider(provider);
  args.id("profileId", profileId);
  args.callback("refresh", refresh);
  const { signal, timeoutMs, callTimeoutMs, ...request } = args.refreshArguments(args.optionsObject(options));
  const call = new (native().NativeRefresh)({ provider, profileId, ...request, surroundings: args.surroundings() });
  const { lockPath, agentDir } = call;
  refuseNested(lockPath);

  const subject = { provider, profileId, lockPath, agentDir };
  const caller = new Caller({ signal, timeoutMs }, () => turn.timedOut());
  const turn = new RefreshTurn(call, subject, caller, asHolder(lockPath, refresh), callTimeoutMs);
  if (!caller.gone) {
    turn.start();
    enter(lockPath, turn);
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
  #dispatched = false;

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
      if (this.#caller.gone) return undefined;
      const lock = await acquire(this.#subject, this.#caller);
      if (!lock) return undefined;
      return this.#finish(await this.#underLock(lock));
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  /** Takes what the leader got, through the same checks as a peer's. */
  async follow({ credential }) {
    await this.#looked;
    if (!this.#caller.gone) await this.#look(JSON.stringify(credential));
    return this.#caller.gone;
  }

  timedOut() {
    if (!this.#dispatched) return lockTimeout(this.#subject.lockPath);
    return new OAuthRefreshLockError(
      "caller_timeout",
      "timed out while the refresh is under way; it goes on, and the next caller finds its result",
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

  async #underLock(lock) {
    let decision = unwrap(await this.#call.decide(lock));
    for (let attempt = 0; decision.kind === "claimed"; attempt++) {
      if (this.#caller.gone) {
        this.#call.abandon();
        return { kind: "absent" };
      }
      let fields;
      try {
        fields = await this.#dispatch(decision.credential);
      } catch (error) {
        const retry = attempt === 0 && isRefreshTokenReusedError(error);
        const recovered = await this.#recover(retry);
        if (!recovered) throw error;
        decision = recovered;
        continue;
      }
      if (fields == null) {
        this.#call.abandon();
        return { kind: "absent" };
      }
      return unwrap(await this.#call.settle(toJson(fields)));
    }
    return decision;
  }

  /** Calls the refresh function, with the limit that a provider call has. */
  async #dispatch(credential) {
    publish("dispatched", this.#subject);
    this.#dispatched = true;
    const controller = new AbortController();
    const timer = setTimeout(() => {
      const error = callTimeout(this.#callTimeoutMs);
      controller.abort(error);
      // A function that ignores its signal keeps the claim, not the caller; a late success is saved.
      this.#caller.reject(error);
    }, this.#callTimeoutMs);
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

  async #recover(retry) {
    try {
      return unwrap(await this.#call.recover(retry));
    } catch {
      // The refresh function's own error says more.
      return undefined;
    }
  }

  #fail(error) {
    publish("failed", this.#subject, { code: error?.code });
    this.#caller.reject(error);
  }

  /** Tells the caller and the world. What peers may take over is returned. */
  #finish({ kind, credential, mirror, notSaved }) {
    if (kind === "absent") {
      this.#caller.resolve(null);
      return undefined;
    }
    publish(kind, this.#subject);
    if (mirror) publish("mirrored", this.#subject, { written: mirror.written, reason: mirror.reason });
    const result = { outcome: kind, credential };
    if (mirror) result.mirror = mirror;
    if (notSaved) result.notSaved = notSaved;
    this.#caller.resolve(result);
    return result;
  }
}

function toJson(fields) {
  if (typeof fields === "object" && !Array.isArray(fields)) {
    try {
      return JSON.stringify(fields) ?? "null";
    } catch {
      // Told below, without the words of an error that may quote the value.
    }
  }
  return "null";
}

function callTimeout(ms) {
  return new OAuthRefreshLockError(
    "refresh_call_timeout",
    `the provider call was aborted after ${ms / 1000} s; whether the provider has rotated the token is unknown`,
  );
}

module.exports = { withOAuthRefreshLock };
