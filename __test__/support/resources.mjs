/** What a process has of its system: threads and descriptors. Linux alone lets them be counted from outside. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";

export const COUNTED = process.platform === "linux";
/** Why a test ends as skipped elsewhere, once all else in it has held. */
export const NOT_COUNTED = "threads and descriptors are counted on Linux alone";

/** The asynchronous runtime's own threads: at most so many, for all keys. Those that idle end by themselves. */
const RUNTIME = /^tokio-/;
// Sixteen that read and decide, one for each call that is being settled (of 16 keys), and one of each runtime.
const MAX_RUNTIME_THREADS = 17 + 1 + 16;
/** Whatever is on its way out is gone by then. */
const LEAVING = { timeout: 30_000, interval: 20 };

/** What lies in a directory of /proc, by name. Its entries come and go while one looks. */
function entries(directory, read) {
  const found = new Map();
  for (const name of readdirSync(directory)) {
    try {
      found.set(name, read(join(directory, name)));
    } catch (error) {
      if (!["ENOENT", "ESRCH"].includes(error.code)) throw error;
    }
  }
  return found;
}

/** A process's threads: their names, by id. */
const threadsOf = (pid) => entries(`/proc/${pid}/task`, (path) => readFileSync(join(path, "comm"), "utf8").trim());

/** What a process's descriptors are open on, by number. */
const descriptorsOf = (pid) => entries(`/proc/${pid}/fd`, (path) => readlinkSync(path));

/** The files of this directory that a process has open. */
export const openIn = (root, pid) => [...descriptorsOf(pid).values()].filter((path) => path.startsWith(root));

/** Notes what a process has. What is returned expects it to have, before long, at most so much more. */
export function takeStock(pid) {
  if (!COUNTED) return async () => {};
  const threads = threadsOf(pid);
  const descriptors = descriptorsOf(pid);
  const added = (before, now) => [...now].filter(([key]) => !before.has(key)).map(([, what]) => what);
  const isRuntimes = (name) => RUNTIME.test(name);
  const atMost = (count) => [(found) => found.length <= count, `at most ${count} more`];

  return async (more) => {
    const newThreads = () => added(threads, threadsOf(pid)).filter((name) => !isRuntimes(name));
    await expect.poll(newThreads, LEAVING).toSatisfy(...atMost(more.threads));
    const newDescriptors = () => added(descriptors, descriptorsOf(pid));
    await expect.poll(newDescriptors, LEAVING).toSatisfy(...atMost(more.descriptors));
    const runtimes = () => [...threadsOf(pid).values()].filter(isRuntimes).length;
    await expect.poll(runtimes, LEAVING).toBeLessThanOrEqual(MAX_RUNTIME_THREADS);
  };
}
