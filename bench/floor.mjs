/** The floor: the same system calls from a small Rust program (floor.rs). */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { built } from "../scripts/cargo.mjs";

/** Builds the program. @returns {string} its path */
export function buildFloor() {
  const made = built("build", "--release", "--locked", "--example", "floor", "--no-default-features");
  return made.findLast(({ executable }) => executable).executable;
}

export class Floor {
  constructor(program) {
    this.program = program;
  }

  /** Runs it to its end. @returns {Promise<any>} what it says */
  async run(...args) {
    const { lines, child } = this.start(...args);
    const line = await lines.next();
    if (line.done) throw new Error("the floor's program said nothing");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    return JSON.parse(line.value);
  }

  /** Starts it; `lines` are what it says. */
  start(...args) {
    const child = spawn(this.program, args, { stdio: ["ignore", "pipe", "inherit"] });
    return { child, lines: createInterface({ input: child.stdout })[Symbol.asyncIterator]() };
  }
}
