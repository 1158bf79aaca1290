/** What `doctor` finds of logins that several hosts share. */
import { error, warning } from "./finding.mjs";
import { duration } from "./terminal.mjs";

const process = ({ pid, host }) => `Process ${pid ?? "?"} on host ${host ?? "?"}`;

/**
 * @param {import("./state.mjs").Key} key
 * @param {string} login
 * @returns {import("./finding.mjs").Finding[]}
 */
export function hostFindings({ lockPath: path, lock, lastRefresh, rows }, login) {
  const isUnderWay = lock?.holder && lastRefresh !== "done";
  return [...(isUnderWay ? [] : debts(path, login, lock)), ...rows.flatMap((row) => rowFindings(path, login, row))];
}

/** Nothing, if a row tells it already. @returns {import("./finding.mjs").Finding[]} */
export function coordinatorFindings({ coordinator: { name, problem } = {}, rows = {} }) {
  if (!problem || Object.values(rows).some((row) => row.problem)) return [];
  const meaning = `The coordinator can't be written: ${problem.message}.`;
  return [error(problem.code, name, meaning, "Correct that: until then no provider is asked, and no token refreshed.")];
}

function debts(path, login, lock) {
  const owed = lock?.shared?.owed ?? 0;
  if (owed === 0) return [];
  const meaning = `The coordinator has not been told of ${owed === 1 ? "a new token" : `${owed} new tokens`} of ${login}: other hosts can't use ${owed === 1 ? "it" : "them"}, and wait.`;
  const advice =
    "A process that lives tells it as soon as it can be reached. If none does, make a call with `coordinator`.";
  return [warning("coordinator_owed", path, meaning, advice)];
}

function rowFindings(path, login, row) {
  const { state, problem, ageMs } = row;
  if (problem) {
    const meaning = `The coordinator can't be asked about ${login}: ${problem.message}.`;
    return [
      error(problem.code, path, meaning, "Correct that: until then no provider is asked, and no token refreshed."),
    ];
  }
  if (state === "lost") {
    const meaning = `${process(row)} was about to refresh ${login}${ageMs === undefined ? "" : `, was given up ${duration(ageMs)} ago,`} and is silent; it may have the new token.`;
    const advice = 'Bring that host back. If its disk is lost, log in again, or make a call with `lostHost: "probe"`.';
    return [error("lost_host", path, meaning, advice)];
  }
  if (state === "dead") {
    const meaning = `${process(row)} was told that the refresh token of ${login} is refused for good.`;
    return [error("grant_dead", path, meaning, "Log in again; no host asks the provider until then.")];
  }
  return [];
}
