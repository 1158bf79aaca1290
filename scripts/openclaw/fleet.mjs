// Processes of a release, each with one agent or more.
import { fork } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const AGENT = join(dirname(fileURLToPath(import.meta.url)), "agent.mjs");

/** One process, which does what it is told: `tell("ask", { agentDir })`. */
class Worker {
  #child;
  #answers = new Map();
  #tickets = 0;
  isDead = false;

  constructor(child) {
    this.#child = child;
    child.on("message", ({ ticket, ...answer }) => this.#answers.get(ticket)?.(answer));
    child.on("exit", () => {
      this.isDead = true;
      for (const answer of this.#answers.values()) answer({ error: "its process was killed", isDead: true });
    });
  }

  ready() {
    return once(this.#child, "message");
  }

  tell(order, how) {
    const ticket = ++this.#tickets;
    const answered = new Promise((resolve) => this.#answers.set(ticket, resolve));
    if (!this.isDead) this.#child.send({ ticket, order, ...how });
    return answered;
  }

  async kill() {
    if (this.isDead) return;
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
  }
}

/**
 * @param {{ release: object, node: string, home: string, url: string }} host
 * @param {readonly string[]} packages for each process, the release that it runs
 */
export async function startFleet({ release, node, home, url }, packages) {
  const workers = packages.map((openclaw, number) => {
    const sdk = join(openclaw, "dist", "plugin-sdk");
    const proof = {
      runtime: join(sdk, "agent-runtime.js"),
      sessions: join(sdk, "agent-sessions.js"),
      provider: url,
      number,
      profileId: `${release.provider}:default`,
    };
    const env = {
      PATH: process.env.PATH,
      HOME: home,
      OPENCLAW_STATE_DIR: join(home, "state"),
      ...release.env,
      PROOF: JSON.stringify(proof),
    };
    const stdio = ["ignore", "ignore", process.env.PROOF_LOUD ? 2 : "ignore", "ipc"];
    return new Worker(fork(AGENT, { env, cwd: openclaw, execPath: node, execArgv: [], stdio }));
  });
  await Promise.all(workers.map((worker) => worker.ready()));
  return { workers, kill: () => Promise.all(workers.map((worker) => worker.kill())) };
}
