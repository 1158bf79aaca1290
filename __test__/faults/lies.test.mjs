/**
 * Kernel locks that exclude nobody, as on a file system that only pretends: the sidecar keeps owners apart, and users are
 * told once.
 */
import { describe, expect, onTestFinished, test } from "vitest";
import { outcome, tokensOf } from "./support/aftermath.mjs";
import { AGENTS, Host } from "./support/host.mjs";
import { readJournal } from "./support/journal.mjs";
import { AgentProcess } from "./support/processes.mjs";
import { world } from "./support/world.mjs";

const PROCESSES = 10;
const CALLERS = 3;
const ROUNDS = Number(process.env.LIES_ROUNDS ?? 20);

async function createHost() {
  const host = new Host(await world.provider.obtainGrant());
  onTestFinished(() => host.remove());
  return host;
}

function start(options) {
  const agent = new AgentProcess({ package: world.module, lies: true, ...options });
  onTestFinished(() => agent.kill());
  return agent;
}

/** Has each process call so often, as one of the host's agents. */
function ask(crowd, host) {
  const asked = crowd.map((agent, index) => {
    const from = agent.tells.length;
    const request = world.ask(host, AGENTS[index % AGENTS.length]);
    return { agent, from, ids: Array.from({ length: CALLERS }, () => agent.ask(request)) };
  });
  const count = ({ agent, from }, what) => agent.tells.slice(from).filter(({ told }) => told === what).length;
  return {
    /** Resolves once all callers wait, but for one who is asking the provider. */
    async contended() {
      const stands = (one) => count(one, "waiting") === CALLERS - count(one, "called");
      await Promise.all(asked.map((one) => one.agent.until(() => stands(one))));
    },
    answers: () => Promise.all(asked.flatMap(({ agent, ids }) => ids.map((id) => agent.heard("settled", id)))),
    count: (what) => asked.reduce((sum, one) => sum + count(one, what), 0),
  };
}

/** Everyone has the same token, and so has every store. */
function expectServed(host, answers) {
  expect(answers.map(({ error }) => error?.shown).filter(Boolean)).toEqual([]);
  const tokens = tokensOf(answers[0]);
  for (const answer of answers) expect(tokensOf(answer)).toEqual(tokens);
  expect(host.faults([tokens])).toEqual([]);
  expect(host.litter()).toEqual([]);
  expect(world.provider.isGrantAlive(tokens.refresh)).toBe(true);
  expect(world.provider.isRefreshTokenUnused(tokens.refresh)).toBe(true);
}

/** Each was told once, by an event and by a warning of Node's, and said nothing else. */
async function expectWarnedOnce(crowd) {
  for (const agent of crowd) {
    const { code, signal } = await agent.finish();
    expect({ code, signal }, agent.output).toEqual({ code: 0, signal: null });
    const events = agent.tells.filter(({ told }) => told === "warned");
    expect(events.map(({ event }) => event.code)).toEqual(["lock_granted_twice"]);
    const warnings = agent.output.match(/\[lock_granted_twice\] OAuthRefreshLockWarning: /g);
    expect(warnings, agent.output).toHaveLength(1);
  }
}

describe("locks that are granted to everyone", () => {
  test.each([
    { honest: 0, what: "in every process" },
    { honest: PROCESSES / 2, what: "in half of the processes" },
  ])("$what: one provider call, in each of many rounds", async ({ honest }) => {
    const host = await createHost();
    const crowd = Array.from({ length: PROCESSES }, (_, index) => start({ lies: index >= honest }));
    for (let round = 0; round < ROUNDS; round += 1) {
      if (round > 0) host.put(await world.provider.obtainGrant());
      const { refresh } = host.old;
      const answer = world.holdAnswer(refresh);
      const asked = ask(crowd, host);
      await answer.rotated;
      await asked.contended();
      answer.release();
      const answers = await asked.answers();
      expect(asked.count("called")).toBe(1);
      expect(world.answersTo(refresh)).toEqual(["refreshed"]);
      expect(answers.map(outcome).filter((one) => one === "refreshed")).toHaveLength(1);
      expectServed(host, answers);
    }
    for (const agent of crowd.slice(0, honest)) {
      expect(await agent.finish()).toEqual({ code: 0, signal: null });
      expect(agent.output).toBe("");
    }
    await expectWarnedOnce(crowd.slice(honest));
  });
});

describe("an owner that is killed while many wait", () => {
  test.each([
    { moment: "before it decides", state: undefined, fault: "list#1:stop" },
    { moment: "before the request is sent", state: "dispatched", holdAt: "called" },
    { moment: "with the answer on record", state: "received", fault: "rename#1:stop" },
  ])("$moment: one provider call", async ({ state, holdAt, fault }) => {
    const host = await createHost();
    const owner = start({ fault });
    const crowd = Array.from({ length: PROCESSES }, () => start());
    owner.ask(world.ask(host, "one", undefined, { holdAt }));
    if (fault) expect(await owner.hasStopped()).toBe(true);
    else await owner.heard(holdAt);
    expect(readJournal(world.lockPath(host))?.state).toBe(state);
    const asked = ask(crowd, host);
    await asked.contended();
    await owner.kill();
    expectServed(host, await asked.answers());
    expect(asked.count("called")).toBe(state === "received" ? 0 : 1);
    expect(world.answersTo(host.old.refresh)).toEqual(["refreshed"]);
    await expectWarnedOnce(crowd);
  });

  test("while the provider is being asked: it is asked once more, and all are told to log in", async () => {
    const host = await createHost();
    const { refresh } = host.old;
    const answer = world.holdAnswer(refresh);
    const owner = start();
    const crowd = Array.from({ length: PROCESSES }, () => start());
    owner.ask(world.ask(host, "one"));
    await answer.rotated;
    const asked = ask(crowd, host);
    await asked.contended();
    await owner.kill();
    answer.release();
    const answers = await asked.answers();
    expect(asked.count("called")).toBe(1);
    expect(world.answersTo(refresh)).toEqual(["refreshed", "invalid_grant"]);
    const [first, ...others] = answers.sort((one) => (one.error?.oauth ? -1 : 1)).map(({ error }) => error);
    expect(first).toMatchObject({ oauth: "invalid_grant", refreshFailure: { class: "answered_dead" } });
    for (const error of others) {
      expect(error, error?.shown).toMatchObject({ code: "grant_dead" });
      expect(error.message).toContain(`process ${owner.pid}, which asked`);
    }
    expect(host.faults([host.old])).toEqual([]);
    host.put(await world.provider.obtainGrant());
    const again = ask(crowd, host);
    expectServed(host, await again.answers());
    expect(again.count("called")).toBe(1);
    await expectWarnedOnce(crowd);
  });
});
