/** What must hold after a death or a fault, for whoever comes next. */
import { statSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import { Host } from "./host.mjs";
import { readJournal } from "./journal.mjs";
import { oneCall } from "./processes.mjs";
import { world } from "./world.mjs";

/** Longer than the pause after two deaths in a row. */
const PAUSE_MS = 1_300;
/** Whoever has no more patience than this does not wait for it. */
const HASTY = { timeoutMs: 500 };

/** How a call was answered. */
export const outcome = ({ result, error }) => result?.outcome ?? error?.code ?? error?.message;
export const tokensOf = ({ result }) => ({ access: result.credential.access, refresh: result.credential.refresh });
const same = (one, other) => one?.access === other?.access && one?.refresh === other?.refresh;

/** Makes hosts whose credential is renewed from case to case, and replaced by a new login when its grant has died. */
export async function createLane() {
  let grant = await world.provider.obtainGrant();
  return {
    host: (options) => new Host(grant, options),
    async renew(tokens) {
      grant = tokens ?? (await world.provider.obtainGrant());
    },
  };
}

/** One call by a process of its own, with this fault on order. */
export const suffer = (host, name, fault) => oneCall({ package: world.module, fault }, world.ask(host, name));

/** Finds the first of the numbers from 1 on for which this holds; it holds for all that follow. */
export async function firstFor(holds) {
  const lane = await createLane();
  let [low, high] = [1, 128];
  while (low < high) {
    const middle = (low + high) >> 1;
    const host = lane.host();
    if (await holds(host, middle)) high = middle;
    else low = middle + 1;
    await lane.renew();
    host.remove();
  }
  return low;
}

/** The first point at which a death leaves the journal in one of these states. */
export const firstDeathIn = (states) =>
  firstFor(async (host, point) => {
    const { signal } = await suffer(host, "one", `${point}:kill`);
    return signal !== "SIGKILL" || states.includes(readJournal(world.lockPath(host))?.state);
  });

/**
 * Goes on after an owner's end, as others do, and checks everything that must hold.
 *
 * @param {object} [end.fields] what the provider answered the owner, as far as it told
 * @param {string[]} others who call next, one after the other
 * @param {boolean} abroad whether the first of them is in another process; the rest take turns
 * @returns which case it was, and the tokens that are current
 */
export async function goOn({ host, fields, label }, others, abroad) {
  const { refresh } = host.old;
  const { state = "none", claim, receipts = [] } = readJournal(world.lockPath(host)) ?? {};
  const answers = world.answersTo(refresh);
  const rotated = answers.includes("refreshed");
  const at = `${label} (${state}, ${rotated ? "rotated" : "not rotated"})`;
  expect(answers, at).toEqual(rotated ? ["refreshed"] : []);
  expect(host.faults([host.old, fields]), at).toEqual([]);

  const found = { state, rotated, at };
  const call = (name, remote, options) =>
    remote ? world.neighbour.call(world.ask(host, name, options)) : world.call(host, name, options);
  const secrets = [host.old.access, host.old.refresh, fields?.access, fields?.refresh].filter(Boolean);
  if (state === "dispatched" && claim.attempts > 0) {
    // The second that died in a row: everyone waits, and is told so who can't.
    const says = /sent 2 times so far\); the login is kept/;
    await nobodyAsks({ host, at, code: "refresh_uncertain", says, options: HASTY }, others, call);
    expect(world.answersTo(refresh), at).toEqual(answers);
    await delay(PAUSE_MS);
  }
  const saved = receipts.length > 0 || (fields && host.holders(fields).length > 0);
  if (rotated && !saved) {
    // The one case that needs a login: the answer had arrived nowhere but in the process that is gone.
    const { error } = await call(others[0], abroad);
    expect(error, at).toMatchObject({ oauth: "invalid_grant", refreshFailure: { class: "answered_dead" } });
    const says = /process \d+, which asked .* ago and lost the answer; log in again/;
    expect(error.refreshFailure.message, at).toMatch(says);
    await nobodyAsks({ host, at, code: "grant_dead", says }, others, call);
    expect(world.answersTo(refresh), at).toEqual(["refreshed", "invalid_grant"]);
    expect(host.tellers(secrets), at).toEqual([]);
    return { ...found, lost: true, tokens: await logIn(host, others, call) };
  }

  const first = await call(others[0], abroad);
  expect(first.error, at).toBeUndefined();
  const tokens = tokensOf(first);
  if (rotated) {
    expect(["recovered", "adopted", "fresh"], at).toContain(outcome(first));
    if (fields) expect(same(tokens, fields), at).toBe(true);
  } else {
    expect(outcome(first), at).toBe("refreshed");
  }
  for (const [index, name] of others.slice(1).entries()) {
    const next = await call(name, abroad === (index % 2 === 1));
    expect(["recovered", "adopted", "fresh"], `${at}: ${name}: ${next.error?.shown}`).toContain(outcome(next));
    expect(tokensOf(next), at).toEqual(tokens);
  }
  expect(world.answersTo(refresh), at).toEqual(["refreshed"]);
  expect(world.answersTo(tokens.refresh), at).toEqual([]);
  expect(world.provider.isGrantAlive(tokens.refresh), at).toBe(true);
  expect(world.provider.isRefreshTokenUnused(tokens.refresh), at).toBe(true);
  expect(host.faults([tokens]), at).toEqual([]);
  expect(host.litter(), at).toEqual([]);

  // If every store had the answer already, nobody has had to take the lock since. The next to do so wipes the journal.
  const journal = `${world.lockPath(host)}.journal`;
  secrets.push(tokens.access, tokens.refresh);
  const tellers = host.tellers(secrets);
  const sealed = rotated && tellers.includes(journal);
  if (sealed) expect(statSync(journal).mode & 0o777, at).toBe(0o600);
  expect(tellers, at).toEqual(sealed ? [journal] : []);

  // The second attempt: another refresh finds nothing in its way.
  const forced = await call(others[0], abroad, { forceRefresh: true });
  expect(outcome(forced), `${at}: ${forced.error?.shown}`).toBe("refreshed");
  const renewed = tokensOf(forced);
  expect(world.answersTo(tokens.refresh), at).toEqual(["refreshed"]);
  expect(host.tellers([...secrets, renewed.access, renewed.refresh]), at).toEqual([]);
  expect(host.faults([tokens, renewed]), at).toEqual([]);
  return { ...found, sealed, tokens: renewed };
}

/** Every later caller is told the same, and the stores are left alone. */
async function nobodyAsks({ host, at, code, says, options }, others, call) {
  for (const name of others) {
    for (const remote of [false, true]) {
      const { error } = await call(name, remote, options);
      expect(error, at).toMatchObject({ name: "OAuthRefreshLockError", code });
      expect(error.message, at).toMatch(says);
    }
  }
  expect(host.faults([host.old]), at).toEqual([]);
}

/** A new login works at once. */
async function logIn(host, others, call) {
  host.put(await world.provider.obtainGrant());
  const first = await call(others[0], false);
  expect(outcome(first), first.error?.shown).toBe("refreshed");
  const tokens = tokensOf(first);
  for (const name of others.slice(1)) expect(tokensOf(await call(name, true))).toEqual(tokens);
  expect(host.faults([tokens])).toEqual([]);
  expect(world.answersTo(host.old.refresh)).toEqual(["refreshed"]);
  return tokens;
}
