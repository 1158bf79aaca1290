/** The host that refreshes is lost, with its disk: nobody will ever know how far it came. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { CLAIM_LIMIT_MS, Clock } from "./support/clock.mjs";
import { rowOf } from "./support/engines.mjs";
import { POINTS, reach } from "./support/points.mjs";
import { expectFigures, onEngines, useWorld } from "./support/scenario.mjs";

/** How long a look for debts counts, as src/binding/coordinator.rs says. */
const LOOKED_MS = 60_000;

onEngines("a host is lost", (engine) => {
  const clock = new Clock();
  const use = useWorld(engine, { faults: true, env: clock.env });

  /** All that was claimed is older than that limit. */
  async function pass(ms = CLAIM_LIMIT_MS + 1_000) {
    await use.current.engine.age(ms);
    clock.advance(ms);
  }

  for (const point of POINTS.filter(({ isClaimed }) => isClaimed)) {
    for (const lostHost of ["wait", "probe"]) {
      test(`${point.point}, lostHost: ${lostHost}`, async () => {
        const world = use.current;
        const grant = world.provider.login();
        const row = rowOf(grant.newest.refresh);
        const [one, ...others] = await world.hosts(3, grant);
        const { agent, release } = await reach(point, world, grant, one);
        const isTold = point.at === "told";
        const waiting = isTold ? [] : await world.calls(others, 3, { options: { lostHost } });
        await Promise.all(waiting.map((call) => call.event("waiting")));
        if (!isTold) await world.seen(others, row);
        await agent.kill();
        if (point.isSent) release();
        one.remove();
        const asked = grant.calls;
        if (!isTold) await pass();
        const answers = await world.answers(waiting);
        answers.push(...(await world.ends(others, 1, { options: { lostHost } })));

        const scenario = `host and disk lost, ${lostHost}: ${point.point}`;
        const count = answers.length;
        const isExchanged = point.isSent || point.isSaved;
        if (isTold) return expectFigures({ scenario, engine }, grant, answers, { calls: 1, served: count });
        if (lostHost === "wait") {
          for (const { message } of answers) expect(message).toMatch(/was about to refresh .* has been silent since/);
          const expected = { calls: asked, served: 0, troubles: { refresh_uncertain: count } };
          return expectFigures({ scenario, engine }, grant, answers, expected);
        }
        const expected = isExchanged
          ? { calls: 2, reused: 1, served: 0, troubles: { invalid_grant: 1, grant_dead: count - 1 } }
          : { calls: 1, served: count };
        return expectFigures({ scenario, engine }, grant, answers, expected);
      });
    }
  }

  test("a process that lives tells what one that has died could not, though it has looked before", async () => {
    const world = use.current;
    const grant = world.provider.login();
    const [one, other] = await world.hosts(2, grant);
    const [lasting, owner] = [await world.agent(), await world.agent()];
    const ask = world.ask(one, { adapter: { timeoutMs: 1_000 } });
    // It refreshes, and looks when it is served.
    for (let times = 0; times < 2; times++) await lasting.call(ask).became;
    await world.ends([other]);
    for (const host of [one, other]) host.expire();
    const gate = grant.hold("before");
    const call = owner.call(ask);
    await gate.reached;
    await world.engine.kill();
    gate.release();
    expect(await call.became).toMatchObject({ notShared: { code: "coordinator_unavailable" } });
    await owner.kill();
    await world.engine.start();
    const [waiting] = await world.calls([other]);
    await waiting.event("waiting");
    clock.advance(LOOKED_MS + 1_000);
    const answers = [await lasting.call(ask).became, await waiting.became];
    expectFigures({ scenario: "a debt of the dead", engine }, grant, answers, { calls: 2, served: 2 });
  });

  test("it was not lost after all: what it knows is waited for", async () => {
    const world = use.current;
    const grant = world.provider.login();
    const [one, other] = await world.hosts(2, grant);
    const row = rowOf(grant.newest.refresh);
    const [, , , , , , telling] = POINTS;
    const { agent } = await reach(telling, world, grant, one);
    const waiting = await world.calls([other], 2);
    await Promise.all(waiting.map((call) => call.event("waiting")));
    await world.seen([other], row);
    // Its machine is off, and comes back with its disk.
    await agent.kill();
    await pass();
    const given = await world.answers(waiting);
    expect(given.map(({ error }) => error)).toEqual(["refresh_uncertain", "refresh_uncertain"]);
    const answers = await world.ends([one], 2);
    // Nobody waits for it any more: whoever comes before it has told the engine is refused.
    while (JSON.parse(await world.engine.load(row)).state !== "spent") await sleep(20);
    answers.push(...(await world.ends([other], 2)));
    expectFigures({ scenario: "a host comes back past the limit", engine }, grant, answers, { calls: 1, served: 4 });
  });

  test("another login ends the wait", async () => {
    const world = use.current;
    const grant = world.provider.login();
    const [one, other] = await world.hosts(2, grant);
    const { agent } = await reach(POINTS[2], world, grant, one);
    const waiting = await world.calls([other], 2);
    await Promise.all(waiting.map((call) => call.event("waiting")));
    await agent.kill();
    one.remove();
    const login = world.provider.login();
    other.put(login.newest);
    await pass();
    const answers = [...(await world.answers(waiting)), ...(await world.ends([other]))];
    expectFigures({ scenario: "a host lost, another login", engine }, login, answers, { calls: 1, served: 3 });
    expect(grant.calls).toBe(0);
  });
});
