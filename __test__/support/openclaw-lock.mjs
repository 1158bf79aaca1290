/**
 * OpenClaw's own lock, a file `<base>.lock`: what its three generations write, and a stand-in for the two of them that
 * are not to be had as a package. Written from what they were seen to do, faults included: April's (2026.4.20 to 5.7)
 * takes a file that vanishes while it looks for a stale one, another user's process for a dead one, and on release
 * removes whatever lies there; May's takes a file that says nothing for stale, though it may be about to be written. The
 * third generation is `@openclaw/fs-safe` itself; see fleet/fs-safe.mjs.
 */
import { readFileSync } from "node:fs";
import { open, readFile, rm, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

/** A lock of a refresh, as the host asks for it. */
export const LOCK_OPTIONS = {
  retries: { retries: 20, factor: 2, minTimeout: 100, maxTimeout: 10_000, randomize: true },
  stale: 180_000,
};

/** The same in a world where everything goes so many times as fast. */
export function sped(times, { retries, stale } = LOCK_OPTIONS) {
  const { minTimeout, maxTimeout } = retries;
  return { retries: { ...retries, minTimeout: minTimeout / times, maxTimeout: maxTimeout / times }, stale };
}

/** When a process began, as its sidecar says it: in ticks since boot. `undefined` where that can't be known. */
export function startTime(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return Number(text.slice(text.lastIndexOf(")") + 2).split(" ")[19]);
  } catch {
    return undefined;
  }
}

/** Who holds it, as every generation says it. */
export const owner = (pid, createdAt = new Date()) => ({ pid, createdAt: createdAt.toISOString() });

/** The bytes of a sidecar, by generation. */
export const SIDECARS = {
  April: (fields) => JSON.stringify(fields, null, 2),
  May: (fields) => `${JSON.stringify(fields, null, 2)}\n`,
  "fs-safe": (fields) => {
    const mark = Array.from({ length: 128 }, () => (Math.random() < 0.5 ? "\t" : " ")).join("");
    return `${JSON.stringify(fields, null, 2)}\n${"\t".repeat(8)}${mark}\n`;
  },
};

function isZombie(pid) {
  try {
    return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** Whether no such process runs; `beyondReach` says what one of another user counts as. */
export function isDead(pid, beyondReach = false) {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return error.code === "ESRCH" || beyondReach;
  }
  return isZombie(pid);
}

export function parsed(text) {
  try {
    const fields = JSON.parse(text);
    return fields && typeof fields === "object" ? fields : undefined;
  } catch {
    return undefined;
  }
}

const isOld = (createdAt, stale) => !(Date.now() - Date.parse(createdAt) <= stale);
const read = (path) => readFile(path, "utf8").catch(() => undefined);

async function unchanged(path, text) {
  return text !== undefined && (await read(path)) === text;
}

const GENERATIONS = {
  April: {
    async isStale(path, text, stale) {
      const { pid, createdAt } = parsed(text) ?? {};
      if (typeof pid === "number" && typeof createdAt === "string") {
        if (isDead(pid, true) || isOld(createdAt, stale)) return true;
      }
      return stat(path).then(
        ({ mtimeMs }) => Date.now() - mtimeMs > stale,
        () => true,
      );
    },
    mayReclaim: async () => true,
    mayRelease: async () => true,
  },
  May: {
    async isStale(_, text, stale) {
      if (text === undefined) return false;
      const { pid, createdAt } = parsed(text) ?? {};
      if (pid === undefined && createdAt === undefined) return true;
      return (pid !== undefined && isDead(pid)) || (createdAt !== undefined && isOld(createdAt, stale));
    },
    mayReclaim: unchanged,
    mayRelease: unchanged,
  },
};

function delay({ minTimeout, maxTimeout, factor }, attempt) {
  const longest = Math.min(maxTimeout, minTimeout * factor ** attempt) * (1 + Math.random());
  return Math.min(maxTimeout, longest);
}

/**
 * Takes `<base>.lock` as that generation does, and gives what releases it.
 *
 * @param {() => void} [options.onTaken] somebody else has it: called at each try
 * @param {(path: string) => Promise<void>} [options.remove] how to remove a file
 */
export async function acquire(base, { generation, retries, stale, onTaken, remove = (path) => rm(path) }) {
  const { isStale, mayReclaim, mayRelease } = GENERATIONS[generation];
  const path = `${base}.lock`;
  for (let attempt = 0; attempt <= retries.retries; attempt++) {
    const file = await open(path, "wx").catch((error) => {
      if (error.code !== "EEXIST") throw error;
    });
    if (file) {
      const text = SIDECARS[generation](owner(process.pid));
      await file.writeFile(text);
      return async () => {
        await file.close();
        if (await mayRelease(path, text)) await remove(path).catch(() => {});
      };
    }
    onTaken?.();
    const found = await read(path);
    if (await isStale(path, found, stale)) {
      if (await mayReclaim(path, found)) await remove(path).catch(() => {});
    } else if (attempt < retries.retries) {
      await sleep(delay(retries, attempt));
    }
  }
  throw Object.assign(new Error(`file lock timeout for ${base}`), { code: "file_lock_timeout", lockPath: path });
}
