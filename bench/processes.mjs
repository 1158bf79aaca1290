/** Processes of the benchmark, and what is asked of them. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const AGENT = fileURLToPath(new URL("agent.mjs", import.meta.url));

export class Process {
  #child;
  #calls = new Map();
  #count = 0;

  constructor({ node = process.execPath } = {}) {
    this.#child = fork(AGENT, { execPath: node, execArgv: [], stdio: ["ignore", 2, 2, "ipc"] });
    this.exited = once(this.#child, "exit");
    this.#child.on("message", ({ id, result, error }) => {
      const call = this.#calls.get(id);
      this.#calls.delete(id);
      if (error) call?.reject(Object.assign(new Error(error.message), { code: error.code }));
      else call?.resolve(result);
    });
    const gone = () => {
      for (const { reject } of this.#calls.values()) reject(new Error("the process has ended"));
      this.#calls.clear();
    };
    this.#child.once("error", gone);
    this.#child.once("exit", gone);
  }

  /**
   * Runs a function there.
   *
   * @param {string} module the URL of a module that exports it in `work`
   * @param {object} [args] as JSON
   */
  call(module, name, args = {}) {
    const id = this.#count++;
    const answered = new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject }));
    this.#child.send({ id, module, name, args }, (error) => error && this.#calls.get(id)?.reject(error));
    return answered;
  }

  /** Kills it at once; `exited` tells when it is gone. */
  kill() {
    this.#child.kill("SIGKILL");
    return this.exited;
  }
}

/** Runs `work` with this many processes, and leaves none behind. */
export async function withProcesses(count, options, work) {
  const processes = Array.from({ length: count }, () => new Process(options));
  try {
    return await work(processes);
  } finally {
    for (const process of processes) await process.kill();
  }
}
