import { fileURLToPath } from "node:url";
import { Child } from "../../support/child.mjs";

const AGENT = fileURLToPath(new URL("agent.mjs", import.meta.url));

/** A process; see agent.mjs. */
export class AgentProcess extends Child {
  #asked = 0;

  /** @param {boolean} [options.lies] the kernel's locks exclude nobody */
  constructor({ package: module, fault, timers = true, clock, lies = false }) {
    const env = { TEST_PACKAGE: module, ...clock?.env };
    if (fault) env.OAUTH_REFRESH_LOCK_FAULT = fault;
    if (lies) env.OAUTH_REFRESH_LOCK_LIES = "1";
    if (!timers) env.TEST_NO_TIMERS = "1";
    super(AGENT, { env });
  }

  /** Asks for a call and goes on. */
  ask(ask) {
    this.#asked += 1;
    this.send({ ...ask, id: this.#asked });
    return this.#asked;
  }

  /** Asks for a call and awaits what becomes of it: `{ result }` or `{ error }`. */
  call(ask) {
    return this.heard("settled", this.ask(ask));
  }
}

/** One call in a process of its own, to its end. */
export async function oneCall(options, ask) {
  const agent = new AgentProcess(options);
  const called = agent.call(ask).catch(() => {});
  const ended = agent.finish();
  const settled = await called;
  // It would stay for a while and try again.
  const unsaved = settled?.error?.code === "receipt_unsaved";
  const end = await (unsaved ? agent.kill() : ended);
  return { ...end, agent, settled, unsaved, fields: agent.first("answered")?.fields };
}

/** Does these jobs, `lanes` at a time; each lane has a context of its own. After a failure no further one is begun. */
export async function sideBySide(jobs, lanes, createContext, work) {
  const queue = jobs[Symbol.iterator]();
  let failed = false;
  const lane = async () => {
    try {
      const context = await createContext();
      while (!failed) {
        const { done, value } = queue.next();
        if (done) return;
        await work(value, context);
      }
    } catch (error) {
      failed = true;
      throw error;
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: lanes }, lane));
  const failure = ends.find(({ status }) => status === "rejected");
  if (failure) throw failure.reason;
}
