/** What people, programs and clocks do on several hosts at once. */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, expect, test } from "vitest";
import { POINTS } from "./support/points.mjs";
import { expectFigures, onEngines, useWorld } from "./support/scenario.mjs";

/** Longer than the core waits for an answer of the event loop. */
const BLOCKED_MS = 11_000;
const HOURS = 3_600_000;
/** etcd does not tell how old an answer is: there its token has to outlive the difference. */
const WRONG_BY_MS = { postgres: 4 * HOURS, etcd: HOURS / 3 };

onEngines("on several hosts", (engine) => {
  const use = useWorld(engine);
  let directory;
  let preload;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-preload-"));
    preload = join(directory, "clock.so");
    const source = join(import.meta.dirname, "support", "clock.c");
    execFileSync("cc", ["-shared", "-fPIC", "-O1", "-o", preload, source, "-ldl"]);
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  test("a login lands on one host while another refreshes", async () => {
    const world = use.current;
    const [grant, login] = [world.provider.login(), world.provider.login()];
    const [one, other, third] = await world.hosts(3, grant);
    const gate = grant.hold("before");
    const first = await world.calls([one]);
    await gate.reached;
    const waiting = await world.calls([other, third], 2);
    await Promise.all(waiting.map((call) => call.event("waiting")));
    other.put(login.newest, { expires: Date.now() + HOURS });
    gate.release();
    const answers = await world.answers([...first, ...waiting]);
    const isOther = (_, index) => index > 0 && index % 2 === 1;
    const [theirs, ours] = [answers.filter(isOther), answers.filter((...one) => !isOther(...one))];
    expectFigures({ scenario: "a login lands: the old one", engine }, grant, ours, { calls: 1, served: 3 });
    const later = [...theirs, ...(await world.ends([other], 2))];
    expectFigures({ scenario: "a login lands: the new one", engine }, login, later, { calls: 0, served: 4 });
    expect(other.credential().refresh).toBe(login.newest.refresh);
  });

  test("a host that is logged out stays so", async () => {
    const world = use.current;
    const grant = world.provider.login();
    const [one, other] = await world.hosts(2, grant);
    const gate = grant.hold("before");
    const first = await world.calls([one]);
    await gate.reached;
    const waiting = await world.calls([other], 2);
    await Promise.all(waiting.map((call) => call.event("waiting")));
    other.logOut();
    const before = other.bytes();
    gate.release();
    expectFigures({ scenario: "a logout elsewhere", engine }, grant, await world.answers(first), {
      calls: 1,
      served: 1,
    });
    expect(await world.answers(waiting)).toEqual([{ outcome: "none" }, { outcome: "none" }]);
    expect(other.bytes()).toBe(before);
  });

  test("one grant under two profile ids on two hosts", async () => {
    const world = use.current;
    const grant = world.provider.login();
    const [one, other] = await world.hosts(2, grant);
    other.put(grant.newest, { profileId: "acme:other" });
    const calls = await Promise.all([
      world.calls([one, other], 2),
      world.calls([other], 2, { profileId: "acme:other" }),
    ]);
    const answers = await world.answers(calls.flat());
    expectFigures({ scenario: "two names, two hosts", engine }, grant, answers, { calls: 1, served: 6 });
  });

  for (const at of ["claimed", "called", "told"]) {
    test(`the event loop is blocked: ${at}`, async () => {
      const world = use.current;
      const grant = world.provider.login();
      const [one, other] = await world.hosts(2, grant);
      const [owner] = await world.calls([one], 1, { block: { at, ms: BLOCKED_MS } });
      await owner.blocked();
      const waiting = await world.calls([one, other], 2);
      const answers = [await owner.became, ...(await world.answers(waiting))];
      const scenario = `event loop blocked for ${BLOCKED_MS / 1_000} s: ${at}`;
      expectFigures({ scenario, engine }, grant, answers, { calls: 1, served: 5 });
    });
  }

  for (const { point, at, isSent } of POINTS.filter((one) => one.at && one.isClaimed)) {
    test(`the worker thread that refreshes is ended: ${point}`, async () => {
      const world = use.current;
      const grant = world.provider.login();
      const [one, other] = await world.hosts(2, grant);
      const workerData = world.ask(one, { holdAt: [at] });
      const worker = new Worker(new URL("support/worker.mjs", import.meta.url), { workerData });
      for (let tell; tell?.at !== at; ) [tell] = await once(worker, "message");
      const waiting = await world.calls([one, other], 2);
      await Promise.all(waiting.map((call) => call.event("waiting")));
      await worker.terminate();
      const answers = await world.answers(waiting);
      const troubles = { invalid_grant: 1, grant_dead: 3 };
      const expected = isSent ? { calls: 2, reused: 1, served: 0, troubles } : { calls: 1, served: 4 };
      expectFigures({ scenario: `worker ended: ${point}`, engine }, grant, answers, expected);
    });
  }

  test("clocks that differ", async () => {
    const world = use.current;
    const grant = world.provider.login();
    const wrongBy = [0, WRONG_BY_MS[engine], -WRONG_BY_MS[engine]];
    const hosts = await world.hosts(3, grant);
    const envs = wrongBy.map((ms) => ({ LD_PRELOAD: preload, WRONG_BY_MS: String(ms) }));
    const agents = await Promise.all(envs.map((env) => world.agent({ env })));
    for (let round = 1; round <= 3; round += 1) {
      hosts.forEach((host, index) => {
        host.put(grant.newest, { expires: Date.now() + wrongBy[index] - 1_000 });
      });
      const answers = await Promise.all(hosts.map((host, index) => agents[index].call(world.ask(host)).became));
      expectFigures(
        { scenario: `clocks ${(2 * WRONG_BY_MS[engine]) / 60_000} min apart, round ${round}`, engine },
        grant,
        answers,
        {
          calls: round,
          served: 3,
        },
      );
      if (engine !== "postgres") continue;
      // The engine tells how old an answer is: each host's expiry is by its own clock.
      answers.forEach(({ expires }, index) => {
        const leftMs = expires - wrongBy[index] - Date.now();
        expect(Math.abs(leftMs - HOURS)).toBeLessThan(60_000);
      });
    }
  });

  test("a claim of a host whose clock is wrong is no older for that", async () => {
    const world = use.current;
    const grant = world.provider.login();
    const [one, other] = await world.hosts(2, grant);
    one.put(grant.newest, { expires: Date.now() - WRONG_BY_MS[engine] - HOURS });
    const slow = await world.agent({ env: { LD_PRELOAD: preload, WRONG_BY_MS: String(-WRONG_BY_MS[engine]) } });
    const gate = grant.hold("before");
    const call = slow.call(world.ask(one));
    await gate.reached;
    const waiting = await world.calls([other], 2);
    await Promise.all(waiting.map((each) => each.event("waiting")));
    gate.release();
    const answers = [await call.became, ...(await world.answers(waiting))];
    expectFigures({ scenario: "a claim by a slow clock", engine }, grant, answers, { calls: 1, served: 3 });
  });
});
