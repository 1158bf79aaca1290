/** The process that refreshes is killed, and its host lives. */
import { expect, test } from "vitest";
import { POINTS, reach } from "./support/points.mjs";
import { expectFigures, onEngines, useWorld } from "./support/scenario.mjs";
import { isOnDisk } from "./support/world.mjs";

/** Who is told what when the login is lost: one by the provider, the others by the journal or the engine. */
const lost = (count) => ({ calls: 2, reused: 1, served: 0, troubles: { invalid_grant: 1, grant_dead: count - 1 } });

/** Of how many operations of the disk one is tried; each engine has others. HOSTS_STRIDE=1 tries all. */
const STRIDE = Number(process.env.HOSTS_STRIDE ?? 4);

onEngines("the process is killed", (engine) => {
  const use = useWorld(engine, { faults: true });

  for (const point of POINTS) {
    test(point.point, async () => {
      const world = use.current;
      const grant = world.provider.login();
      const [one, ...others] = await world.hosts(3, grant);
      const { agent, release } = await reach(point, world, grant, one);
      // Before the claim, the others would come first.
      const waiting = await world.calls(point.isClaimed ? [one, ...others] : [one], 3);
      await Promise.all(waiting.map((call) => call.event("waiting")));
      await agent.kill();
      if (point.isSent) release();
      const answers = await world.answers(waiting);
      if (!point.isClaimed) answers.push(...(await world.ends(others, 3)));
      const expected = point.isSent ? lost(answers.length) : { calls: 1, served: 9 };
      expectFigures({ scenario: `kill -9: ${point.point}`, engine }, grant, answers, expected);
    });
  }

  test("at operations of its disk", async () => {
    const world = use.current;
    const counts = { healed: 0, lost: 0 };
    let isKilled = true;
    for (let number = engine === "postgres" ? 1 : 3; isKilled; number += STRIDE) {
      const grant = world.provider.login();
      const [one, other] = await world.hosts(2, grant);
      const victim = await world.agent({ env: { OAUTH_REFRESH_LOCK_FAULT: `${number}:kill` } });
      const became = await victim.call(world.ask(one)).became;
      isKilled = became.died === "SIGKILL";
      const isLost = grant.count > 0 && !isOnDisk(grant.newest.refresh, one);
      const answers = await world.ends([one, other], 2);
      const figures = { number, calls: grant.calls, reused: grant.reused };
      expect(figures).toEqual({ number, calls: isLost ? 2 : 1, reused: isLost ? 1 : 0 });
      const good = answers.filter(({ access }) => access === grant.newest.access);
      expect(good, `operation ${number}: ${JSON.stringify(answers)}`).toHaveLength(isLost ? 0 : 4);
      counts[isLost ? "lost" : "healed"] += 1;
      await victim.kill();
      for (const host of [one, other]) host.remove();
    }
    console.log(`${engine}: killed at one of ${STRIDE} operations of its disk: ${JSON.stringify(counts)}`);
    expect(counts.healed).toBeGreaterThan(10);
  });
});
