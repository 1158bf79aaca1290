/** What must hold for those who wait for an owner that is stuck, and for the owner when it comes to life again. */
import { dirname } from "node:path";
import { expect } from "vitest";
import { outcome, tokensOf } from "./aftermath.mjs";
import { AGENTS } from "./host.mjs";
import { readJournal } from "./journal.mjs";
import { CROWD, holderOf, STUCK_MS } from "./stuck.mjs";
import { world } from "./world.mjs";

const SERVED = ["fresh", "adopted", "recovered", "refreshed"];
/** An owner that comes to life after this time was slow and not stuck. */
const SLOW_MS = STUCK_MS - 60_000;

/**
 * Has the crowd call while an owner is stuck, and wakes it: once they have their answers or, if `inTime`, before it counts
 * as stuck.
 *
 * @param {number} stuck.id its call
 * @param {string} stuck.caller as which agent
 * @param {boolean} [stuck.sends] whether it will ask the provider when it comes to life, whoever has asked meanwhile
 */
export async function outlive(lane, stuck, { uncertain = "probe", inTime = false } = {}) {
  const { host, owner, id, caller, wake } = stuck;
  const { refresh } = host.old;
  const lockPath = world.lockPath(host);
  const { state = "none" } = readJournal(lockPath) ?? {};
  const rotated = world.answersTo(refresh).length > 0;
  const at = `${stuck.label} (${state}, ${rotated ? "rotated" : "not rotated"}, ${inTime ? "in time" : uncertain})`;
  const found = { state, rotated, at };

  const owns = holderOf(lockPath)?.pid === owner.pid;
  const asked = lane.ask(host, { uncertain });
  const early = await asked.settledOrWaiting();
  found.waited = early < CROWD;
  // What the owner holds nobody else has; what the stores hold serves without it.
  if (owns && !rotated) expect(early, at).toBe(0);
  // Without an owner that is stuck, the clock would make one of them look it.
  if (owns) lane.clock.advance(inTime ? SLOW_MS : STUCK_MS);
  if (inTime) wake();
  const answers = await asked.answers();
  expect(asked.count("called"), at).toBeLessThanOrEqual(1);

  const inDoubt = owns && !inTime && state === "dispatched";
  found.doubt = inDoubt && (uncertain === "fail" ? "nobody asks" : rotated ? "grant dead" : "asked again");
  const newest = await (found.doubt === "nobody asks" || found.doubt === "grant dead"
    ? refused(host, answers, { at, rotated, isDead: found.doubt === "grant dead" })
    : served(lane, host, answers, { at, inTime }));
  const bytes = host.bytes();
  const begun = terms(host);
  if (owns && !inTime) {
    expect(begun, at).toContain("key.t1");
    expect(["claims.t1", "key.t1", "store.t1"], at).toEqual(expect.arrayContaining(begun));
    expect(new Set(begun).size, at).toBe(begun.length);
  } else {
    expect(begun, at).toEqual([]);
  }

  // However many have looked at what the owner has on record.
  const spent = readJournal(owns && !inTime ? `${lockPath}.t1` : lockPath)?.ledger?.map(([generation]) => generation);
  expect(new Set(spent).size, at).toBe(spent?.length ?? 0);

  if (!inTime) wake();
  await owner.ended;
  expect(owner.output, at).toBe("");
  const settled = owner.first("settled", id);
  const fields = owner.first("answered")?.fields;
  found.owner = outcome(settled);
  expect(terms(host), at).toEqual(begun);
  const secrets = [host.old, fields, ...newest]
    .filter(Boolean)
    .flatMap(({ access, refresh: token }) => [access, token]);

  let current = newest.at(-1);
  if (current) {
    // What the stores hold is newer than anything that the owner has.
    expect(SERVED, `${at}: ${settled.error?.shown}`).toContain(found.owner);
    expect(newest, at).toContainEqual(tokensOf(settled));
    expect(host.bytes(), at).toEqual(bytes);
    const late = stuck.sends && !inTime ? ["invalid_grant"] : [];
    expect(world.answersTo(refresh), at).toEqual(["refreshed", ...late]);
  } else {
    expect(found.owner, `${at}: ${settled.error?.shown}`).toBe("refreshed");
    current = tokensOf(settled);
    expect(host.holders(current), at).toEqual(AGENTS.filter((name) => name === caller || name === "main"));
    expect(host.faults([host.old, current]), at).toEqual([]);
    expect(world.answersTo(refresh), at).toEqual([
      "refreshed",
      ...(found.doubt === "grant dead" ? ["invalid_grant"] : []),
    ]);
  }
  expect(settled.result.notSaved, at).toBeUndefined();
  expect(host.litter(), at).toEqual([]);
  const tokens = await oneMore(lane, host, {
    at,
    current,
    isDead: !world.provider.isGrantAlive(current.refresh),
  });
  secrets.push(current.access, current.refresh, tokens.access, tokens.refresh);
  expect(host.tellers(secrets), at).toEqual([]);
  return { ...found, tokens };
}

