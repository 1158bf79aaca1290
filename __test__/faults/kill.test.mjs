/**
 * Death at any moment: an owner is killed at each of its file operations, and from outside at each step of its call.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { createLane, firstDeathIn, goOn, outcome, suffer, tokensOf } from "./support/aftermath.mjs";
import { readJournal } from "./support/journal.mjs";
import { AgentProcess, sideBySide } from "./support/processes.mjs";
import { stopTimers, world } from "./support/world.mjs";

const LANES = 3;

/** Runs a case at point 1, 2, 3, … until the process is no longer killed. Returns what was found at each point. */
async function atEachPoint(atPoint) {
  let undisturbed = Number.POSITIVE_INFINITY;
  const cases = [];
  function* points() {
    for (let point = 1; point < undisturbed; point += 1) yield point;
  }
  await sideBySide(
    points(),
    LANES,
    () => createLane(),
    async (point, lane) => {
      const { killed, ...found } = await atPoint(point, lane);
      if (killed) cases.push(found);
      else undisturbed = Math.min(undisturbed, point);
      await lane.renew(found.tokens);
    },
  );
  expect(cases).toHaveLength(undisturbed - 1);
  return cases;
}

/** One call that dies at a file operation, unless it makes fewer. */
async function dieAt(point, host, caller) {
  const { signal, agent, settled, fields } = await suffer(host, caller, `${point}:kill`);
  expect(agent.output).toBe("");
  return { killed: signal === "SIGKILL", settled, fields };
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
    for (const state of ["dispatched", "received", "committed"]) {
      expect(counts[state], state).toBeGreaterThan(0);
    }
    // Between the answer's arrival and its first byte in the journal.
    expect(cases.filter(({ lost }) => lost).map(({ state }) => state)).toEqual(["dispatched"]);
  });

  test.each([
    { what: "whoever follows one that died before it could ask", states: ["dispatched", "received", "committed"] },
    { what: "whoever follows one that died with the answer in the journal", states: ["received", "committed"] },
  ])("$what", async ({ what, states }) => {
    const firstDeath = await firstDeathIn(states);
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
    // The answer was nowhere but in the process that died.
    expect(lost.every(({ state }) => state === "dispatched")).toBe(true);
    if (states[0] === "received") expect(lost).toEqual([]);
  });
});

describe("killed from outside", () => {
  let lane;
  beforeAll(async () => {
    lane = await createLane();
  });

  /** Kills the owner when it can do nothing more: it has told this and its JavaScript waits, or a fault has stopped it. */
  async function killAt(holdAt, host, { fault, ...options } = {}) {
    const owner = new AgentProcess({ package: world.module, fault });
    owner.ask(world.ask(host, "one", options, { holdAt: fault ? undefined : holdAt }));
    if (fault) expect(await owner.hasStopped()).toBe(true);
    else await owner.heard(holdAt);
    await owner.kill();
    return { host, fields: owner.first("answered")?.fields, label: `killed when ${holdAt}` };
  }

  /** Kills the owner when the server has rotated the token and not yet answered. */
  async function killBeforeTheAnswer(host, options) {
    const owner = new AgentProcess({ package: world.module });
    world.provider.setLatency(60_000);
    const rotated = world.refreshed(host.old.refresh);
    owner.ask(world.ask(host, "one", options));
    await rotated;
    await owner.kill();
    world.provider.setLatency(0);
    expect(owner.first("answered")).toBeUndefined();
    return { host, label: "killed before the answer" };
  }

  test.each([
    // The decision follows the lock without a word of JavaScript's: it may have been stopped before that could tell.
    { moment: "acquired", fault: "list#1:stop", state: "none", rotated: false },
    { moment: "dispatched", state: "dispatched", rotated: false },
    { moment: "called", state: "dispatched", rotated: false },
    { moment: "answered", state: "dispatched", rotated: true, lost: true },
    { moment: "refreshed", state: "committed", rotated: true },
    { moment: "mirrored", state: "committed", rotated: true },
    { moment: "settled", state: "committed", rotated: true },
  ])("when it has told: $moment", async ({ moment, fault, ...expected }) => {
    stopTimers();
    for (const abroad of [false, true]) {
      const host = lane.host();
      const { tokens, ...found } = await goOn(await killAt(moment, host, { fault }), ["two", "one", "main"], abroad);
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
      for (const next of [await world.call(host, name), await world.neighbour.call(world.ask(host, name))]) {
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

  test("a caller that forbids repeats is told, and nobody asks", async () => {
    stopTimers();
    const host = lane.host();
    await killBeforeTheAnswer(host);
    for (const name of ["two", "one", "main"]) {
      for (const next of [
        await world.call(host, name, { uncertain: "fail" }),
        await world.neighbour.call(world.ask(host, name, { uncertain: "fail" })),
      ]) {
        expect(next.error).toMatchObject({ name: "OAuthRefreshLockError", code: "refresh_uncertain" });
        expect(next.error.message).toMatch(
          /process \d+ sent it first, .*; the login is kept, and this call forbids asking again/,
        );
      }
    }
    expect(world.answersTo(host.old.refresh)).toEqual(["refreshed"]);
    expect(world.provider.isGrantAlive(host.old.refresh)).toBe(true);
    host.remove();
    await lane.renew();
  });
});
