/**
 * A lock as `proper-lockfile` makes it, which Claude Code takes around its credentials: a directory beside the file, whose time is
 * renewed while it is held, and which is anyone's once it is stale.
 */
import { mkdir, rm, stat, utimes } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";

const STALE_MS = 10_000;
const RENEWAL_MS = 2_000;
const POLL_MS = 5;

/** Takes the lock of a file. Resolves to what lets it go. */
export async function lockDirectory(file, { signal } = {}) {
  const directory = `${file}.lock`;
  for (;;) {
    try {
      await mkdir(directory);
      break;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    const age = await stat(directory).then(
      ({ mtimeMs }) => Date.now() - mtimeMs,
      () => 0,
    );
    if (age > STALE_MS) await rm(directory, { recursive: true, force: true });
    else await delay(POLL_MS, undefined, { signal });
  }
  const renewal = setInterval(() => void utimes(directory, new Date(), new Date()).catch(() => {}), RENEWAL_MS);
  return async () => {
    clearInterval(renewal);
    await rm(directory, { recursive: true, force: true });
  };
}
