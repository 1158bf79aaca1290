/** The engine is away, comes back, or comes back as it was before. */
import { expect, test } from "vitest";
import { rowOf } from "./support/engines.mjs";
import { expectFigures, onEngines, useWorld } from "./support/scenario.mjs";

const adapter = { timeoutMs: 1_000 };
const POINTS = ["claiming", "claimed", "called", "telling", "told"];

onEngines("the engine is away", (engine) => {
  const use = useWorld(engine);
  const minute = () => Date.now() + 60_000;

  test("before the claim: nobody asks the provider, and a good token is served", async () => {
    const world = use.current;
    const grant = world.provider.login();
    const hosts = await world.hosts(3, grant);
    await world.engine.kill();

    const refused = await world.ends(hosts, 2, { adapter, options: { timeoutMs: 1_500 } });
    // Who has waited for another process of its host, which asks the engine, is told of that one's lock.
    expect(refused.filter(({ error }) => error === "coordinator_unavailable").length).toBeGreaterThanOrEqual(3);
    for (const { error } of refused) expect(error).toMatch(/^(?:coordinator_unavailable|file_lock_timeout)$/);
    for (const host of hosts) host.put(grant.newest, { expires: minute() });
    const options = { refreshMarginMs: 300_000, serveUnexpired: true };
    const good = await world.ends(hosts, 1, { adapter, options });
    expect(good.map(({ refreshError }) => refreshError)).toEqual(good.map(() => "coordinator_unavailable"));
    for (const { message } of good) expect(message).toMatch(/can't be used, so the provider was not asked/);
    expectFigures({ scenario: "engine down: a good token", engine }, grant, good, { calls: 0, served: 3 });

    await world.engine.start();
    for (const host of hosts) host.expire();
    const answers = await world.ends(hosts, 3, { adapter });
    expectFigures({ scenario: "engine down, and back", engine }, grant, answers, { calls: 1, served: 9 });
  });

  test("those who wait for it go on when it is back", async () => {
    const world = use.current;
    const grant = world.provider.login();
    const hosts = await world.hosts(3, grant);
    await world.engine.kill();
    const calls = await world.calls(hosts, 3, { adapter });
    // On each host one has asked the engine, and the others wait for that one.
    await Promise.all(calls.map((call) => Promise.race([call.event("engine failed"), call.event("waiting")])));
    expect(grant.calls).toBe(0);
    await world.engine.start();
    const answers = await world.answers(calls);
    expectFigures({ scenario: "engine down, callers wait", engine }, grant, answers, { calls: 1, served: 9 });
  });

  test("while the provider is asked", async () => {
    const world = use.current;
    const grant = world.provider.login();
    const [one, ...others] = await world.hosts(3, grant);
    const gate = grant.hold("before");
    const [owner] = await world.calls([one], 1, { adapter });
    await gate.reached;
    const waiting = await world.calls(others, 2, { adapter });
    await Promise.all(waiting.map((call) => call.event("waiting")));
    await world.engine.kill();
    gate.release();
    const answer = await owner.became;
    expect(answer).toMatchObject({ access: grant.newest.access, notShared: { code: "coordinator_unavailable" } });
    await world.engine.start();
    const answers = [answer, ...(await world.answers(waiting)), ...(await world.ends([one], 1, { adapter }))];
    expectFigures({ scenario: "engine down during the call", engine }, grant, answers, { calls: 1, served: 6 });
  });

  for (const point of POINTS) {
    test(`it is killed and started again: ${point}`, async () => {
      const world = use.current;
      const grant = world.provider.login();
      const [one, ...others] = await world.hosts(3, grant);
      const [owner] = await world.calls([one], 1, { holdAt: [point] });
      await owner.held(point);
      const waiting = await world.calls(point === "claiming" ? [one] : [one, ...others], 2);
      await Promise.all(waiting.map((call) => call.event("waiting")));
      await world.engine.kill();
      await world.engine.start();
      owner.goOn(point);
      const answers = [await owner.became, ...(await world.answers(waiting)), ...(await world.ends(others))];
      const expected = { calls: 1, served: answers.length };
      expectFigures({ scenario: `engine killed and started: ${point}`, engine }, grant, answers, expected);
    });
  }

  test("it is set back to a backup: a host that slept asks nobody for what is spent", async () => {
    const world = use.current;
    const grant = world.provider.login();
    const hosts = await world.hosts(3, grant);
    const [sleeper] = await world.hosts(1, grant);
    const rows = [rowOf(grant.newest.refresh)];
    const before = await world.ends(hosts, 2);
    rows.push(rowOf(grant.newest.refresh));
    for (const host of hosts) host.expire();
    before.push(...(await world.ends(hosts, 2)));
    expect(grant.calls).toBe(2);
    // All that it has ever known of this grant is gone.
    for (const row of rows) await world.engine.forget(row);
    for (const host of hosts) host.expire();
    const answers = await world.ends(hosts, 2);
    expectFigures({ scenario: "engine set back to a backup", engine }, grant, answers, { calls: 3, served: 6 });
    // The engine knows every rotation again, and the newest counts, though what an earlier one brought has not expired.
    const late = await world.ends([sleeper], 2);
    expectFigures({ scenario: "the same, a host that slept", engine }, grant, late, { calls: 3, served: 2 });
  });
});
