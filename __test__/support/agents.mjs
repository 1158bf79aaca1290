/** Agents in processes of their own. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { deferred, EventLog } from "./events.mjs";
import { PROFILE, PROVIDER } from "./host.mjs";

const AGENT = fileURLToPath(new URL("agent.mjs", import.meta.url));

/** A process of agents; see agent.mjs. Its events are in `log`. */
export class Agent {
  log = new EventLog();
  #child;
  #calls = new Map();
  #started = deferred();

  /**
   * @param {string} [options.node] the Node to run it with
   * @param {string[]} [options.through] another program, which is given the command line of Node after its arguments
   */
  constructor({ env = {}, uid, script = AGENT, node = process.execPath, through = [] } = {}) {
    const [execPath, ...execArgv] = [...through, node];
    this.#child = fork(script, {
      env: { PATH: process.env.PATH, ...env },
      execPath,
      execArgv,
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      uid,
    });
    this.exited = once(this.#child, "exit").then(([code, signal]) => ({ code, signal }));
    this.#child.on("message", (message) => this.#hear(message));
    // What it told last may be read after its exit is known.
    const disconnected = once(this.#child, "disconnect");
    void Promise.all([this.exited, disconnected]).then(([{ code, signal }]) => {
      const error = new Error(`the agent's process has ended: ${signal ?? code}`);
      this.#started.reject(error);
      for (const call of this.#calls.values()) for (const step of call.steps.values()) step.reject(error);
    });
    // Whoever awaits a step hears of the end; nobody has to.
    this.#started.promise.catch(() => {});
  }

  get pid() {
    return this.#child.pid;
  }

  /** Resolves once it takes requests. */
  started() {
    return this.#started.promise;
  }

  /** Calls `withOAuthRefreshLock` there. */
  refresh(request) {
    return this.#ask("refresh", request);
  }

  /** Calls `withOAuthProfileLock` there, with a function that returns when told to. */
  lock(request) {
    return this.#ask("lock", request);
  }

  /** What `resolveOAuthRefreshLockPath` says there. */
  async path(request) {
    const [{ result }] = await this.#ask("path", request).settled;
    return result;
  }

  /** Lets it end by itself, and tells how it did. */
  leave() {
    this.#child.send({ word: "leave" });
    return this.exited;
  }

  async kill() {
    this.#child.kill("SIGKILL");
    await this.exited;
  }

  #ask(ask, request) {
    const id = this.#calls.size;
    const steps = new Map(["ready", "called", "swapping", "settled"].map((step) => [step, deferred()]));
    for (const { promise } of steps.values()) promise.catch(() => {});
    const calls = [];
    this.#calls.set(id, { steps, calls });
    this.#child.send({ id, ask, provider: PROVIDER, profileId: PROFILE, ...request });
    const say = (word, more) => this.#child.send({ id, word, ...more });
    return {
      /** The credentials that the refresh function was called with so far. */
      calls,
      /** It stands at the barrier. */
      ready: steps.get("ready").promise,
      /** The function was called; resolves to the credential it was given. */
      called: steps.get("called").promise,
      /** A swap has begun that never ends. */
      swapping: steps.get("swapping").promise,
      /** All callers have their outcome: `{ result }` or `{ error }`. */
      settled: steps.get("settled").promise,
      go: () => say("go"),
      answer: (fields) => say("answer", { fields }),
      abort: (reason) => say("abort", { reason }),
    };
  }

  #hear({ id, told, event, ...more }) {
    if (event) this.log.add(event);
    else if (told === "started") this.#started.resolve();
    else {
      const { steps, calls } = this.#calls.get(id);
      if (told === "called") calls.push(more.credential);
      steps.get(told).resolve(more.credential ?? more.outcomes);
    }
  }
}

/** An agent's process for the running test. */
export async function startAgent(options) {
  const agent = new Agent(options);
  onTestFinished(() => agent.kill());
  await agent.started();
  return agent;
}

/** Holds the key's lock there. */
export async function holdLock(agent, request) {
  const call = agent.lock(request);
  await call.called;
  const release = () => {
    call.answer();
    return call.settled;
  };
  return { ...call, release };
}

/** Has a new process hold the key's lock of this host. */
export async function heldElsewhere(host, options) {
  const agent = await startAgent();
  const { release } = await holdLock(agent, { options: { stateDir: host.stateDir, ...options } });
  return { agent, release };
}
