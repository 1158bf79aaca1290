// Processes of a release, each with one agent or more.
import { dirname, join } from "node:path";
import { Process } from "../../bench/processes.mjs";

const AGENT = new URL("agent.mjs", import.meta.url).href;

/** One process, which does what it is told: `tell("ask", { agentDir })`. */
class Worker extends Process {
  get isDead() {
    return this.end !== undefined;
  }

  async tell(order, how) {
    try {
      return await this.call(AGENT, order, how);
    } catch ({ message }) {
      if (this.isDead) return { error: "its process was killed", isDead: true };
      return { error: message.slice(0, 300) };
    }
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
    HOME: home,
    OPENCLAW_STATE_DIR: join(home, "state"),
    NODE_COMPILE_CACHE: join(dirname(openclaw), ".compiled"),
    ...release.env,
    PROOF: JSON.stringify(proof),
  };
  return new Worker({ env, cwd: openclaw, node, prints: process.env.PROOF_LOUD ? 2 : "ignore" });
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
    await Promise.all(fleet.workers.map((worker) => worker.call(AGENT, "start")));
    return fleet;
  }

  /** Starts those again that were killed. */
  async revive() {
    const dead = this.workers.flatMap((worker, number) => (worker.isDead ? [number] : []));
    for (const number of dead) this.workers[number] = start(this.#place, this.#members[number], number);
    await Promise.all(dead.map((number) => this.workers[number].call(AGENT, "start")));
  }

  async kill() {
    await Promise.all(this.workers.map((worker) => worker.kill()));
  }
}
