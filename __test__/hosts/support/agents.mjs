import { fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const AGENT = join(import.meta.dirname, "agent.mjs");

/** A process of agents; see agent.mjs. */
export class Agent {
  /** What it has told, in order. */
  tells = [];
  isKilled = false;
  #child;
  #waits = new Set();
  #asked = 0;
  #output = "";

  /** @param {{ package?: string, node?: string, env?: NodeJS.ProcessEnv }} [options] */
  constructor({ package: module, node, env } = {}) {
    const all = { PATH: process.env.PATH, ...(module && { TEST_PACKAGE: module }), ...env };
    this.#child = fork(AGENT, {
      env: all,
      execPath: node ?? process.execPath,
      execArgv: [],
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        this.#output += text;
      });
    }
    this.#child.on("error", () => {});
    this.#child.on("message", (tell) => {
      this.tells.push(tell);
      for (const check of this.#waits) check();
    });
    this.ended = once(this.#child, "close").then(([code, signal]) => {
      this.end = { code, signal, output: this.#output };
      for (const check of this.#waits) check();
      return this.end;
    });
    this.ready = this.heard((tell) => tell.told === "ready");
  }

  get pid() {
    return this.#child.pid;
  }

  get isAlive() {
    return this.end === undefined && !this.isKilled;
  }

  /** Resolves with the first thing told, from the `from`th on, of which this is true; fails if it ends before. */
  heard(isIt, from = 0) {
    return new Promise((resolve, reject) => {
      const check = () => {
        const tell = this.tells.slice(from).find(isIt);
        if (!tell && !this.end) return;
        this.#waits.delete(check);
        if (tell) resolve(tell);
        else reject(new Error(`the agent has ended: ${JSON.stringify(this.end)}`));
      };
      this.#waits.add(check);
      check();
    });
  }

  /**
   * Makes a call.
   *
   * @returns {Call}
   */
  call(ask) {
    return new Call(this, ask, ++this.#asked);
  }

  send(message) {
    if (this.#child.connected) this.#child.send(message, () => {});
  }

  /** No more calls: it has to end by itself. */
  finish() {
    this.send({});
    return this.ended;
  }

  kill() {
    this.isKilled = true;
    this.#child.kill("SIGKILL");
    return this.ended;
  }

  /** Stands still some time soon. */
  pause() {
    this.#child.kill("SIGSTOP");
  }

  /** Stands still, with every thread. */
  async stop() {
    this.pause();
    while (!/\) T/.test(readFileSync(`/proc/${this.pid}/stat`, "utf8"))) await sleep(1);
  }

  goOn() {
    this.#child.kill("SIGCONT");
  }
}

/** A call under way. */
export class Call {
  #agent;
  #from;

  constructor(agent, ask, id) {
    this.#agent = agent;
    this.#from = agent.tells.length;
    const isAnswer = (tell) => tell.told === "became" && tell.id === id;
    this.isOver = false;
    /** What became of it; `{ died }` if its process did. Never rejects. */
    this.became = agent.heard(isAnswer, this.#from).then(
      ({ became }) => became,
      () => ({ died: agent.end.signal ?? agent.end.code, message: agent.end.output }),
    );
    void this.became.then(() => {
      this.isOver = true;
    });
    agent.send({ id, ask });
  }

  get agent() {
    return this.#agent;
  }

  #heard(isIt) {
    return this.#agent.heard(isIt, this.#from);
  }

  /** It has reached a point at which it was to be held. */
  held(at) {
    return this.#heard((tell) => tell.told === "held" && tell.at === at);
  }

  blocked() {
    return this.#heard((tell) => tell.told === "blocked");
  }

  /** This event has been told, or the call is over. */
  async event(type) {
    const isIt = (tell) => (tell.told === "event" && tell.type === type) || tell.told === "became";
    return (await this.#heard(isIt)).type;
  }

  goOn(point) {
    this.#agent.send({ point });
  }
}
