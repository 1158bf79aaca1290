/** When a process stands still: SIGSTOP has been sent long before every thread of it has stopped. */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** Of a thread that runs no more. */
const ENDED = ["Z", "X"];

/** Resolves with `true` once every thread has stopped, with `false` if the process ends instead, or if this system has no /proc. */
export async function hasStopped(pid) {
  for (; ; await sleep(1)) {
    const living = threadStates(pid).filter((state) => !ENDED.includes(state));
    if (living.length === 0) return false;
    if (living.every((state) => state === "T")) return true;
  }
}

/** None if there is no such process. */
function threadStates(pid) {
  const tasks = `/proc/${pid}/task`;
  let threads;
  try {
    threads = readdirSync(tasks);
  } catch {
    return [];
  }
  return threads.map((thread) => {
    try {
      // A thread's name stands in parentheses, and may hold anything.
      return /\) (\S)[^)]*$/.exec(readFileSync(`${tasks}/${thread}/stat`, "utf8"))?.[1];
    } catch {
      // It has ended meanwhile.
      return "X";
    }
  });
}
