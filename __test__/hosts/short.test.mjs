/** The short part of `npm run hosts`: ten processes on two hosts, on each engine that is installed. */
import { expect, test } from "vitest";
import { expectFigures, onEngines, useWorld } from "./support/scenario.mjs";

const EACH = 5;

onEngines("two hosts share a grant", (engine) => {
  const world = useWorld(engine, { delayMs: 50 });

  test("ten processes make one call, round for round", async () => {
    const grant = world.current.provider.login();
    const hosts = await world.current.hosts(2, grant);
    for (let round = 1; round <= 2; round += 1) {
      const answers = await world.current.ends(hosts, EACH);
      expectFigures({ scenario: `short: 2 hosts x ${EACH}`, engine }, grant, answers, {
        calls: round,
        served: 2 * EACH,
      });
      // One process asked; one of the other host had it from there, and the rest from these two.
      expect(answers.filter(({ outcome }) => outcome === "refreshed")).toHaveLength(1);
      expect(answers.filter(({ adoptedFrom }) => adoptedFrom)).toHaveLength(1);
      expect(hosts.map((host) => host.credential().refresh)).toEqual([grant.newest.refresh, grant.newest.refresh]);
      for (const host of hosts) host.expire();
    }
  });

  test("an agent with a coordinator ends by itself", async () => {
    const grant = world.current.provider.login();
    const hosts = await world.current.hosts(2, grant);
    for (const host of hosts) {
      const agent = await world.current.agent();
      const { became } = agent.call(world.current.ask(host));
      expect((await became).access).toBe(grant.newest.access);
      expect(await agent.finish()).toEqual({ code: 0, signal: null, output: "" });
    }
    expect(grant.calls).toBe(1);
  });
});
