/** What `doctor` finds in what was seen of a state directory: what is in the way, what that means, and what to do. */
import { statfsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import inspect from "../lib/inspect.js";
import { bare, error, info, warning } from "./finding.mjs";
import { coordinatorFindings } from "./hosts.mjs";
import { isHosted, keyFindings } from "./keys.mjs";
import { distinct, EARLIEST_MS, keysOf, mistaken } from "./state.mjs";
import { duration } from "./terminal.mjs";

const CLOCK_SLACK_MS = 300_000;
const YEAR_MS = 366 * 86_400_000;
const LEAST_SPACE_BYTES = 1 << 20;

/** @param {Awaited<ReturnType<typeof inspect.survey>>} seen @returns {import("./finding.mjs").Finding[]} */
export function findings(seen) {
  const { stateDir, exists, stores } = seen;
  const parts = [
    [stateDir, () => (exists ? fileSystem(seen) : [nothing(stateDir)])],
    ...disks(seen).map((path) => [path, () => space(path)]),
    [stateDir, () => distinct([...seen.refused, ...seen.unlisted]).map(refused)],
    [stateDir, () => seen.passed.map(passed)],
    [stateDir, () => databases(seen)],
    [stateDir, () => clock(seen.written)],
    ...stores.map((store) => [store.path, () => storeFindings(store)]),
    [stateDir, () => seen.exposed.map((file) => exposed(stateDir, file))],
    [stateDir, () => coordinatorFindings(seen)],
    ...keysOf(seen).map((key) => [key.lockPath, () => keyFindings(key)]),
  ];
  return parts.flatMap(([path, part]) => examined(path, part));
}

/** A part that can't be examined is a finding, and the others are still examined. */
function examined(path, part) {
  try {
    return part();
  } catch ({ code, message }) {
    return [error("unexamined", path, `It could not be examined (${code ?? message}).`, "See what is at that path.")];
  }
}

const nothing = (stateDir) =>
  warning(
    "no_state_directory",
    stateDir,
    "There is no state directory, so no process has refreshed with it.",
    "Log in, or name another one with --state-dir.",
  );

function fileSystem({ stateDir, fileSystem }) {
  if (!fileSystem || fileSystem.isLocal) return [];
  const name = fileSystem.name === "unknown" ? "a file system that is not known here" : fileSystem.name;
  const meaning = `The state directory is on ${name}. Its locks exclude processes of this host, and those of other hosts only as far as its server does.`;
  return [warning("file_system_not_local", stateDir, meaning, "Keep the state directory on a local disk if you can.")];
}

/** A directory on each disk that something is to be saved on. */
function disks({ stateDir, exists, stores }) {
  const directories = stores.filter(({ logins }) => logins.length > 0).map(({ path }) => dirname(path));
  const all = exists ? [stateDir, ...directories] : directories;
  const devices = all.map((path) => statSync(path, { throwIfNoEntry: false })?.dev);
  return all.filter((_, index) => devices.indexOf(devices[index]) === index);
}

function space(path) {
  const { bavail, bsize, files, ffree } = statfsSync(path);
  const full = (what) => [
    error("disk_full", path, `${what} No refresh begins, as it could not be saved.`, "Make room."),
  ];
  if (bavail * bsize < LEAST_SPACE_BYTES) return full("The disk is full.");
  // Where inodes are not counted, there seem to be none at all.
  return files > 0 && ffree === 0 ? full("The disk has no room for another file (`df -i`).") : [];
}

/** A directory that everyone may write to, and the rule by which it is used all the same. */
function passed({ path, rule }) {
  const [why, advice] = {
    trusted: [
      "OAUTH_REFRESH_LOCK_TRUSTED_VOLUME names it, or a directory above it",
      "Nothing, if no other user can reach it from another container or from the host.",
    ],
    alone: [
      "it is root's, and `/proc` shows no process but this user's and root's",
      "Nothing, if no other user can reach it from another container or from the host. Once `/proc` shows another user's process, it is refused, unless OAUTH_REFRESH_LOCK_TRUSTED_VOLUME names it.",
    ],
  }[rule];
  return info(
    "open_directory",
    path,
    `Everyone may write to this directory. It is used all the same, because ${why}.`,
    advice,
  );
}

/** A verdict of the library's, which names what is wrong and mostly what to do. */
function refused({ code, message, path }) {
  const [advice, meaning] =
    code === "lock_unavailable"
      ? ["Correct that: until then every refresh is refused.", "No lock can be taken"]
      : ["Correct that: until then nothing in it is used.", "It is refused"];
  return error(code, path, `${meaning}: ${bare(message, path)}.`, advice);
}

function databases({ stores, keys }) {
  // Then it has been given what it needs.
  const hasHosts = keys.some((key) => key.stores.some(isHosted));
  const paths = hasHosts ? [] : [...new Set(stores.flatMap(({ databases }) => databases))].sort();
  return paths.map((path) =>
    warning(
      "sqlite_store",
      path,
      "This OpenClaw keeps its logins in SQLite. Without the host's stores (`store`) withOAuthRefreshLock refuses, since a JSON store would block these logins.",
      "Give it the host's stores, or use withOAuthProfileLock with OpenClaw's own lock path.",
    ),
  );
}

/** An agent's store. */
function storeFindings({ path, logins, malformed, unreadable, unwritable, debris, isDangling, names }) {
  const found = [];
  if (unreadable) {
    const { code, message } = unreadable;
    const advice = "Correct that: until then its agent has no logins.";
    found.push(error(code, path, `Its agent can't use it: ${bare(message, path)}.`, advice));
  }
  if (isDangling) found.push(dangling(path));
  if (names > 1 && logins.length > 0) found.push(linked(path, names));
  for (const profile of malformed)
    found.push(
      error("store_invalid", path, `${mistaken(profile)}.`, "Calls for it are refused. Correct it, or log in again."),
    );
  if (unwritable && logins.length > 0) {
    const meaning = `Nothing can be saved there: ${bare(unwritable.message, path)}.`;
    found.push(error("store_unwritable", path, meaning, "Correct that: until then its logins are not refreshed."));
  }
  for (const { profileId, provider, expires, hasRefreshToken, spent } of logins) {
    const login = `${profileId} of ${provider}`;
    if (!hasRefreshToken) found.push(noRefreshToken(path, login));
    if (spent) found.push(spentGeneration(path, login, spent));
    found.push(...expiry(path, login, expires));
  }
  for (const left of debris)
    found.push(
      warning(
        "debris",
        left,
        "A dead process left it beside a store.",
        "Nothing: the next write of that store removes it.",
      ),
    );
  return found;
}

const dangling = (path) =>
  warning(
    "dangling_link",
    path,
    "It is a symbolic link to a file that does not exist, so its agent has no logins: calls give `null`.",
    "If it names a place on another disk, see whether that is mounted. Otherwise log in, or remove the link.",
  );

const linked = (path, names) =>
  info(
    "hard_link",
    path,
    `The file has ${names} names (hard links). A refresh replaces the file under this name alone; under the others the old tokens stay.`,
    "Nothing, if the others are backups. To share a store, use a symbolic link.",
  );

const noRefreshToken = (path, login) =>
  warning(
    "no_refresh_token",
    path,
    `${login} has no refresh token (\`refresh\`), so it can't be refreshed.`,
    "Log in again, and store the refresh token that the provider gives. Some give one only if asked for offline access.",
  );

function spentGeneration(path, login, spent) {
  const meaning = `The refresh token of ${login} was used before: a backup was restored, or the same login stored again.`;
  if (spent === "replaced")
    return warning("spent_generation", path, meaning, "Nothing: the next call stores its successor.");
  const lost = `${meaning} Its successor is in no store and no journal.`;
  return error("spent_generation", path, lost, "Log in again: it is never sent twice, so refreshing fails.");
}

function expiry(path, login, expires) {
  const advice =
    "Nothing for now: the next call refreshes it, and stores a correct one. Let the login store milliseconds since 1970.";
  if (expires === null)
    return [warning("expiry", path, `The expiry of ${login} is not a number: it counts as expired.`, advice)];
  // The library writes 0 for a token that must not be used.
  if (expires !== 0 && expires < EARLIEST_MS)
    return [
      warning(
        "expiry",
        path,
        `The expiry of ${login} is in seconds, not in milliseconds: it counts as expired.`,
        advice,
      ),
    ];
  const left = expires - Date.now();
  if (left <= YEAR_MS) return [];
  const meaning = `The token of ${login} claims to expire in ${duration(left)}: seconds or microseconds taken for milliseconds, or a wrong clock.`;
  return [warning("expiry", path, meaning, "Refresh it by force (`forceRefresh`), or log in again.")];
}

/** Files from the future; of a directory, the one that is farthest. */
function clock(written) {
  const late = written.filter(({ at }) => at > Date.now() + CLOCK_SLACK_MS).sort((one, other) => other.at - one.at);
  const firsts = late.filter(
    ({ path }, index) => late.findIndex((other) => dirname(other.path) === dirname(path)) === index,
  );
  return firsts.map(({ path, at }) => {
    const meaning = `It is dated ${duration(at - Date.now())} from now: the clock was set back, or another host's is ahead.`;
    return warning("clock", path, meaning, "Set the clock. Until then expired tokens may be taken for usable ones.");
  });
}

/** What holds or guards secrets and is not ours alone. */
function exposed(stateDir, { path, mode, wanted, canFix }) {
  const [is, should] = [mode, wanted].map((bits) => bits.toString(8));
  const meaning = `Other users have access to it (mode ${is}).`;
  // What lies elsewhere, or is reached by a link, may be meant to be as it is.
  if (!canFix) return warning("mode", path, meaning, `chmod ${should} it.`);
  const repair = () => inspect.makePrivate(stateDir, path);
  return { ...warning("mode", path, meaning, `chmod ${should} it, or use --fix.`), repair };
}
