/**
 * Programs of this directory in processes of their own. Each is started with what it is to do, and tells what happens. Unlike agents
 * (child.mjs) they block on their standard input, or are there to show what keeps a process from ending.
 */
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { EventLog } from "./events.mjs";

/** Runs `<name>.mjs` until the test is over. It finds `work` as JSON in its first argument. */
export function startProgram(name, work, { env = {}, stderr = "inherit" } = {}) {
  const child = fork(fileURLToPath(new URL(`${name}.mjs`, import.meta.url)), [JSON.stringify(work)], {
    env: { PATH: process.env.PATH, ...env },
    execArgv: [],
    stdio: ["pipe", "pipe", stderr, "ipc"],
  });
  const log = new EventLog();
  child.on("message", log.add);
  // One that has ended reads no more.
  for (const side of [child, child.stdin]) side.on("error", () => {});
  child.stdout.resume();
  const exited = new Promise((resolve) => child.once("exit", (code, signal) => resolve({ code, signal })));
  const disconnected = new Promise((resolve) => child.once("disconnect", resolve));
  const outputClosed = new Promise((resolve) => child.stdout.once("close", resolve));
  // What it told last may be read after its exit is known.
  const ended = Promise.all([exited, disconnected]).then(([{ code, signal }]) => {
    throw new Error(`the process of ${name} has ended: ${signal ?? code}`);
  });
  // Whoever awaits what it tells hears of the end; nobody has to.
  ended.catch(() => {});
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await exited;
  });
  return {
    pid: child.pid,
    /** What it has told, by `type`. */
    log,
    /** Resolves once it has told `count` things like this. */
    told: (like, count) => Promise.race([log.seen(like, count), ended]),
    say: (word, more) => void child.send({ word, ...more }),
    /** Lets it go on where it waits for its standard input, with its event loop. */
    unblock: () => void child.stdin.write("\n"),
    kill: (signal) => void child.kill(signal),
    /** Resolves once it has nothing more to tell. */
    disconnected,
    /** How it ended. */
    exited,
    /** Resolves once nobody has its standard output open: neither it nor any child of it. */
    outputClosed,
  };
}
