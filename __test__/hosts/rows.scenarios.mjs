/** What stands in the engine: what is read of it, what a thief sees, and what becomes of those who find it changed. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { rowOf } from "./support/engines.mjs";
import { reach } from "./support/points.mjs";
import { expectFigures, onEngines, useWorld } from "./support/scenario.mjs";

const WALK = Number(process.env.HOSTS_WALK ?? 1_000);

onEngines("rows", (engine) => {
  const use = useWorld(engine);

  test(`a host that is ${WALK} rotations behind asks nobody`, async () => {
    const world = use.current;
    const grant = world.provider.login();
    const [one, late] = await world.hosts(2, grant);
    grant.seconds = 1;
    for (let rotation = 1; rotation <= WALK; rotation += 1) {
      // Of all its access tokens the last alone is still good.
      if (rotation === WALK) grant.seconds = 3_600;
      one.expire();
      const [{ access, error }] = await world.ends([one]);
      expect(error ?? access, `rotation ${rotation}`).toBe(grant.newest.access);
    }
    expect(grant).toMatchObject({ calls: WALK, reused: 0 });
    await sleep(1_100);
    const began = performance.now();
    const answers = await world.ends([late], 3);
    console.log(`${engine}: ${WALK} rotations late: ${(performance.now() - began).toFixed(0)} ms`);
    const scenario = `a host ${WALK} rotations behind`;
    expectFigures({ scenario, engine }, grant, answers, { calls: WALK, served: 3 });
    expect(late.credential().refresh).toBe(grant.newest.refresh);
  });

  test("a provider that does not rotate is asked once for each access token", async () => {
    const world = use.current;
    const grant = world.provider.login({ rotates: false });
    const hosts = await world.hosts(3, grant);
    const answers = await world.ends(hosts, 3);
    expectFigures({ scenario: "no rotation, first", engine }, grant, answers, { calls: 1, served: 9 });
    for (const host of hosts) host.expire();
    const again = await world.ends(hosts, 3);
    expectFigures({ scenario: "no rotation, second", engine }, grant, again, { calls: 2, served: 9 });
  });

  test("a login that the provider refuses is presented once", async () => {
    const world = use.current;
    const grant = world.provider.login();
    grant.isRevoked = true;
    const answers = await world.ends(await world.hosts(3, grant), 3);
    const expected = { calls: 1, served: 0, troubles: { invalid_grant: 1, grant_dead: 8 } };
    const sorted = [...answers].sort((one, other) => other.error.localeCompare(one.error));
    expectFigures({ scenario: "a revoked login", engine }, grant, sorted, expected);
  });

  test("nothing in the engine tells a thief a token, an account, a provider or a profile", async () => {
    const world = use.current;
    const grant = world.provider.login();
    const [one, other] = await world.hosts(2);
    const account = { accountId: "account-4711", email: "person@corp.example" };
    for (const host of [one, other]) host.put(grant.newest, account);
    const secrets = [account.accountId, account.email, "corp.example", "acme"];
    const dumps = [];
    const look = async () => {
      secrets.push(grant.newest.access, grant.newest.refresh);
      dumps.push(await world.engine.dump());
    };
    for (const point of [{ at: "claimed" }, { gate: "before" }, { at: "answered" }, { at: "told" }]) {
      const { call, release } = await reach(point, world, grant, one);
      await look();
      release();
      expect((await call.became).error).toBeUndefined();
      await look();
      one.expire();
    }
    await world.ends([other]);
    await look();
    const text = dumps.join("\n");
    for (const { value } of await world.engine.rows()) {
      const { answer } = JSON.parse(value);
      if (answer) dumps.push(Buffer.from(answer, "base64").toString("latin1"));
    }
    expect(text).toContain("spent");
    for (const secret of secrets) {
      for (const form of [secret, Buffer.from(secret).toString("base64"), Buffer.from(secret).toString("hex")]) {
        for (const dump of dumps) expect(dump.includes(form), secret).toBe(false);
      }
    }
  });

  const spoiled = {
    "its answer changed": (row) => ({ ...row, answer: `${row.answer[0] === "A" ? "B" : "A"}${row.answer.slice(1)}` }),
    "its answer cut off": (row) => ({ ...row, answer: row.answer.slice(0, 40) }),
    "its answer gone": ({ answer, ...row }) => row,
    "another row's answer": (row, others) => ({ ...row, answer: others[0] }),
    "a newer format": (row) => ({ ...row, v: 2 }),
    "an unknown state": (row) => ({ ...row, state: "sold" }),
    "another program's JSON": () => [1, 2],
    "no JSON": () => undefined,
  };
  for (const [what, spoil] of Object.entries(spoiled)) {
    test(`a spoiled row: ${what}`, async () => {
      const world = use.current;
      const grant = world.provider.login();
      const row = rowOf(grant.newest.refresh);
      const [one, other] = await world.hosts(2, grant);
      await world.ends([one]);
      const spent = JSON.parse(await world.engine.load(row));
      const rows = (await world.engine.rows()).map(({ key, value }) => [key, JSON.parse(value).answer]);
      const others = rows.filter(([key, answer]) => key !== row && answer).map(([, answer]) => answer);
      const value = spoil(spent, others.length > 0 ? others : ["AAAA"]);
      await world.engine.put(row, value === undefined ? "?" : JSON.stringify(value));

      const before = other.bytes();
      const answers = await world.ends([other], 2, { options: { timeoutMs: 1_500 } });
      for (const { message } of answers) {
        expect(message).toMatch(/newer release|did not write|can't be opened/);
      }
      expect(other.bytes()).toBe(before);
      const expected = { calls: 1, served: 0, troubles: { coordinator_unavailable: 2 } };
      expectFigures({ scenario: `a row with ${what}`, engine }, grant, answers, expected);

      await world.engine.put(row, JSON.stringify(spent));
      const healed = await world.ends([other], 2);
      expectFigures({ scenario: `a row with ${what}, mended`, engine }, grant, healed, { calls: 1, served: 2 });
    });
  }

  test("a row that was set back to its claim is waited for", async () => {
    const world = use.current;
    const grant = world.provider.login();
    const row = rowOf(grant.newest.refresh);
    const [one, other] = await world.hosts(2, grant);
    const { call, release } = await reach({ at: "claimed" }, world, grant, one);
    const claim = await world.engine.load(row);
    release();
    await call.became;
    await world.engine.put(row, claim);
    const before = other.bytes();
    const answers = await world.ends([other], 2, { options: { timeoutMs: 1_500 } });
    expect(other.bytes()).toBe(before);
    const troubles = { file_lock_timeout: 2 };
    expectFigures({ scenario: "a row set back to its claim", engine }, grant, answers, {
      calls: 1,
      served: 0,
      troubles,
    });
    // Its host tells it again before it claims the next.
    one.expire();
    other.expire();
    const last = [...(await world.ends([one])), ...(await world.ends([other]))];
    expectFigures({ scenario: "the same, and its host calls", engine }, grant, last.slice(0, 1), {
      calls: 2,
      served: 1,
    });
    expect(last[1].access).toMatch(/-[23]$/);
  });
});
