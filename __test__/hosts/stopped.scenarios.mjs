/** The process that refreshes stands still for longer than others take it for alive, and goes on. */
import { expect, test } from "vitest";
import { CLAIM_LIMIT_MS, Clock } from "./support/clock.mjs";
import { rowOf } from "./support/engines.mjs";
import { POINTS, reach } from "./support/points.mjs";
import { expectFigures, onEngines, useWorld } from "./support/scenario.mjs";

onEngines("a process stands still past the limit", (engine) => {
  const clock = new Clock();
  const use = useWorld(engine, { faults: true, env: clock.env });

  for (const point of POINTS.filter(({ isClaimed }) => isClaimed)) {
    test(point.point, async () => {
      const world = use.current;
      const grant = world.provider.login();
      const row = rowOf(grant.newest.refresh);
      const [one, ...others] = await world.hosts(3, grant);
      const { agent, call, release } = await reach(point, world, grant, one);
      const waiting = point.at === "told" ? [] : await world.calls(others, 3);
      await Promise.all(waiting.map((each) => each.event("waiting")));
      if (waiting.length > 0) await world.seen(others, row);
      await agent.stop();
      release();
      const asked = grant.calls;
      await world.engine.age(CLAIM_LIMIT_MS + 1_000);
      clock.advance(CLAIM_LIMIT_MS + 1_000);
      const given = await world.answers(waiting);
      expect(given.map(({ error }) => error)).toEqual(given.map(() => "refresh_uncertain"));
      // And nobody has asked in its place.
      expect(grant.calls).toBe(asked);
      agent.goOn();
      const answers = [await call.became, ...(await world.ends(others, 3))];
      const scenario = `stopped past the limit: ${point.point}`;
      expectFigures({ scenario, engine }, grant, answers, { calls: 1, served: 7 });
    });
  }
});
