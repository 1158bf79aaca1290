/** Everybody at once, on one grant that rotates with each call. */
import { expect, test } from "vitest";
import { expectFigures, onEngines, useWorld } from "./support/scenario.mjs";
import { served } from "./support/world.mjs";

const HOSTS = 3;
const EACH = 10;
const ROUNDS = 10;

onEngines("a storm", (engine) => {
  const world = useWorld(engine, { delayMs: 100 });

  for (const atEndpoint of [true, false]) {
    const how = atEndpoint ? "a token endpoint" : "a function";
    test(`one call in each round, by ${how}`, async () => {
      const grant = world.current.provider.login();
      const hosts = await world.current.hosts(HOSTS, grant);
      const answers = [];
      for (let round = 1; round <= ROUNDS; round += 1) {
        const some = await world.current.ends(hosts, EACH, { atEndpoint });
        expect(grant.calls, `round ${round}`).toBe(round);
        expect(served(grant, some), `round ${round}`).toBe(HOSTS * EACH);
        answers.push(...some);
        for (const host of hosts) host.expire();
      }
      const scenario = `storm: ${HOSTS} hosts x ${EACH}, ${ROUNDS} rounds, ${how}`;
      const known = answers.map((answer) => ({ ...answer, access: grant.newest.access }));
      expectFigures({ scenario, engine }, grant, known, { calls: ROUNDS, served: HOSTS * EACH * ROUNDS });
    });
  }

  test("without a coordinator the same hosts lose their login", async () => {
    const grant = world.current.provider.login();
    const hosts = await world.current.hosts(HOSTS, grant);
    const answers = await world.current.ends(hosts, 1, { engine: null });
    expect(grant).toMatchObject({ calls: HOSTS, isRevoked: true });
    expect(answers.filter(({ oauth }) => oauth === "invalid_grant")).toHaveLength(HOSTS - 1);
  });
});
