/** What must not be, whatever happened. */
import { isOnDisk } from "../../__test__/hosts/support/world.mjs";
import { has } from "./plan.mjs";

/** What a living agent may be told if it gets no token, and after what. */
const ERRORS = [
  [/^(file_lock_timeout|caller_timeout)$/],
  [/^(refresh_uncertain|refresh_backoff|grant_dead|invalid_grant|provider_refused|refresh_token_spent)$/],
  [
    /^(provider_unreachable|provider_answer_lost|UND_ERR_SOCKET|ECONNRESET|TypeError: fetch failed|TypeError: terminated)$/,
    "cutProvider",
  ],
  [/^(store_unwritable|store_busy|journal_unusable|lock_unavailable|receipt_unsaved)$/, "fillDisk", "makeReadOnly"],
  [/^(superseded|identity_mismatch)$/, "logIn", "logOut", "restoreStore"],
  // The example's store waits for a second: a process that stands still may hold the database for longer.
  [/^ERR_SQLITE_ERROR$/, "fillDisk", "makeReadOnly", "stop"],
  [/^coordinator_unavailable$/, "cutEngine", "restartEngine", "stop", "kill"],
];
const DEAD = ["grant_dead", "invalid_grant", "provider_refused", "refresh_token_spent"];

const mayBe = (plan, error) =>
  ERRORS.some(([known, ...after]) => known.test(error) && (after.length === 0 || has(plan, ...after)));

export function faultsOf(round, answers) {
  const { machines, plan, grants } = round;
  const faults = grants.flatMap((grant) => sentTwice(round, grant));
  for (const answer of [...answers, ...round.had]) {
    const { error, died, message } = answer;
    if (died ? died !== "SIGKILL" : error && !mayBe(plan, error))
      faults.push(`an agent got ${error ?? died}: ${message}`);
  }
  if (plan.world !== "sqlite") faults.push(...machines.flatMap((machine) => machine.faults(plan.agents)));
  if (round.isQuiet && round.inTrouble !== 1) faults.push(`${round.inTrouble} calls in a round with no trouble`);
  return faults;
}

function sentTwice({ machines, killed }, { presented }) {
  const faults = [];
  for (const [index, { token, by: sender }] of presented.entries()) {
    // It was on its way when its process was killed, and the provider took its time.
    if (killed.has(sender)) continue;
    const first = presented.findIndex((earlier) => earlier.token === token && earlier.gave);
    if (first < 0 || first >= index) continue;
    const { by, gave, isCut } = presented[first];
    // What no program prevents: the answer was in a process that is gone, or on a line that was cut, and nowhere else.
    if (!killed.has(by) && !isCut) faults.push(`${token} was sent twice, and its first answer had arrived`);
    if (machines.some((machine) => isOnDisk(`"${gave}"`, machine)))
      faults.push(`${token} was sent twice, and its successor is on a disk`);
    if (faults.length > 0) faults.push(JSON.stringify(presented));
  }
  return faults;
}

/**
 * At last everyone said that its token was refused, and has a login's newest token, or knows that the login is lost.
 *
 * @param before the logins before that: one call each is enough
 */
export function faultsAtLast({ machines, grants, plan, logins, killed }, before, answers) {
  const isLost = grants.some(({ isRevoked }) => isRevoked);
  const newest = [...before, ...grants.map((grant) => grant.newest)].map(({ access }) => access);
  const isThere = (token) => machines.some((machine) => isOnDisk(`"${token}"`, machine));
  // A machine whose owner was killed, and which has another login by now, tells nobody what became of the claim: the others wait.
  const isWaiting = plan.hosts > 1 && killed.size > 0 && has(plan, "logIn", "logOut");
  const isGood = ({ outcome, access, error, adoptedFrom }) => {
    if (isWaiting && error === "file_lock_timeout") return true;
    // What a machine has itself, in a store or a journal, it takes without a question to the others.
    const isLocal = access && plan.hosts > 1 && !adoptedFrom && grants.some((grant) => grant.hasGiven(access));
    if (access) return newest.includes(access) || isLocal || (isLost && grants.some((grant) => grant.hasGiven(access)));
    // A backup has taken the place of the only store with the newest token, or a logout or login has taken that away. Of a host's
    // stores a caller knows two.
    const isTakenAway = has(plan, "restoreStore", "logOut", "logIn");
    if (error === "refresh_token_spent" && isTakenAway)
      return plan.world === "sqlite" || !isThere(grants[0].newest.refresh);
    return (isLost && DEAD.includes(error)) || (outcome === "none" && has(plan, "logOut"));
  };
  const faults = answers
    .filter((answer) => !isGood(answer))
    .map((answer) => `at last an agent has ${JSON.stringify(answer)}`);
  // A token that is refused is sent once more, by the agent whose own it is.
  for (const [index, { calls }] of before.entries())
    if (!grants[index].isRevoked && grants[index].calls > calls + 1)
      faults.push(`${grants[index].calls - calls} calls for one refused token`);
  // With no other agent's copies of the old login about, the one login that came counts.
  const [login] = logins;
  if (plan.hosts === 1 && plan.agents.length === 1 && logins.length === 1 && login.became.outcome === "saved") {
    const grant = grants[1];
    const isOld = ({ profileId, access }) => profileId === login.profileId && access && !grant.hasGiven(access);
    if (answers.some(isOld)) faults.push(`a login is gone: ${JSON.stringify([login, answers])}`);
  }
  return faults;
}
