/** Owners that are alive and stuck, the many that wait for them, and the clock that tells for how long. */
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLane } from "./aftermath.mjs";
import { AGENTS } from "./host.mjs";
import { AgentProcess } from "./processes.mjs";
import { world } from "./world.mjs";

/** From this age on, in milliseconds, an owner is taken for stuck. */
export const STUCK_MS = 180_000;
/** How many wait. */
export const CROWD = 20;
/** For waiters that would wait for ever. */
const FORGOTTEN_MS = 30_000;
/** How fast the boot's clock runs: nobody sleeps for long, and nobody seems stuck who is only slow. */
const SCALE = 20;

/** The boot's clock as the processes that share it see it. It can be put forward. */
class Clock {
  #dir = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-clock-"));
  #file = join(this.#dir, "ahead");
  #aheadMs = 0;

  constructor() {
    writeFileSync(this.#file, "");
    this.env = { OAUTH_REFRESH_LOCK_CLOCK_SCALE: String(SCALE), OAUTH_REFRESH_LOCK_CLOCK_AHEAD: this.#file };
  }

  advance(ms) {
    this.#aheadMs += ms;
    truncateSync(this.#file, this.#aheadMs);
  }

  remove() {
    rmSync(this.#dir, { recursive: true });
  }
}

/** Makes hosts as other lanes do; with a clock of its own, and a crowd of agents that live as long as the lane. */
export async function createStuckLane() {
  const clock = new Clock();
  const start = (options) => new AgentProcess({ package: world.module, clock, ...options });
  const crowd = Array.from({ length: CROWD }, () => start());
  const owners = new Set();

  return {
    ...(await createLane()),
    clock,

    /** A process that may get stuck. */
    startOwner(options) {
      const owner = start(options);
      owners.add(owner);
      void owner.ended.then(() => owners.delete(owner));
      return owner;
    },

    /** Has each of the crowd call, as one of the host's agents. */
    ask(host, options, more) {
      const lockPath = world.lockPath(host);
      const asked = crowd.map((agent, index) => {
        const from = agent.tells.length;
        const name = AGENTS[index % AGENTS.length];
        return { agent, from, id: agent.ask(world.ask(host, name, { timeoutMs: FORGOTTEN_MS, ...options }, more)) };
      });
      const told = ({ agent, from }) => agent.tells.slice(from);
      const answer = ({ agent, id }) => agent.first("settled", id);
      const waits = (one) => told(one).some((tell) => tell.told === "waiting" && tell.event.lockPath === lockPath);
      return {
        /** Resolves once each has its answer, or waits for the key. Returns how many have their answer. */
        async settledOrWaiting() {
          await Promise.all(asked.map((one) => one.agent.until(() => answer(one) || waits(one))));
          return asked.filter(answer).length;
        },
        answers: () => Promise.all(asked.map(({ agent, id }) => agent.heard("settled", id))),
        /** How often they have told this. */
        count: (what) => asked.flatMap(told).filter((tell) => tell.told === what).length,
      };
    },

    /** One more call, by one of the crowd. */
    call: (host, name, options) => crowd[0].call(world.ask(host, name, { timeoutMs: FORGOTTEN_MS, ...options })),

    async close() {
      await Promise.all([...owners, ...crowd].map((agent) => agent.kill()));
      clock.remove();
    },
  };
}

/** Who signed this lock file last; `undefined` if nobody has. */
export function holderOf(lockFile) {
  try {
    return JSON.parse(readFileSync(lockFile, "utf8"));
  } catch {
    return undefined;
  }
}
