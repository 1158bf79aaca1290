/**
 * The locks that are compared, each in the way it is meant to be used: `load` resolves to `hold(path, fn)`, which takes the
 * lock at `path`, runs `fn` and releases.
 */
import { closeSync, openSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

/** Where the peers are installed. */
export const PEERS = fileURLToPath(new URL("../target/bench/peers/", import.meta.url));
const fromPeers = createRequire(new URL("package.json", pathToFileURL(PEERS)));

/** How programs call a sidecar lock: 10 retries, 100 ms to 10 s apart. */
const AS_APPS_DO = { retries: 10, factor: 2, minTimeout: 100, maxTimeout: 10_000, randomize: true };
/** The quickest that a sidecar lock can be asked to poll. */
const BEST = { factor: 1, minTimeout: 1, maxTimeout: 1 };
/** For as long as it takes. */
const MANY = 1_000_000;

/**
 * @typedef {<T>(path: string, fn: () => Promise<T> | T) => Promise<T>} Hold
 *
 * @typedef {object} Contender
 * @property {string} name
 * @property {string} [package] its name on npm, if it is not ours
 * @property {number} [node] the major version of Node that it needs, if that is not the oldest that we support
 * @property {boolean} [betweenProcesses] whether it excludes other processes alone, not callers in its own
 * @property {() => Promise<Hold>} load
 */

/** @param {object} options of proper-lockfile */
const properLockfile = (options) => async () => {
  const { lock } = fromPeers("proper-lockfile");
  return async (path, fn) => {
    const release = await lock(path, { realpath: false, ...options });
    try {
      return await fn();
    } finally {
      await release();
    }
  };
};

/** @param {object} retry of fs-safe */
const fsSafe = (retry) => async () => {
  const { withFileLock } = await import(pathToFileURL(fromPeers.resolve("@openclaw/fs-safe/file-lock")).href);
  const payload = () => ({ pid: process.pid, createdAt: new Date().toISOString() });
  const isDead = ({ payload }) => {
    try {
      return process.kill(payload?.pid, 0) !== true;
    } catch {
      return true;
    }
  };
  const recovery = { shouldReclaim: isDead, staleRecovery: "remove-if-unchanged", shouldRemoveStaleLock: () => true };
  const options = { staleMs: 30_000, payload, retry, ...recovery };
  return (path, fn) => withFileLock(path, { ...options, managerKey: "bench" }, async () => fn());
};

/** @param {{ retryNumber: number, retryDelay: number }} [options] of msal's lock */
const msal = (options) => async () => {
  // The package's entry wants a keychain; its lock alone does not.
  const entry = "@azure/msal-node-extensions/package.json";
  const file = new URL("dist/lock/CrossPlatformLock.mjs", pathToFileURL(fromPeers.resolve(entry)));
  const { CrossPlatformLock } = await import(file.href);
  const logger = { info() {}, warning() {}, error() {} };
  return async (path, fn) => {
    const lock = new CrossPlatformLock(`${path}.lockfile`, logger, options);
    await lock.lock();
    try {
      return await fn();
    } finally {
      await lock.unlock();
    }
  };
};

/** A lock on a file that is opened for each hold; closing it releases. */
const onFile = (take) => async (path, fn) => {
  const fd = openSync(path, "a");
  try {
    await take(fd);
    return await fn();
  } finally {
    closeSync(fd);
  }
};

const flockOf =
  ({ flock }) =>
  (fd, how) =>
    new Promise((resolve, reject) => flock(fd, how, (error) => (error ? reject(error) : resolve())));

export const CONTENDERS = [
  {
    name: "ours",
    load: async () => {
      const { withOAuthProfileLock } = await import("../index.mjs");
      return (path, fn) => withOAuthProfileLock("bench", "bench", fn, { lockPath: path });
    },
  },
  {
    name: "fs-ext",
    package: "fs-ext",
    load: async () => {
      const flock = flockOf(fromPeers("fs-ext"));
      return onFile((fd) => flock(fd, "ex"));
    },
  },
  {
    name: "fs-ext, file kept open",
    package: "fs-ext",
    betweenProcesses: true,
    load: async () => {
      const fsExt = fromPeers("fs-ext");
      const flock = flockOf(fsExt);
      const files = new Map();
      return async (path, fn) => {
        if (!files.has(path)) files.set(path, openSync(path, "a"));
        const fd = files.get(path);
        await flock(fd, "ex");
        try {
          return await fn();
        } finally {
          fsExt.flockSync(fd, "un");
        }
      };
    },
  },
  {
    name: "fs-native-extensions",
    package: "fs-native-extensions",
    load: async () => {
      const { waitForLock } = fromPeers("fs-native-extensions");
      return onFile((fd) => waitForLock(fd));
    },
  },
  {
    name: "proper-lockfile, as apps call it",
    package: "proper-lockfile",
    load: properLockfile({ retries: AS_APPS_DO, stale: 30_000 }),
  },
  {
    name: "proper-lockfile, best options",
    package: "proper-lockfile",
    // It draws up a list of all its retries, for each lock that it takes.
    load: properLockfile({ retries: { ...BEST, retries: 1, forever: true }, stale: 2_000 }),
  },
  { name: "fs-safe", package: "@openclaw/fs-safe", node: 24, load: fsSafe(AS_APPS_DO) },
  { name: "fs-safe, best options", package: "@openclaw/fs-safe", node: 24, load: fsSafe({ ...BEST, retries: MANY }) },
  { name: "msal-node-extensions", package: "@azure/msal-node-extensions", load: msal() },
  {
    name: "msal-node-extensions, best options",
    package: "@azure/msal-node-extensions",
    load: msal({ retryNumber: MANY, retryDelay: 1 }),
  },
];

const loaded = new Map();

/** The lock of this name, loaded once in this process. */
export function holdOf(name) {
  const contender = CONTENDERS.find((one) => one.name === name);
  if (!contender) throw new Error(`no contender is called ${name}`);
  const hold = loaded.get(name) ?? contender.load();
  loaded.set(name, hold);
  return hold;
}

/** What holds the locks that are kept: what nobody refers to is collected. */
const kept = new Set();

/** Takes a lock and never releases it. */
export const keep = (hold, path) =>
  new Promise((resolve, reject) => {
    const forever = () =>
      new Promise((release) => {
        kept.add(release);
        resolve();
      });
    hold(path, forever).catch(reject);
  });
