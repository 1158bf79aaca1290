/**
 * Death at any moment: an owner is killed at each of its file operations, and from outside at each step of its call.
 */
import { statSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Host } from "./support/host.mjs";
import { readJournal } from "./support/journal.mjs";
import { AgentProcess, oneCall } from "./support/processes.mjs";
import { createWorld, stopTimers } from "./support/world.mjs";

const LANES = 3;

let world;
/** A process of agents that lives through the tests. No timer of its own ever fires. */
let neighbour;

beforeAll(async () => {
  world = await createWorld();
  neighbour = new AgentProcess({ package: world.module, timers: false });
});
afterAll(() => neighbour?.finish());

/** A host whose credential is renewed from case to case, and replaced by a new login when its grant has died. */
async function createLane() {
  let grant = await world.provider.obtainGrant();
  return {
    host: (options) => new Host(grant, options),
    async renew(tokens) {
      grant = tokens ?? (await world.provider.obtainGrant());
    },
  };
}

/** What a call gave, if it was answered at all. */
const outcome = ({ result, error }) => result?.outcome ?? error?.code ?? error?.message;
const tokensOf = ({ result }) => ({ access: result.credential.access, refresh: result.credential.refresh });

/**
 * Goes on after an owner's death, as others do, and checks everything that must hold.
 *
 * @param {object} dead
 * @param {Host} dead.host
 * @param {object} [dead.fields] what the provider answered to the dead, as far as they told
 * @param {string} dead.label
 * @param {string[]} others who call next, one after the other
 * @param {boolean} abroad whether the first of them is in another process; the rest take turns
 * @returns which case it was, and the tokens that are current if the grant lives
 */
async function goOn({ host, fields, label }, others, abroad) {
  const { refresh } = host.old;
  const { state = "none", claim } = readJournal(world.lockPath(host)) ?? {};
  const answers = world.answersTo(refresh);
  const rotated = answers.includes("refreshed");
  const at = `${label} (${state}, ${rotated ? "rotated" : "not rotated"})`;
  expect(answers, at).toEqual(rotated ? ["refreshed"] : []);
  expect(host.faults([host.old, fields]), at).toEqual([]);

  const found = { state, rotated, at };
  const call = (name, remote, options) =>
    remote ? neighbour.call(world.ask(host, name, options)) : world.call(host, name, options);
  const secrets = [host.old.access, host.old.refresh, fields?.access, fields?.refresh].filter(Boolean);
  if (state === "dispatched" && claim.probe) {
    await nobodyAsks({ host, at, code: "refresh_uncertain", says: /asking once more brought no answer/ }, others, call);
    expect(world.answersTo(refresh), at).toEqual(answers);
    return { ...found, lost: true, tokens: await logIn(host, others, call) };
  }
  if (rotated && ["none", "idle", "claimed", "dispatched"].includes(state)) {
    // The one case that needs a login: the answer had arrived nowhere but in the dead process.
    const { error } = await call(others[0], abroad);
    expect(error, at).toMatchObject({ oauth: "invalid_grant", refreshFailure: { class: "answered_dead" } });
    const says = /process \d+, which was cut off while it waited for the answer .*; log in again/;
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
    if (fields) expect(tokens, at).toEqual({ access: fields.access, refresh: fields.refresh });
  } else {
    expect(outcome(first), at).toBe("refreshed");
  }
  secrets.push(tokens.access, tokens.refresh);
  for (const [index, name] of others.slice(1).entries()) {
    const next = await call(name, abroad === (index % 2 === 1));
    expect(["adopted", "fresh"], `${at}: ${name}: ${next.error?.shown}`).toContain(outcome(next));
    expect(tokensOf(next), at).toEqual(tokens);
  }
  expect(world.answersTo(refresh), at).toEqual(["refreshed"]);
  expect(world.answersTo(tokens.refresh), at).toEqual([]);
  expect(world.provider.isGrantAlive(tokens.refresh), at).toBe(true);
  expect(world.provider.isRefreshTokenUnused(tokens.refresh), at).toBe(true);
  expect(host.faults([tokens]), at).toEqual([]);
  expect(host.litter(), at).toEqual([]);
  const journal = `${world.lockPath(host)}.journal`;
  const tellers = host.tellers(secrets);
  if (rotated && tellers.includes(journal)) {
    // Every store had it already, so nobody has taken the lock since. The next to do so wipes it.
    expect(statSync(journal).mode & 0o777, at).toBe(0o600);
    const forced = await call(others[0], abroad, { forceRefresh: true });
    expect(outcome(forced), at).toBe("refreshed");
    expect(world.answersTo(tokens.refresh), at).toEqual(["refreshed"]);
    const renewed = tokensOf(forced);
    expect(host.tellers([...secrets, renewed.access, renewed.refresh]), at).toEqual([]);
    return { ...found, sealed: true, tokens: renewed };
  }
  expect(tellers, at).toEqual([]);
  return { ...found, tokens };
}

