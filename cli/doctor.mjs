/** `doctor`: what is in the way, what that means, and what to do. */
import {
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  statfsSync,
  statSync,
} from "node:fs";
import { basename, join } from "node:path";
import { agentDirectories, keysOf, loginsOf, STORE_FILE } from "./state.mjs";
import { duration, paint, printable, say, sayJson, wrap } from "./terminal.mjs";

/**
 * @typedef {object} Finding
 * @property {"error" | "warning"} level an error keeps logins from being refreshed
 * @property {string} code
 * @property {string} path
 * @property {string} meaning
 * @property {string} advice
 * @property {() => void} [repair] what `--fix` does about it
 * @property {string} [fixed] what it has done
 */

/** An owner that holds its lock for longer is taken over from. */
const STUCK_MS = 180_000;
const CLOCK_SLACK_MS = 300_000;
const YEAR_MS = 366 * 86_400_000;
const LEAST_SPACE_BYTES = 1 << 20;
const OTHERS = 0o077;
const WIDTH = 76;
/** Magic numbers of statfs(2) on Linux. */
const REMOTE = new Map([
  [0x6969, "NFS"],
  [0xff534d42, "SMB"],
  [0xfe534d42, "SMB"],
  [0x01021997, "9p"],
  [0x65735546, "FUSE"],
]);

/** @returns {Promise<boolean>} whether there is no error */
export async function doctor({ stateDir, json, fix }) {
  const findings = await examine(stateDir);
  if (fix) for (const finding of findings) repair(finding);
  const errors = findings.filter(({ level, fixed }) => level === "error" && !fixed);
  if (json)
    sayJson({
      stateDir,
      findings: findings.map(({ repair, ...finding }) => ({ ...finding, canFix: Boolean(repair) })),
    });
  else tell(stateDir, findings);
  return errors.length === 0;
}

/** @param {Finding} finding */
function repair(finding) {
  if (!finding.repair) return;
  try {
    finding.repair();
    finding.fixed = "repaired";
  } catch ({ code }) {
    finding.advice = `It could not be repaired (${code}). ${finding.advice}`;
  }
}

/** @returns {Promise<Finding[]>} */
async function examine(stateDir) {
  if (!existsSync(stateDir)) {
    const meaning = "There is no state directory, so no login.";
    return [
      {
        level: "warning",
        code: "no_state_directory",
        path: stateDir,
        meaning,
        advice: "Log in, or name another one by --state-dir.",
      },
    ];
  }
  const directories = agentDirectories(stateDir);
  const ofLocks = locks(stateDir);
  const hasKeys = ofLocks.every(({ code }) => code !== "lock_unavailable");
  return [
    ...fileSystem(stateDir),
    ...databases(stateDir, directories),
    ...directories.flatMap(store),
    ...ofLocks,
    ...(hasKeys ? await keysOf(stateDir) : []).flatMap(key),
  ];
}

/** @returns {Finding[]} */
function fileSystem(path) {
  const { type, bavail, bsize } = statfsSync(path);
  const findings = [];
  const name = process.platform === "linux" && REMOTE.get(type >>> 0);
  if (name) {
    const meaning = `The state directory is on ${name}. Processes of one host exclude each other; other hosts are excluded as far as its server does.`;
    findings.push({
      level: "warning",
      code: "file_system_not_local",
      path,
      meaning,
      advice: "Keep the state directory on a local disk if you can.",
    });
  }
  if (bavail * bsize < LEAST_SPACE_BYTES) {
    const meaning = "The disk is full. No refresh begins that could not be saved.";
    findings.push({ level: "error", code: "disk_full", path, meaning, advice: "Make room." });
  }
  return findings;
}

