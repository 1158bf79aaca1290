/** A host that is cut off from the engine, at the worst of times. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { rowOf } from "./support/engines.mjs";
import { expectFigures, onEngines, useWorld } from "./support/scenario.mjs";

/** The engine counts as down after so long. */
const adapter = { timeoutMs: 700 };

onEngines("a host is cut off", (engine) => {
  const use = useWorld(engine);

  /** The state of the grant's first row. */
  const stateOf = async (key) => JSON.parse((await use.current.engine.load(key)) ?? "null")?.state;
  const becomes = async (key, state) => {
    while ((await stateOf(key)) !== state) await sleep(20);
  };

  /** Two hosts; an agent of the first has its connection to the engine, and is about to claim the second refresh token. */
  async function aboutToClaim() {
    const world = use.current;
    const grant = world.provider.login();
    const [one, other] = await world.hosts(2, grant, { linked: true });
    const agent = await world.agent();
    await agent.call(world.ask(one, { adapter })).became;
    await world.ends([other]);
    one.expire();
    other.expire();
    const row = rowOf(grant.newest.refresh);
    const call = agent.call(world.ask(one, { adapter, holdAt: ["claiming"] }));
    await call.held("claiming");
    return { world, grant, row, one, other, agent, call };
  }

  /** Two hosts, of which the first asks the provider, is cut off meanwhile, and is answered. */
  async function cutOffInTheCall({ sever = false } = {}) {
    const world = use.current;
    const grant = world.provider.login();
    const row = rowOf(grant.newest.refresh);
    const [one, other] = await world.hosts(2, grant, { linked: true });
    const gate = grant.hold("before");
    const owner = await world.agent();
    const asking = owner.call(world.ask(one, { adapter }));
    await gate.reached;
    if (sever) one.link.sever();
    else one.link.cut();
    const waiting = await world.calls([other], 4, { adapter });
    await Promise.all(waiting.map((call) => call.event("waiting")));
    gate.release();
    const answer = await asking.became;
    expect(answer).toMatchObject({ outcome: "refreshed", access: grant.newest.access });
    expect(answer.notShared).toMatchObject({ code: "coordinator_unavailable" });
    expect(answer.notShared.message).toMatch(/has not been told of the new token yet/);
    expect(await stateOf(row)).toBe("sent");
    return { world, grant, row, one, other, owner, answer, waiting };
  }

  for (const sever of [false, true]) {
    const how = sever ? "every connection closed" : "frozen";
    test(`after the dispatch: the process that asked tells the engine later (${how})`, async () => {
      const { world, grant, row, one, answer, waiting } = await cutOffInTheCall({ sever });
      one.link.heal();
      // Nobody calls on that host.
      await becomes(row, "spent");
      const answers = [answer, ...(await world.answers(waiting)), ...(await world.ends([one], 3, { adapter }))];
      expectFigures({ scenario: `cut off after dispatch, ${how}`, engine }, grant, answers, { calls: 1, served: 8 });
    });
  }

  test("after the dispatch: that process dies, and the host's next one tells the engine", async () => {
    const { world, grant, row, one, owner, answer, waiting } = await cutOffInTheCall({ sever: true });
    await owner.kill();
    one.link.heal();
    expect(await stateOf(row)).toBe("sent");
    // It has a good token and asks nobody, but it looks once what its host owes.
    const next = await world.ends([one], 1, { adapter });
    expect(next[0]).toMatchObject({ outcome: "fresh" });
    const answers = [answer, ...next, ...(await world.answers(waiting))];
    expect(await stateOf(row)).toBe("spent");
    const scenario = "cut off after dispatch, process dies, the next one tells";
    expectFigures({ scenario, engine }, grant, answers, { calls: 1, served: 6 });
  });

  for (const comesBack of [true, false]) {
    const what = comesBack ? "goes on" : "has ended";
    test(`a claim arrives late: its process ${what}`, async () => {
      const { world, grant, row, one, other, agent, call } = await aboutToClaim();
      one.link.cut();
      call.goOn("claiming");
      // It is on its way, and given up.
      await call.event("engine failed");
      expect(grant.calls).toBe(1);
      if (!comesBack) await agent.kill();
      one.link.heal();
      await becomes(row, comesBack ? "spent" : "sent");
      const answers = comesBack ? [await call.became] : await world.ends([one], 1, { adapter });
      answers.push(...(await world.ends([one, other], 3, { adapter })));
      const scenario = `a claim arrives late, its process ${what}`;
      expectFigures({ scenario, engine }, grant, answers, { calls: 2, served: 7 });
    });
  }

  test("a claim arrives after another host has made one", async () => {
    const { world, grant, one, other, call } = await aboutToClaim();
    one.link.cut();
    call.goOn("claiming");
    const answers = await world.ends([other], 3, { adapter });
    one.link.heal();
    answers.push(await call.became, ...(await world.ends([one], 2, { adapter })));
    expectFigures({ scenario: "a claim arrives after another's", engine }, grant, answers, { calls: 2, served: 6 });
  });

  test("a claim is made, and its acknowledgement lost", async () => {
    const { world, grant, row, one, other, call } = await aboutToClaim();
    one.link.cut(one.link.down);
    call.goOn("claiming");
    await becomes(row, "sent");
    const waiting = await world.calls([other], 2, { adapter });
    await Promise.all(waiting.map((each) => each.event("waiting")));
    await call.event("engine failed");
    expect(grant.calls).toBe(1);
    one.link.heal();
    const answers = [await call.became, ...(await world.answers(waiting)), ...(await world.ends([one, other], 2))];
    expectFigures({ scenario: "a claim's acknowledgement is lost", engine }, grant, answers, { calls: 2, served: 7 });
  });
});
