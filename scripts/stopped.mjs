/** When a process stands still: SIGSTOP has been sent long before every thread of it has stopped. */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** Resolves with `true` once every thread has stopped, with `false` if the process ends instead, or if this system has no /proc. */
export async function hasStopped(pid) {
  for (; ; await sleep(1)) {
    const states = threadStates(pid);
    if (states === undefined || states.some((state) => state === "Z" || state === "X")) return false;
    if (states.every((state) => state === "T")) return true;
  }
}

/** `undefined` if there is no such process. */
function threadStates(pid) {
  const tasks = `/proc/${pid}/task`;
  let threads;
  try {
    threads = readdirSync(tasks);
  } catch {
    return undefined;
  }
  return threads.map((thread) => {
    try {
      // A thread's name stands in parentheses, and may hold anything.
      return /\) (\S)[^)]*$/.exec(readFileSync(`${tasks}/${thread}/stat`, "utf8"))?.[1];
    } catch {
      return "ended";
    }
  });
}
