/** What a state directory holds: the keys that its agents' stores name, and those that only have a lock. */
import { dirname, resolve } from "node:path";
import { resolveOAuthRefreshLockPath } from "../index.mjs";
import inspect from "../lib/inspect.js";
import { coordinatorOf } from "./coordinator.mjs";
import { relative } from "./terminal.mjs";

export const STORE_FILE = "auth-profiles.json";
/** 1973: an expiry before that is in seconds, or says that the token must not be used. */
export const EARLIEST_MS = 1e11;

/** What is wrong with a login that is written wrongly. */
export const mistaken = ({ profileId, why }) => `The profile ${profileId} ${why}`;

/** The state directory that the library uses, unless another one is given. */
export function stateDirectory(given) {
  if (given) return resolve(given);
  // <state>/locks/oauth-refresh/<name>
  return dirname(dirname(dirname(resolveOAuthRefreshLockPath("any", "any"))));
}

/** All that can be seen of it; see `src/inspect.rs`. */
export const survey = (stateDir, options = {}) => inspect.survey(stateDir, coordinatorOf(options));

/**
 * @typedef {object} Key
 * @property {string | null} provider null: no store that can be looked into names it
 * @property {string | null} profileId null: neither does its journal
 * @property {string} lockPath
 * @property {number} agents whose stores hold the login
 * @property {string[]} hosts stores of hosts' own that its journal names, as `host:<name>`
 * @property {number | null} expires the latest of theirs, in milliseconds since the epoch
 * @property {number | null} nextRefresh from when on a call refreshes it
 * @property {string} lastRefresh what became of the last one: see `LastRefresh` in `src/inspect/key.rs`
 * @property {import("../index.mjs").OAuthRefreshLockReport | null} lock
 * @property {import("../index.mjs").OAuthRefreshRow[]} rows what the coordinator says, if there is one
 */

/** Every key that was seen. @returns {Key[]} */
export function keysOf({ stores, keys: locks, rows = {} }) {
  /** @type {Map<string, Key>} by what provider and profile id hash to */
  const named = new Map();
  for (const { key, provider, profileId, lockPath, expires, refreshAt, row } of stores.flatMap(
    ({ logins }) => logins,
  )) {
    const nobody = {
      agents: 0,
      hosts: [],
      expires: null,
      nextRefresh: null,
      lastRefresh: "none",
      lock: null,
      rows: [],
    };
    const known = named.get(key) ?? { provider, profileId, lockPath, ...nobody };
    known.agents += 1;
    known.expires = latest(known.expires, expires);
    known.nextRefresh = latest(known.nextRefresh, refreshAt);
    if (rows[row] && !known.rows.includes(rows[row])) known.rows.push(rows[row]);
    named.set(key, known);
  }
  const found = [...named].map(([key, login]) => {
    const ours = locks.filter((lock) => lock.key === key);
    return ours.length > 0 ? ours.map((lock) => locked(login, lock)) : [login];
  });
  const unknown = { provider: null, profileId: null, agents: 0, expires: null, nextRefresh: null, rows: [] };
  const others = locks
    .filter(({ key }) => !named.has(key))
    .map((lock) => locked({ ...unknown, profileId: lock.profileId }, lock));
  return [...found.flat(), ...others];
}

const latest = (one, other) => (one === null || other === null ? (one ?? other) : Math.max(one, other));

const locked = (login, { stores, lock, lastRefresh }) => ({
  ...login,
  lastRefresh,
  lockPath: lock.lockPath,
  hosts: stores.filter((store) => store.startsWith("host:")),
  lock,
});

/** Each problem once: two examinations may come upon the same. @template {{ code: string, path: string | null }} T @param {T[]} problems */
export function distinct(problems) {
  const known = new Map(problems.toReversed().map((problem) => [`${problem.code} ${problem.path}`, problem]));
  return problems.filter((problem) => known.get(`${problem.code} ${problem.path}`) === problem);
}

/** Places that can't be examined, and profiles that no call can use. `doctor` reports other faults. */
export const problemsOf = ({ unlisted, stores, coordinator, rows = {} }) => [
  ...distinct(
    [coordinator ?? {}, ...Object.values(rows)].flatMap(({ problem }) => (problem ? [{ ...problem, path: null }] : [])),
  ),
  ...distinct([...unlisted, ...stores.map(({ unreadable }) => unreadable).filter(Boolean)]),
  ...stores.flatMap(({ path, malformed }) =>
    malformed.map((profile) => ({ code: "store_invalid", message: `${mistaken(profile)}: ${path}`, path })),
  ),
];

/** When a login's access token expires, in few words. */
export const expiry = (expires, now) =>
  expires === null ? "-" : expires < EARLIEST_MS ? "expired" : relative(expires, now);
