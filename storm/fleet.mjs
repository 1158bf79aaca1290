/**
 * The agents' processes: starts them, holds them at a barrier, lets them go at once, and leaves none behind.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { now } from "./witness.mjs";

const AGENT = fileURLToPath(new URL("agent.mjs", import.meta.url));

/**
 * @typedef {import("./agent.mjs").Settled & { name: string, pid: number, events: { type: string, at: number }[] }} AgentRecord
 */

/** How a process ended. @param {import("node:child_process").ChildProcess} child */
const ending = ({ exitCode, signalCode }) => signalCode ?? `exit ${exitCode}`;

/**
 * Starts one process for each crew.
 *
 * @param {object} options
 * @param {{ name: string, agentDir: string }[][]} options.crews the agents of each process
 * @param {Omit<import("./agent.mjs").Setup, "agents">} options.setup
 * @param {AbortSignal} [options.signal] ends both waits
 * @param {() => void} [options.onChange] something was reported
 */
export function launchFleet({ crews, setup, signal, onChange = () => {} }) {
  /** @type {Map<string, AgentRecord["events"]>} */
  const events = new Map(crews.flat().map(({ name }) => [name, []]));
  /** @type {Map<string, AgentRecord>} */
  const settled = new Map();
  let readyCount = 0;
  /** @type {Error | undefined} */
  let unready;

  /** Waits that end when their condition holds. @type {Set<() => void>} */
  const waits = new Set();
  const changed = () => {
    onChange();
    for (const check of waits) check();
  };

  /** @param {() => boolean} condition @returns {Promise<void>} */
  const until = (condition) =>
    new Promise((resolve, reject) => {
      const finish = (/** @type {() => void} */ how) => {
        waits.delete(check);
        signal?.removeEventListener("abort", check);
        how();
      };
      const check = () => {
        if (signal?.aborted) finish(() => reject(signal.reason));
        else if (unready) finish(() => reject(unready));
        else if (condition()) finish(resolve);
      };
      waits.add(check);
      signal?.addEventListener("abort", check);
      check();
    });

  /** @param {{ name: string, agentDir: string }[]} crew */
  function launch(crew) {
    const child = fork(AGENT, {
      // Options of the parent's Node, a debugger's port for one, are not for the children.
      execArgv: [],
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      // Ctrl-C is for the parent, which then ends the children; otherwise their deaths could reach it first.
      detached: process.platform !== "win32",
    });
    const pid = child.pid ?? 0;
    let ready = false;

    child.on("message", (message) => {
      const report = /** @type {import("./agent.mjs").Report} */ (message);
      if (report.type === "ready") {
        ready = true;
        readyCount += 1;
      } else if (report.type === "unready") {
        unready ??= Object.assign(new Error(report.message), { code: report.code });
      } else if (report.type === "event") {
        events.get(report.agent)?.push({ type: report.event, at: report.at });
      } else {
        const { type: _, agent: name, ...rest } = report;
        settled.set(name, { name, pid, ...rest, events: events.get(name) ?? [] });
      }
      changed();
    });
    child.on("error", (error) => {
      // Other errors are messages to a child that has just died; its end is what counts.
      if (child.pid === undefined) unready ??= error;
      changed();
    });
    // Reports may still come in after the exit, up to the end of the channel.
    let partings = 0;
    const parted = () => {
      partings += 1;
      if (partings === 2) ended();
    };
    child.once("exit", parted);
    child.once("disconnect", parted);

    function ended() {
      const how = ending(child);
      if (!ready) unready ??= Object.assign(new Error(`an agent's process ended: ${how}`), { code: how });
      for (const { name } of crew) {
        if (settled.has(name)) continue;
        const own = events.get(name) ?? [];
        const end = now();
        const start = own[0]?.at ?? end;
        settled.set(name, { name, pid, outcome: "failed", start, end, code: how, events: own });
      }
      changed();
    }
    child.send?.({ ...setup, agents: crew }, () => {});
    return child;
  }

  const children = crews.map(launch);
  const running = () => children.filter((child) => child.exitCode === null && child.signalCode === null && child.pid);

  return {
    /** How far they are. */
    progress: () => ({ ready: readyCount, processes: crews.length, settled: settled.size }),

    /** Ends when all stand at the barrier; fails when one cannot get there. */
    ready: () => until(() => readyCount === crews.length),

    /** Lets all go. */
    go() {
      for (const child of children) child.send?.("go", () => {});
    },

    /** Ends when each agent has its answer. @returns {Promise<AgentRecord[]>} in the order of the crews */
    async settled() {
      await until(() => settled.size === events.size);
      return [...events.keys()].map((name) => /** @type {AgentRecord} */ (settled.get(name)));
    },

    /**
     * Lets every process end by itself.
     *
     * @returns {Promise<string[]>} how those ended that did not end well
     */
    async dismiss() {
      for (const child of children) if (child.connected) child.disconnect();
      await until(() => running().length === 0);
      return children.map(ending).filter((how) => how !== "exit 0");
    },

    /** Kills every process that is left and waits until it is gone. */
    async stop() {
      const gone = Promise.all(running().map((child) => once(child, "exit")));
      this.killNow();
      await gone;
    },

    /** The same without waiting, for a process that is about to exit itself. */
    killNow() {
      for (const child of running()) child.kill("SIGKILL");
    },
  };
}
