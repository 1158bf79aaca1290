/** What `doctor` finds of a key: its lock, its journal, and what others and deaths have left beside them. */
import { basename } from "node:path";
import { bare, error, warning } from "./finding.mjs";
import { hostFindings } from "./hosts.mjs";
import { duration } from "./terminal.mjs";

/** An owner that refreshes and holds its lock for longer is taken over from. */
const STUCK_MS = 180_000;

/** Whether a store is a host's own, by its name. */
export const isHosted = (store) => store.startsWith("host:");

/** @param {import("./state.mjs").Key} key @returns {import("./finding.mjs").Finding[]} */
export function keyFindings(key) {
  const { provider, profileId, lockPath: path, lock } = key;
  const login = provider === null ? (profileId ?? basename(path)) : `${profileId} of ${provider}`;
  const found = hostFindings(key, login);
  if (!lock) return found;
  if (lock.problem) {
    const { code, message } = lock.problem;
    const advice = "Correct that: until then nothing is refreshed.";
    found.push(error(code, path, `The lock or journal of ${login} can't be used: ${bare(message, path)}.`, advice));
  }
  return [
    ...found,
    ...failureFindings(path, login, lock),
    ...ownerFindings(path, login, lock),
    ...leftovers(path, login, lock),
  ];
}

function failureFindings(path, login, { failures, holder, waitingFor }) {
  const found = [];
  const outcomes = new Set(failures.map(({ outcome }) => outcome));
  if (outcomes.has("answered_dead"))
    found.push(
      error(
        "grant_dead",
        path,
        `The provider refuses the refresh token of ${login} for good.`,
        "Log in again; the provider is not asked until then.",
      ),
    );
  const uncertain = failures.filter(({ outcome }) => outcome === "uncertain");
  // One that asks again just now finds out.
  if (uncertain.length > 0 && !holder) {
    const calls = Math.max(...uncertain.map(({ attempts }) => attempts));
    const meaning = `It is not known yet whether the provider has used the refresh token of ${login}: ${calls === 1 ? "one call" : `${calls} calls`} ended without a clear answer.`;
    found.push(
      warning("refresh_uncertain", path, meaning, "Nothing: the login is kept, and the next caller asks again."),
    );
  }
  const unspent = failures.filter(({ outcome }) => outcome === "answered_unspent");
  const pause = Math.max(0, ...unspent.map(({ retryAfterMs }) => retryAfterMs ?? 0));
  if (pause > 0) {
    const meaning = `The last refresh of ${login} brought no token; every caller waits ${duration(pause)} more before the provider is asked again.`;
    found.push(warning("refresh_backoff", path, meaning, "Nothing: a token that has not expired is served meanwhile."));
  }
  return [...found, ...unsaved(path, login, waitingFor)];
}

/** Stores of hosts are not looked into, so whether one is still there only its agent can tell. */
function unsaved(path, login, waitingFor) {
  const names = [...new Set(waitingFor)];
  const [hosts, files] = [names.filter(isHosted), names.filter((name) => !isHosted(name))];
  const waits = `New credentials of ${login} wait in the journal for stores that`;
  const advice = {
    files: "Make them writable; the next refresh saves these credentials there.",
    hosts:
      "The next call with a store of that name saves them there. If the host has given that store up, make one call with an empty store of that name: then nothing waits for it.",
  };
  return [
    files.length > 0 &&
      error("receipt_unsaved", path, `${waits} could not be written: ${files.join(", ")}.`, advice.files),
    hosts.length > 0 &&
      error("receipt_unsaved", path, `${waits} only their host can open: ${hosts.join(", ")}.`, advice.hosts),
  ].filter(Boolean);
}

function ownerFindings(path, login, { holder }) {
  if (!holder || holder.heldMs === null || holder.heldMs <= (holder.staleAfterMs ?? STUCK_MS)) return [];
  const where = holder.isElsewhere ? " of another PID namespace (a container)" : "";
  const meaning = `Process ${holder.pid}${where} has held the lock of ${login} for ${duration(holder.heldMs)}.`;
  const advice =
    holder.staleAfterMs === null
      ? "No process takes over; end this one if it hangs."
      : "The next caller takes over. See what that process is doing.";
  return [warning("stuck", path, meaning, advice)];
}

/** What others have in our way, and what deaths have left. */
function leftovers(path, login, { foreign, debris }) {
  const found = [];
  const files = new Set(debris);
  if (foreign) {
    const who = foreign.pid === null ? "an unknown process" : `process ${foreign.pid}`;
    const isGone = !foreign.alive && files.delete(`${path}.lock`);
    found.push(
      isGone
        ? warning(
            "debris",
            path,
            `${who[0].toUpperCase()}${who.slice(1)} is gone and left OpenClaw's lock of ${login} behind.`,
            "Nothing: the next caller removes it.",
          )
        : warning(
            "foreign_lock",
            path,
            `OpenClaw's own lock of ${login} is held by ${who}.`,
            "Nothing, if it is refreshing: callers wait for it.",
          ),
    );
  }
  if (files.size > 0) {
    const names = [...files].map((file) => basename(file)).join(", ");
    found.push(warning("debris", path, `A dead process left ${names}.`, "Nothing: the next caller removes it."));
  }
  return found;
}