/** @returns {Finding[]} */
function databases(stateDir, directories) {
  const files = [
    join(stateDir, "state", "openclaw.sqlite"),
    ...directories.map((directory) => join(directory, "openclaw-agent.sqlite")),
  ];
  return files.filter(existsSync).map((path) => ({
    level: "warning",
    code: "sqlite_store",
    path,
    meaning:
      "This OpenClaw keeps its logins in SQLite. withOAuthRefreshLock refuses, since a JSON store would block them.",
    advice: "Use withOAuthProfileLock with OpenClaw's own lock path.",
  }));
}

/** An agent's directory and store. @returns {Finding[]} */
function store(directory) {
  if (!existsSync(directory)) return [];
  const path = join(directory, STORE_FILE);
  if (!existsSync(path)) return [];
  const findings = [...privacy(directory, 0o700), ...privacy(path, 0o600)];
  const { mtimeMs } = statSync(path);
  if (mtimeMs > Date.now() + CLOCK_SLACK_MS) {
    const meaning = `It was written ${duration(mtimeMs - Date.now())} from now: the clock has been set back, or another host's is ahead.`;
    findings.push({
      level: "warning",
      code: "clock",
      path,
      meaning,
      advice: "Set the clock. Until then expired tokens may be taken for usable ones.",
    });
  }
  try {
    for (const { profileId, expires } of loginsOf(directory)) {
      if (expires !== null && expires > Date.now() + YEAR_MS) {
        const meaning = `The token of ${profileId} claims to expire in ${duration(expires - Date.now())}: seconds or microseconds taken for milliseconds, or a wrong clock.`;
        findings.push({
          level: "warning",
          code: "expiry",
          path,
          meaning,
          advice: "Refresh it by force, or log in again.",
        });
      }
    }
  } catch (error) {
    const meaning = `The store is damaged: ${error.message}. Its agent has no logins.`;
    findings.push({ level: "error", code: "store_invalid", path, meaning, advice: "Repair it, or log in again." });
  }
  return findings;
}

/** Whether a file that holds or guards secrets is ours alone. @returns {Finding[]} */
function privacy(path, mode) {
  if (process.platform === "win32") return [];
  const { uid, mode: found } = statSync(path);
  const me = process.geteuid?.();
  if (uid !== me && me !== 0) {
    const meaning = `It belongs to another user (uid ${uid}), and is refused.`;
    return [
      { level: "error", code: "owner", path, meaning, advice: "Run as that user, or give it to this one (chown)." },
    ];
  }
  if ((found & OTHERS) === 0) return [];
  const meaning = `Other users may look at it (mode ${(found & 0o7777).toString(8)}).`;
  const finding = { level: "warning", code: "mode", path, meaning, advice: `chmod ${mode.toString(8)} it.` };
  // What is not this user's, or lies elsewhere, may be meant to be as it is.
  if (uid !== me || lstatSync(path).isSymbolicLink()) return [finding];
  const advice = `chmod ${mode.toString(8)} it, or use --fix.`;
  return [{ ...finding, advice, repair: () => makePrivate(path, mode, uid) }];
}

/** Changes the mode of what is at `path` itself, and only if it is this user's. */
function makePrivate(path, mode, uid) {
  const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    if (fstatSync(file).uid !== uid) throw Object.assign(new Error("another user's"), { code: "EPERM" });
    fchmodSync(file, mode);
  } finally {
    closeSync(file);
  }
}

/** @returns {Finding[]} */
function locks(stateDir) {
  const directory = join(stateDir, "locks", "oauth-refresh");
  const stat = lstatSync(directory, { throwIfNoEntry: false });
  if (!stat) return [];
  if (!stat.isDirectory()) {
    const what = stat.isSymbolicLink() ? "a symbolic link" : "no directory";
    const meaning = `It is ${what}, and no lock is taken in it.`;
    const advice = "Remove it; the next caller makes a directory.";
    return [{ level: "error", code: "lock_unavailable", path: directory, meaning, advice }];
  }
  const { mode, uid } = stat;
  // One that root has made for a group is shared on purpose.
  if (uid === 0 && (mode & 0o2000) !== 0) return [];
  const files = readdirSync(directory).filter((name) => !name.endsWith(".lock"));
  const paths = files
    .map((name) => join(directory, name))
    .filter((path) => lstatSync(path, { throwIfNoEntry: false })?.isFile());
  return [...privacy(directory, 0o700), ...paths.flatMap((path) => privacy(path, 0o600))];
}

