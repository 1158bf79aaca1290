/**
 * Who was inside beside whom. Everybody appends a line to one log when it comes in and when it leaves, while it holds the
 * lock: the file system puts the lines in one order, so two overlap in the log exactly if they did in the world.
 *
 * OpenClaw's peers remove sidecars through here too, so that the log says whose lock they really removed.
 *
 * @typedef {object} Line
 * @property {"enter" | "leave" | "removed"} did
 * @property {string} kind "ours", or which of theirs
 * @property {number} pid
 * @property {string | null} [sidecar] with `enter`: its own sidecar, `null` if another's or none was there
 * @property {string} [sidecar] with `removed`: the one that was; "" if nothing was written to it yet
 */
import { openSync, readFileSync, renameSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { parsed } from "../openclaw-lock.mjs";

/** Tells two sidecars apart: no process makes two in one millisecond. */
function identity(text) {
  const { pid, createdAt } = parsed(text) ?? {};
  return pid === undefined ? "" : `${pid} ${createdAt}`;
}

/** A process's part in it. */
export class Witness {
  #file;
  #place;
  #removed = 0;

  /** @param {{ kind: string, lockPath: string, log: string, removed: string }} place `removed` is a directory */
  constructor(place) {
    this.#place = place;
    this.#file = openSync(place.log, "a");
  }

  enter() {
    let sidecar = null;
    try {
      sidecar = identity(readFileSync(`${this.#place.lockPath}.lock`, "utf8"));
    } catch {
      // Somebody has removed it.
    }
    this.#write({ did: "enter", sidecar: sidecar?.startsWith(`${process.pid} `) ? sidecar : null });
  }

  leave() {
    this.#write({ did: "leave" });
  }

  /** Removes a file as `unlink` does, and finds out which one that was. */
  remove(path) {
    const aside = join(this.#place.removed, `${process.pid}-${this.#removed++}`);
    renameSync(path, aside);
    const sidecar = identity(readFileSync(aside, "utf8"));
    rmSync(aside);
    this.#write({ did: "removed", sidecar });
  }

  #write(line) {
    writeSync(this.#file, `${JSON.stringify({ ...line, kind: this.#place.kind, pid: process.pid })}\n`);
  }
}

/**
 * What the log says.
 *
 * An overlap is excused if one of theirs had removed the sidecar of whoever was there first, or of the other before it came
 * in: then nobody could know. No other overlap is, and none of two of ours, who have the kernel's lock besides.
 */
export function judge(lines) {
  const removals = [];
  const inside = new Map();
  const lastLeave = new Map();
  const holds = [];
  const overlaps = [];
  lines.forEach((line, at) => {
    const { did, pid } = line;
    if (did === "removed") removals.push({ ...line, at });
    if (did === "enter") {
      const hold = { ...line, since: lastLeave.get(pid) ?? -1, overlaps: 0 };
      for (const first of inside.values()) {
        overlaps.push({ first, second: hold });
        first.overlaps++;
        hold.overlaps++;
      }
      inside.set(pid, hold);
      holds.push(hold);
    }
    if (did === "leave") {
      inside.delete(pid);
      lastLeave.set(pid, at);
    }
  });

  const ours = ({ kind }) => kind === "ours";
  /** Whether another of theirs removed the sidecar of this hold. */
  const wasRobbed = ({ pid, kind, sidecar, since }) =>
    removals.some((removal) => {
      if (removal.pid === pid) return false;
      if (sidecar !== null) return removal.sidecar === sidecar;
      // Gone when it came in. Only theirs are there before anything is written to them.
      const itsOwn = removal.sidecar.startsWith(`${pid} `) || (removal.sidecar === "" && kind !== "ours");
      return itsOwn && removal.at > since;
    });
  const excused = ({ first, second }) =>
    !(ours(first) && ours(second)) && (wasRobbed(first) || (second.sidecar === null && wasRobbed(second)));
  const told = ({ first, second }) => `${second.kind} ${second.pid} came in beside ${first.kind} ${first.pid}`;
  const count = (one, two) => overlaps.filter(({ first, second }) => one(first) && two(second)).length;
  const theirs = (hold) => !ours(hold);

  return {
    holds: holds.length,
    /** Whoever is still inside. */
    inside: [...inside.keys()],
    overlaps: overlaps.map(told),
    notExcused: overlaps.filter((overlap) => !excused(overlap)).map(told),
    /** Ours that held the lock without a sidecar that nobody took from them. */
    bare: holds.filter((hold) => ours(hold) && hold.sidecar === null && !wasRobbed(hold)).map(({ pid }) => pid),
    rates: {
      overlapped: holds.filter((hold) => hold.overlaps > 0).length,
      robbed: holds.filter(wasRobbed).length,
      oursRobbed: holds.filter((hold) => ours(hold) && wasRobbed(hold)).length,
      theirsBesideTheirs: count(theirs, theirs),
      theirsBesideOurs: count(ours, theirs),
      oursBesideTheirs: count(theirs, ours),
      oursBesideOurs: count(ours, ours),
    },
  };
}
