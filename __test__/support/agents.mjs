/** Agents in processes of their own. */
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { Child } from "./child.mjs";
import { EventLog } from "./events.mjs";
import { PROFILE, PROVIDER } from "./host.mjs";

const AGENT = fileURLToPath(new URL("agent.mjs", import.meta.url));

/** A process of agents; see agent.mjs. Its events are in `log`. */
class Agent extends Child {
  log = new EventLog();
  #asked = 0;

  hear(tell) {
    if (tell.event) this.log.add(tell.event);
    else super.hear(tell);
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

  #ask(ask, request) {
    const id = ++this.#asked;
    const { tells } = this;
    this.send({ id, ask, provider: PROVIDER, profileId: PROFILE, ...request });
    const step = async (told, what) => (await this.heard(told, id))[what];
    const say = (word, more) => this.send({ id, word, ...more });
    const call = {
      /** It stands at the barrier. */
      ready: step("ready"),
      /** The function was called; resolves to the credential it was given. */
      called: step("called", "credential"),
      /** A swap has begun that never ends. */
      swapping: step("swapping"),
      /** All callers have their outcome: `{ result }` or `{ error }`. */
      settled: step("settled", "outcomes"),
    };
    // Whoever awaits a step hears of the end; nobody has to.
    for (const promise of Object.values(call)) promise.catch(() => {});
    return {
      ...call,
      /** The credentials that the refresh function was called with so far. */
      get calls() {
        return tells.filter((tell) => tell.told === "called" && tell.id === id).map(({ credential }) => credential);
      },
      go: () => say("go"),
      answer: (fields) => say("answer", { fields }),
      abort: (reason) => say("abort", { reason }),
    };
  }
}

/** An agent's process for the running test. */
export async function startAgent({ script = AGENT, ...options } = {}) {
  const agent = new Agent(script, options);
  onTestFinished(() => agent.kill());
  await agent.heard("started");
  return agent;
}

/** Has a refresh under way in a new process: its function has been called, and waits for its answer. */
export async function askingElsewhere(request) {
  const agent = await startAgent();
  const call = agent.refresh(request);
  await call.called;
  return [agent, call];
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