/** @param {import("./state.mjs").Key} key @returns {Finding[]} */
function key({ provider, profileId, lockPath: path, lock }) {
  if (!lock) return [];
  const login = profileId === null ? basename(path) : `${profileId} of ${provider}`;
  const { holder, problem, failures, waitingCredentials, foreign, debris } = lock;
  const outcomes = new Set(failures.map(({ outcome }) => outcome));
  const found = [];
  const add = (level, code, meaning, advice) => found.push({ level, code, path, meaning, advice });
  if (problem)
    add(
      "error",
      problem.code,
      `The journal of ${login} can't be read: ${problem.message}.`,
      "Make it readable; nothing is refreshed until it is.",
    );
  if (outcomes.has("answered_dead"))
    add(
      "error",
      "grant_dead",
      `The provider refuses the refresh token of ${login} for good.`,
      "Log in again; nobody asks until then.",
    );
  if (outcomes.has("uncertain"))
    add(
      "warning",
      "refresh_uncertain",
      `Nobody knows whether the refresh token of ${login} is spent: a call was cut off.`,
      "The next refresh finds out. If that fails, log in again.",
    );
  const pause = Math.max(0, ...failures.map(({ retryAfterMs }) => retryAfterMs ?? 0));
  if (pause > 0)
    add(
      "warning",
      "refresh_backoff",
      `The provider asked everyone to wait with ${login}, for ${duration(pause)} more.`,
      "Wait.",
    );
  if (waitingCredentials > 0)
    add(
      "error",
      "receipt_unsaved",
      `${waitingCredentials} new credential(s) of ${login} wait in the journal for a store that can't be written.`,
      "Make the stores writable; the next refresh brings them there.",
    );
  if (holder && holder.heldMs !== null && holder.heldMs > STUCK_MS)
    add(
      "warning",
      "stuck",
      `Process ${holder.pid} has held the lock of ${login} for ${duration(holder.heldMs)}.`,
      "The next caller takes over. Look what that process is doing.",
    );
  if (foreign) {
    const who = foreign.pid === null ? "an unknown process" : `process ${foreign.pid}`;
    if (foreign.alive)
      add(
        "warning",
        "foreign_lock",
        `OpenClaw's own lock of ${login} is held by ${who}.`,
        "Nothing, if it is refreshing; it is waited for.",
      );
    else
      add(
        "warning",
        "debris",
        `${who[0].toUpperCase()}${who.slice(1)} is gone and left OpenClaw's lock of ${login} behind.`,
        "Nothing: the next caller clears it away.",
      );
  }
  if (debris.length > 0)
    add(
      "warning",
      "debris",
      `A death has left ${debris.map((file) => basename(file)).join(", ")}.`,
      "Nothing: the next caller clears it away.",
    );
  return found;
}

/** @param {Finding[]} findings */
function tell(stateDir, findings) {
  for (const { level, path, meaning, advice, fixed } of findings) {
    const mark = fixed
      ? paint("green", "fixed")
      : level === "error"
        ? paint("red", "error")
        : paint("yellow", "warning");
    say(`${mark} ${printable(path)}`);
    for (const text of fixed ? [meaning] : [meaning, advice])
      for (const line of wrap(printable(text), WIDTH)) say(`  ${line}`);
  }
  const open = findings.filter(({ fixed }) => !fixed).length;
  say(
    open === 0
      ? `${paint("green", "ok")} ${printable(stateDir)}: nothing is in the way.`
      : `${open} finding${open === 1 ? "" : "s"} in ${printable(stateDir)}.`,
  );
}
