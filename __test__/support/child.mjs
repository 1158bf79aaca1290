/** Processes that take commands and tell what happens to them, each as a line of JSON; told.mjs is their side of it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { hasStopped } from "../../scripts/stopped.mjs";

/** All that a process prints, and how it ends. */
export async function ended(child) {
  const closed = once(child, "close");
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { stdout, stderr, status: (await closed)[0] };
}

export class Child {
  /** What it has told, in order. */
  tells = [];
  /** What it has printed. */
  output = "";
  /** How it ended, once it has. */
  end;
  #child;
  #waits = new Set();

  /**
   * @param {string} [options.node] the Node to run it with
   * @param {string[]} [options.through] another program, which is given the command line of Node after its arguments
   * @param {"pipe" | "ignore" | "inherit"} [options.prints] what becomes of what it prints
   */
  constructor(script, { env, node = process.execPath, through = [], prints = "pipe", ...options } = {}) {
    const [program, ...args] = [...through, node, script];
    const all = { PATH: process.env.PATH, ...env };
    this.#child = spawn(program, args, { env: all, stdio: ["pipe", prints, prints, "pipe"], ...options });
    // One that was killed reads no more.
    this.#child.stdin.on("error", () => {});
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text) => {
        this.output += text;
      });
    }
    createInterface({ input: this.#child.stdio[3] }).on("line", (line) => {
      this.hear(JSON.parse(line));
      for (const check of this.#waits) check();
    });
    /** How it ended, once everything it told has been heard. */
    this.ended = once(this.#child, "close").then(([code, signal]) => {
      this.end = { code, signal };
      for (const check of this.#waits) check();
      return this.end;
    });
  }

  get pid() {
    return this.#child.pid;
  }

  hear(tell) {
    this.tells.push(tell);
  }

  /** The first thing told under this name. */
  first(told, id) {
    return this.tells.find((tell) => tell.told === told && (id === undefined || tell.id === id));
  }

  /** Resolves with it once it has been told. */
  heard(told, id) {
    return this.until(() => this.first(told, id));
  }

  /** Resolves with what this returns, once what was told makes that true; fails if it ends before. */
  until(isTrue) {
    return new Promise((resolve, reject) => {
      const check = () => {
        const found = isTrue();
        if (!found && !this.end) return;
        this.#waits.delete(check);
        if (found) resolve(found);
        else reject(new Error(`the process has ended: ${this.end.signal ?? this.end.code}\n${this.output}`));
      };
      this.#waits.add(check);
      check();
    });
  }

  send(command) {
    this.#child.stdin.write(`${JSON.stringify(command)}\n`);
  }

  /** No more commands: it ends when what is under way has. */
  finish() {
    this.#child.stdin.end();
    return this.ended;
  }

  kill() {
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
    if (!(await this.hasStopped())) throw new Error(`the process has ended: ${this.output}`);
  }

  goOn() {
    this.#child.kill("SIGCONT");
  }

  /** Resolves with `true` once every thread has stopped; with `false` if it ends instead, and all that it told has been heard. */
  async hasStopped() {
    if (await hasStopped(this.pid)) return true;
    await this.ended;
    return false;
  }
}