/** Every later caller is told the same, and the stores are left alone. */
async function nobodyAsks({ host, at, code, says }, others, call) {
  for (const name of others) {
    for (const remote of [false, true]) {
      const { error } = await call(name, remote);
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

/** Runs a case at point 1, 2, 3, … until the process is no longer killed. Returns what was found at each point. */
async function atEachPoint(atPoint) {
  let next = 1;
  let undisturbed = Number.POSITIVE_INFINITY;
  const cases = [];
  const lane = async () => {
    const context = await createLane();
    while (next < undisturbed) {
      const point = next;
      next += 1;
      const { killed, ...found } = await atPoint(point, context);
      if (killed) cases.push(found);
      else undisturbed = Math.min(undisturbed, point);
      await context.renew(found.tokens);
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  expect(cases).toHaveLength(undisturbed - 1);
  return cases;
}

/** One call that dies at a file operation, unless it makes fewer. */
async function dieAt(point, host, caller) {
  const { signal, agent, settled, fields } = await oneCall(
    { package: world.module, fault: `${point}:kill` },
    world.ask(host, caller),
  );
  expect(agent.output).toBe("");
  return { killed: signal === "SIGKILL", settled, fields };
}

/** The first point at which a death leaves the journal in one of these states. */
async function firstPointWith(states, caller) {
  const lane = await createLane();
  let [low, high] = [1, 128];
  while (low < high) {
    const middle = (low + high) >> 1;
    const host = lane.host();
    const { killed } = await dieAt(middle, host, caller);
    const state = readJournal(world.lockPath(host))?.state;
    if (killed && !states.includes(state)) low = middle + 1;
    else high = middle;
    await lane.renew();
    host.remove();
  }
  return low;
}

function report(what, cases) {
  const counts = {};
  const count = (name) => {
    counts[name] = (counts[name] ?? 0) + 1;
  };
  for (const { state, lost, sealed } of cases) {
    count(state);
    if (lost) count("answer lost");
    if (sealed) count("journal still sealed");
  }
  const list = Object.entries(counts).map(([name, number]) => `${number} ${name}`);
  console.log(`killed at each of ${cases.length} file operations of ${what}: ${list.join(", ")}`);
  return counts;
}

describe("killed at any file operation", () => {
  test.each([
    { owner: "an agent with a store of its own", caller: "one", others: ["two", "one", "main"] },
    { owner: "an agent that inherits main's profile", caller: "one", without: ["one"], others: ["two", "one", "main"] },
    { owner: "the main agent", caller: "main", others: ["one", "main", "two"] },
    { owner: "an agent on its second refresh", caller: "one", second: true, others: ["two", "one", "main"] },
  ])("$owner", async ({ owner, caller, without, second, others }) => {
    stopTimers();
    const cases = await atEachPoint(async (point, lane) => {
      const host = lane.host({ without });
      if (second) {
        for (const name of others) expect((await world.call(host, name)).error).toBeUndefined();
        host.put(host.tokens("main"));
      }
      const { killed, settled, fields } = await dieAt(point, host, caller);
      const label = `${owner}, point ${point}`;
      if (!killed) expect(settled?.result?.outcome, `${label}: ${settled?.error?.shown}`).toBe("refreshed");
      const found = await goOn({ host, fields, label }, others, point % 2 === 0);
      host.remove();
      return { killed, ...found };
    });
    const counts = report(owner, cases);
    expect(cases.length).toBeGreaterThan(30);
    for (const state of ["claimed", "dispatched", "received", "committed"]) {
      expect(counts[state], state).toBeGreaterThan(0);
    }
    // Between the answer's arrival and its first byte in the journal.
    expect(cases.filter(({ lost }) => lost).map(({ state }) => state)).toEqual(["dispatched"]);
  });

  test.each([
    { what: "whoever follows one that died before it could ask", states: ["dispatched", "received", "committed"] },
    { what: "whoever follows one that died with the answer in the journal", states: ["received", "committed"] },
  ])("$what", async ({ what, states }) => {
    const firstDeath = await firstPointWith(states, "one");
    stopTimers();
    const cases = await atEachPoint(async (point, lane) => {
      const host = lane.host();
      const first = await dieAt(firstDeath, host, "one");
      expect(first.killed).toBe(true);
      expect(readJournal(world.lockPath(host)).state).toBe(states[0]);
      const second = await dieAt(point, host, "two");
      const label = `${what}, point ${point}`;
      if (!second.killed) expect(second.settled?.error, label).toBeUndefined();
      const fields = first.fields ?? second.fields;
      const found = await goOn({ host, fields, label }, ["main", "two", "one"], point % 2 === 0);
      host.remove();
      return { killed: second.killed, ...found };
    });
    report(what, cases);
    const lost = cases.filter(({ lost }) => lost);
    // Nobody knows whether a probe that was cut off was sent.
    expect(lost.every(({ state }) => state === "dispatched")).toBe(true);
    if (states[0] === "received") expect(lost).toEqual([]);
  });
});

describe("killed from outside", () => {
  let lane;
  beforeAll(async () => {
    lane = await createLane();
  });

  /** Kills the owner once it has told this, when it can do nothing more. */
  async function killAt(holdAt, host, options) {
    const owner = new AgentProcess({ package: world.module });
    owner.ask(world.ask(host, "one", options, { holdAt }));
    await owner.heard(holdAt);
    await owner.kill();
    return { host, fields: owner.first("answered")?.fields, label: `killed when ${holdAt}` };
  }

  /** Kills the owner when the server has rotated the token and not yet answered. */
  async function killBeforeTheAnswer(host, options) {
    const owner = new AgentProcess({ package: world.module });
    world.provider.setLatency(60_000);
    const rotated = new Promise((resolve) => world.onRefreshCall(resolve));
    owner.ask(world.ask(host, "one", options));
    await rotated;
    await owner.kill();
    world.onRefreshCall(undefined);
    world.provider.setLatency(0);
    expect(owner.first("answered")).toBeUndefined();
    return { host, label: "killed before the answer" };
  }

  test.each([
    { moment: "acquired", state: "none", rotated: false },
    { moment: "dispatched", state: "dispatched", rotated: false },
    { moment: "called", state: "dispatched", rotated: false },
    { moment: "answered", state: "dispatched", rotated: true, lost: true },
    { moment: "refreshed", state: "committed", rotated: true },
    { moment: "mirrored", state: "committed", rotated: true },
    { moment: "settled", state: "committed", rotated: true },
  ])("when it has told: $moment", async ({ moment, ...expected }) => {
    stopTimers();
    for (const abroad of [false, true]) {
      const host = lane.host();
      const { tokens, ...found } = await goOn(await killAt(moment, host), ["two", "one", "main"], abroad);
      await lane.renew(tokens);
      host.remove();
      expect(found).toMatchObject(expected);
      expect(found.lost).toBe(expected.lost);
    }
  });

  test("when the provider has rotated the token and its answer is on the way", async () => {
    stopTimers();
    for (const abroad of [false, true]) {
      const host = lane.host();
      const found = await goOn(await killBeforeTheAnswer(host), ["two", "one", "main"], abroad);
      await lane.renew(found.tokens);
      host.remove();
      expect(found).toMatchObject({ state: "dispatched", rotated: true, lost: true });
    }
  });

  test("the old access token serves everyone while it has not expired", async () => {
    stopTimers();
    const host = lane.host({ expiresInMs: 120_000 });
    await killBeforeTheAnswer(host);
    for (const name of ["two", "one", "main"]) {
      for (const next of [await world.call(host, name), await neighbour.call(world.ask(host, name))]) {
        expect(next.error).toBeUndefined();
        expect(outcome(next)).toBe("fresh");
        expect(tokensOf(next)).toEqual(host.old);
      }
    }
    expect(world.answersTo(host.old.refresh)).toEqual(["refreshed"]);
    expect(world.provider.isGrantAlive(host.old.refresh)).toBe(true);
    host.remove();
    await lane.renew();
  });

  test("a caller that does not want a probe is told, and nobody asks", async () => {
    stopTimers();
    const host = lane.host();
    await killBeforeTheAnswer(host);
    for (const name of ["two", "one", "main"]) {
      for (const next of [
        await world.call(host, name, { uncertain: "fail" }),
        await neighbour.call(world.ask(host, name, { uncertain: "fail" })),
      ]) {
        expect(next.error).toMatchObject({ name: "OAuthRefreshLockError", code: "refresh_uncertain" });
        expect(next.error.message).toMatch(/process \d+ asked .* and got no answer, .*; log in again/);
      }
    }
    expect(world.answersTo(host.old.refresh)).toEqual(["refreshed"]);
    expect(world.provider.isGrantAlive(host.old.refresh)).toBe(true);
    host.remove();
    await lane.renew();
  });
});
