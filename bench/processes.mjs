/** Processes of the benchmark, and what is asked of them. */
import { fileURLToPath } from "node:url";
import { Child } from "../__test__/support/child.mjs";

const AGENT = fileURLToPath(new URL("agent.mjs", import.meta.url));

export class Process extends Child {
  #count = 0;

  constructor({ env = process.env, prints = 2, ...options } = {}) {
    super(AGENT, { env, prints, ...options });
  }

  /**
   * Runs a function there.
   *
   * @param {string} module the URL of a module that exports it in `work`
   * @param {object} [args] as JSON
   */
  async call(module, name, args = {}) {
    const id = ++this.#count;
    this.send({ id, module, name, args });
    const { result, error } = await this.heard("answered", id);
    if (error) throw Object.assign(new Error(error.message), { code: error.code });
    return result;
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