/** Everyone has the same token. Returns it and, unless the owner is awake, one that is newer. */
async function served(lane, host, answers, { at, inTime }) {
  const { refresh } = host.old;
  for (const answer of answers) expect(SERVED, `${at}: ${answer.error?.shown}`).toContain(outcome(answer));
  const tokens = tokensOf(answers[0]);
  for (const answer of answers) expect(tokensOf(answer), at).toEqual(tokens);
  expect(world.answersTo(refresh), at).toEqual(["refreshed"]);
  expect(host.faults([tokens]), at).toEqual([]);
  if (inTime) return [tokens];
  const forced = await lane.call(host, "one", { forceRefresh: true });
  if (outcome(forced) === "file_lock_timeout") throw new Error(at, { cause: forced.error });
  expect(outcome(forced), `${at}: ${forced.error?.shown}`).toBe("refreshed");
  for (const name of AGENTS) await lane.call(host, name, { rejectedAccess: tokens.access });
  expect(host.faults([tokensOf(forced)]), at).toEqual([]);
  return [tokens, tokensOf(forced)];
}

/** Nobody is served, and each is told precisely why. */
function refused(host, answers, { at, rotated, isDead }) {
  const codes = answers.map((answer) => answer.error?.code);
  if (isDead) {
    const [first, ...others] = answers.sort((one) => (one.error?.oauth ? -1 : 1)).map(({ error }) => error);
    expect(first, at).toMatchObject({ oauth: "invalid_grant", refreshFailure: { class: "answered_dead" } });
    for (const error of others) {
      expect(error, at).toMatchObject({ name: "OAuthRefreshLockError", code: "grant_dead" });
      expect(error.message, at).toMatch(/process \d+, which asked .* ago and lost the answer; log in again/);
    }
  } else {
    expect(codes, at).toEqual(codes.map(() => "refresh_uncertain"));
  }
  expect(world.answersTo(host.old.refresh), at).toEqual([
    ...(rotated ? ["refreshed"] : []),
    ...(isDead ? ["invalid_grant"] : []),
  ]);
  expect(host.faults([host.old]), at).toEqual([]);
  return [];
}

/** The next refresh finds nothing in its way; if the provider has revoked the grant, a login helps. */
async function oneMore(lane, host, { at, current, isDead }) {
  let forced = await lane.call(host, "one", { forceRefresh: true });
  if (isDead) {
    expect(forced.error, at).toMatchObject({ oauth: "invalid_grant" });
    host.put(await world.provider.obtainGrant());
    forced = await lane.call(host, "one");
  }
  expect(outcome(forced), `${at}: ${forced.error?.shown}`).toBe("refreshed");
  expect(world.answersTo(current.refresh), at).toEqual([isDead ? "invalid_grant" : "refreshed"]);
  return tokensOf(forced);
}

/** Which terms have begun, of which locks: `key.t1`, `claims.t1`, `store.t1`. */
export function terms(host) {
  const keys = dirname(world.lockPath(host));
  const of = (file) => (dirname(file) !== keys ? "store" : file.includes("sha256-") ? "key" : "claims");
  const term = (file) => /\.(t\d+)\.journal$/.exec(file)?.[1];
  return host
    .otherFiles()
    .filter(term)
    .map((file) => `${of(file)}.${term(file)}`)
    .sort();
}
