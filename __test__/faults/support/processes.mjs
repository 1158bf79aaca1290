import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const AGENT = fileURLToPath(new URL("agent.mjs", import.meta.url));

/** A process; see agent.mjs. */
export class AgentProcess {
  /** What it has told, in order. */
  tells = [];
  /** What it has printed. */
  output = "";
  #child;
  #waits = new Set();
  #asked = 0;

  /** @param {boolean} [options.lies] the kernel's locks exclude nobody */
  constructor({ package: module, fault, timers = true, clock, lies = false }) {
    const env = { PATH: process.env.PATH, TEST_PACKAGE: module, ...clock?.env };
    if (fault) env.OAUTH_REFRESH_LOCK_FAULT = fault;
    if (lies) env.OAUTH_REFRESH_LOCK_LIES = "1";
    if (!timers) env.TEST_NO_TIMERS = "1";
    this.#child = spawn(process.execPath, [AGENT], { env, stdio: ["pipe", "pipe", "pipe", "pipe"] });
    // One that was killed reads no more.
    this.#child.stdin.on("error", () => {});
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        this.output += text;
      });
    }
    const lines = createInterface({ input: this.#child.stdio[3] });
    lines.on("line", (line) => {
      this.tells.push(JSON.parse(line));
      for (const check of this.#waits) check();
    });
    /** How it ended, once everything it told has been heard. */
    this.ended = once(this.#child, "close").then(([code, signal]) => {
      for (const check of this.#waits) check(`the process has ended: ${signal ?? code}\n${this.output}`);
      return { code, signal };
    });
  }

  get pid() {
    return this.#child.pid;
  }

  /** The first thing told under this name. */
  first(told, id) {
    return this.tells.find((tell) => tell.told === told && (id === undefined || tell.id === id));
  }

  /** Resolves with it once it has been told. */
  async heard(told, id) {
    await this.until(() => this.first(told, id));
    return this.first(told, id);
  }

  /** Resolves once what it has told makes this true; fails if it ends before. */
  until(isTrue) {
    return new Promise((resolve, reject) => {
      const check = (ended) => {
        const holds = isTrue();
        if (!holds && !ended) return;
        this.#waits.delete(check);
        if (holds) resolve();
        else reject(new Error(ended));
      };
      this.#waits.add(check);
      check();
    });
  }

  /** Asks for a call and goes on. */
  ask(ask) {
    this.#asked += 1;
    this.#child.stdin.write(`${JSON.stringify({ ...ask, id: this.#asked })}\n`);
    return this.#asked;
  }

  /** Asks for a call and awaits what becomes of it: `{ result }` or `{ error }`. */
  async call(ask) {
    return this.heard("settled", this.ask(ask));
  }

  /** No more calls: it ends when those under way have. */
  async finish() {
    this.#child.stdin.end();
    return this.ended;
  }

  kill() {
    this.#child.kill("SIGKILL");
    return this.ended;
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
