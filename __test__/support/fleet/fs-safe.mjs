/**
 * The lock of `@openclaw/fs-safe` as OpenClaw asks for it. The package leaves to its user which lock is stale; this is
 * OpenClaw's answer: a dead owner's, by process id and start time; never a live one's.
 */
import fs from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { isDead, owner, startTime } from "../openclaw-lock.mjs";

export const FS_SAFE = { name: "@openclaw/fs-safe", version: "0.21.0", node: 22 };

function isStale({ payload, staleMs }) {
  const { pid, createdAt, starttime } = payload ?? {};
  if (pid) {
    const now = startTime(pid);
    return isDead(pid) || (starttime !== undefined && now !== undefined && now !== starttime);
  }
  return createdAt !== undefined && !(Date.now() - Date.parse(createdAt) <= staleMs);
}

/** Gives what takes `<base>.lock` and then gives what releases it. */
export async function loadFsSafe(packageDir) {
  const resolve = createRequire(join(packageDir, "package.json")).resolve;
  const { acquireFileLock } = await import(pathToFileURL(resolve(`${FS_SAFE.name}/file-lock`)).href);
  const payload = { starttime: startTime(process.pid) };

  return async (base, { retries, stale, onTaken, onReclaim, remove }) => {
    // It has no word for these two: it asks for what to write at each try, and removes files by this function.
    let tries = 0;
    fs.rm = async (path, { force = false } = {}) => {
      try {
        await remove(path);
      } catch (error) {
        if (!force || error.code !== "ENOENT") throw error;
      }
    };
    const lock = await acquireFileLock(base, {
      staleMs: stale,
      retry: retries,
      staleRecovery: "remove-if-unchanged",
      payload() {
        if (tries++ > 0) onTaken();
        return { ...owner(process.pid), ...payload };
      },
      shouldReclaim: isStale,
      async shouldRemoveStaleLock({ payload }) {
        await onReclaim?.();
        return isStale({ payload, staleMs: stale });
      },
    });
    return () => lock.release();
  };
}
