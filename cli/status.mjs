/** `status` and `watch`: a table of keys. */
import { basename } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { expiry, keysOf, problemsOf, survey } from "./state.mjs";
import { complain, duration, paint, printable, relative, say, sayJson, table } from "./terminal.mjs";

const HEAD = ["LOGIN", "HOLDER", "HELD", "WAIT", "LAST REFRESH", "EXPIRES", "NEXT"];
const WIDTHS = [21, 8, 6, 4, 15, 9, 9];
const SHORT_HASH = 15;
const CLEAR = "\u001b[H\u001b[J";

const OUTCOMES = {
  none: "none yet",
  unreadable: "unreadable",
  asking: "asking now",
  dead: "log in again",
  unsaved: "not saved yet",
  cut_off: "cut off",
  uncertain: "unknown",
  failed: "failed, later",
  done: "done",
};

/** What another host does, as the coordinator says. */
const ELSEWHERE = {
  sent: ({ host }) => `asking: ${host}`,
  lost: ({ host }) => `lost: ${host}`,
  spent: () => "new elsewhere",
};

/** What became of the last refresh, in few words. @param {import("./state.mjs").Key} key */
export const outcome = ({ lastRefresh, lock, rows }, now) => {
  const elsewhere = lastRefresh === "asking" ? undefined : rows.find(({ state }) => ELSEWHERE[state]);
  if (elsewhere) return ELSEWHERE[elsewhere.state](elsewhere);
  if (lastRefresh === "done" && lock.shared?.owed > 0) return "not shared yet";
  return lastRefresh === "done" && lock.lastClaim ? `done ${relative(lock.lastClaim.at, now)}` : OUTCOMES[lastRefresh];
};

/** Of a login that no store names: its name in the journal, or its lock; and the hosts that keep it. @param {import("./state.mjs").Key} key */
function name({ provider, profileId, lockPath, hosts }) {
  if (provider === null) return [profileId ?? `${basename(lockPath).slice(0, SHORT_HASH)}…`, ...hosts].join(" ");
  return profileId.startsWith(`${provider}:`) ? profileId : `${provider} ${profileId}`;
}

/** @param {import("./state.mjs").Key} key */
function row(key, now) {
  const { lock, expires, nextRefresh } = key;
  const holder = lock?.holder;
  return [
    name(key),
    holder ? `${holder.pid}${holder.isElsewhere ? "*" : ""}` : "-",
    holder && holder.heldMs !== null ? duration(holder.heldMs) : "-",
    lock?.waiters ? `${lock.waiters}` : "-",
    outcome(key, now),
    expiry(expires, now),
    nextRefresh === null ? "-" : nextRefresh <= now ? "now due" : relative(nextRefresh, now),
  ];
}

function draw(keys, stateDir, problems = []) {
  const usable = problems.length > 0 ? "usable " : "";
  if (keys.length === 0) return `No ${usable}OAuth logins and no locks in ${printable(stateDir)}.`;
  const now = Date.now();
  return table(
    HEAD,
    keys.map((key) => row(key, now)),
    WIDTHS,
  );
}

const forJson = (keys) =>
  keys.map((key) => ({
    ...key,
    rows: key.rows.length > 0 ? key.rows : undefined,
    lastRefresh: outcome(key, Date.now()),
  }));

/** @returns {Promise<boolean>} whether all could be looked at */
export async function status({ stateDir, json, ...options }) {
  const seen = await survey(stateDir, options);
  const keys = keysOf(seen);
  const problems = problemsOf(seen);
  if (json) sayJson({ stateDir, keys: forJson(keys), problems });
  else {
    say(draw(keys, stateDir, problems));
    if (seen.coordinator) say(`Coordinator: ${printable(seen.coordinator.name)}.`);
    for (const { message } of problems) complain(message);
  }
  return problems.length === 0;
}

/** Without what only time changes. */
const changing = (keys) =>
  JSON.stringify(
    keys.map(({ lock, ...key }) => ({
      ...key,
      lock: lock && {
        ...lock,
        holder: lock.holder && { pid: lock.holder.pid },
        failures: lock.failures.map((failure) => ({ ...failure, retryAfterMs: failure.retryAfterMs !== null })),
      },
    })),
  );

/** Draws again and again on a terminal; elsewhere tells each change, until it is interrupted. */
export async function watch({ stateDir, json, interval, ...options }) {
  const ended = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => ended.abort());
  const isLive = process.stdout.isTTY && !json;
  let before;
  while (!ended.signal.aborted) {
    const seen = await survey(stateDir, options);
    const [keys, problems] = [keysOf(seen), problemsOf(seen)];
    const now = changing(keys) + JSON.stringify(problems);
    const text = [draw(keys, stateDir, problems), ...problems.map(({ message }) => `error: ${printable(message)}`)];
    const view = text.join("\n");
    if (isLive) say(`${CLEAR}${view}\n\n${paint("dim", `${printable(stateDir)} · Ctrl-C ends`)}`);
    else if (now !== before) {
      const at = new Date();
      say(
        json ? JSON.stringify({ at: at.getTime(), keys: forJson(keys), problems }) : `${at.toISOString()}\n${view}\n`,
      );
    }
    before = now;
    await pause(interval, undefined, { signal: ended.signal }).catch(() => {});
  }
}
