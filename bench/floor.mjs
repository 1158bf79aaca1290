/** The floor: the same system calls from a small Rust program (floor.rs). */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Builds the program. @returns {string} its path */
export function buildFloor() {
  const args = ["build", "--release", "--locked", "--example", "floor", "--no-default-features"];
  const { status, error, stdout } = spawnSync("cargo", [...args, "--message-format=json-render-diagnostics"], {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  if (error || status !== 0) throw new Error(`the floor was not built: ${error?.message ?? status}`);
  const messages = stdout.split("\n").filter((line) => line.startsWith("{"));
  return messages.map((line) => JSON.parse(line)).findLast(({ executable }) => executable).executable;
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
