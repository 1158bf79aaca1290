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

  /** Stops it where it is, as a debugger or a laptop's sleep does. */
  freeze() {
    this.#child.kill("SIGSTOP");
  }

  thaw() {
    this.#child.kill("SIGCONT");
  }

  async kill() {
    if (this.isDead) return;
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
  }
}

/** How a process of a release is started: `place` says which Node, where its home is, and where the provider. */
function start({ release, node, home, url }, { openclaw, hasNoAddon }, number) {
  const sdk = join(openclaw, "dist", "plugin-sdk");
  const proof = {
    runtime: join(sdk, "agent-runtime.js"),
    sessions: join(sdk, "agent-sessions.js"),
    hasNoAddon,
    provider: url,
    number,
  };
  const env = {
    PATH: process.env.PATH,
    HOME: home,
    OPENCLAW_STATE_DIR: join(home, "state"),
    NODE_COMPILE_CACHE: join(dirname(openclaw), ".compiled"),
    ...release.env,
    PROOF: JSON.stringify(proof),
  };
  const stdio = ["ignore", "ignore", process.env.PROOF_LOUD ? 2 : "ignore", "ipc"];
  return new Worker(fork(AGENT, { env, cwd: openclaw, execPath: node, execArgv: [], stdio }));
}

/** Processes of releases, by their number. */
export class Fleet {
  #place;
  #members;
  workers;

  /** @param {readonly { openclaw: string, hasNoAddon?: boolean }[]} members for each process, the release that it runs */
  static async start(place, members) {
    const fleet = new Fleet();
    fleet.#place = place;
    fleet.#members = members;
    fleet.workers = members.map((member, number) => start(place, member, number));
    await Promise.all(fleet.workers.map((worker) => worker.ready()));
    return fleet;
  }

  /** Starts those again that were killed. */
  async revive() {
    const dead = this.workers.flatMap((worker, number) => (worker.isDead ? [number] : []));
    for (const number of dead) this.workers[number] = start(this.#place, this.#members[number], number);
    await Promise.all(dead.map((number) => this.workers[number].ready()));
  }

  async kill() {
    await Promise.all(this.workers.map((worker) => worker.kill()));
  }
}
