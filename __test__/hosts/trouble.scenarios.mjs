/** Engines that can't be used, each in its own way: nobody asks the provider, a good token is served, and the message helps. */
import { expect, test } from "vitest";
import { freePort, startEtcd } from "../../scripts/hosts/engines.mjs";
import { expectFigures, onEngines, useWorld } from "./support/scenario.mjs";

const adapter = { timeoutMs: 200 };
const unavailable = "coordinator_unavailable";

onEngines("an engine that can't be used", (engine) => {
  const use = useWorld(engine);

  /** Nothing but errors from this engine, or a good token in spite of it. */
  async function expectUnavailable(what, message, { engine: address, adapter: options = adapter, link } = {}) {
    const world = use.current;
    const grant = world.provider.login();
    const [host] = await world.hosts(1, grant, { linked: link !== undefined });
    link?.(host.link);
    const ask = { adapter: options, ...(address && { engine: address }) };
    const before = host.bytes();
    const refused = await world.ends([host], 2, { ...ask, options: { timeoutMs: 2_500 } });
    expect(host.bytes()).toBe(before);
    // One of the two may have waited for the other, which asks: it is told of that one's lock.
    expect(refused.map(({ error }) => error)).toContain(unavailable);
    const known = refused.map((answer) => ({
      ...answer,
      error: answer.error?.replace("file_lock_timeout", unavailable),
    }));
    const troubles = { [unavailable]: 2 };
    expectFigures({ scenario: what, engine }, grant, known, { calls: 0, served: 0, troubles });

    host.put(grant.newest, { expires: Date.now() + 60_000 });
    const within = { refreshMarginMs: 300_000, serveUnexpired: true };
    const good = await world.ends([host], 1, { ...ask, options: within });
    for (const answer of good) {
      expect(answer, JSON.stringify(good)).toMatchObject({ refreshError: unavailable });
      expect(answer.message, what).toMatch(message);
    }
    expectFigures({ scenario: `${what}, a good token`, engine }, grant, good, { calls: 0, served: 1 });
    return { grant, host };
  }

  test("nobody is there", async () => {
    const address = use.current.engine.address(await freePort());
    await expectUnavailable("nobody at the address", /runs and can be reached/, { engine: address });
  });

  test("it answers too slowly", async () => {
    const link = ({ down }) => Object.assign(down, { delayMs: 1_000 });
    await expectUnavailable("an engine that answers slowly", /within 200 ms/, { link });
  });

  test("it answers nonsense", async () => {
    const link = ({ down }) => Object.assign(down, { change: () => [Buffer.from("N0NSENSE AND MORE OF IT\r\n\r\n")] });
    await expectUnavailable("an engine that answers nonsense", /coordinator/, { link });
  });

  test("it closes every connection", async () => {
    await expectUnavailable("an engine that hangs up", /coordinator/, { link: (line) => line.sever() });
  });

  test("it answers everything twice", async () => {
    const world = use.current;
    const grant = world.provider.login();
    const [host] = await world.hosts(1, grant, { linked: true });
    host.link.down.change = (chunk) => [chunk, chunk];
    const answers = await world.ends([host], 2, { adapter, options: { timeoutMs: 2_500 } });
    // It may be understood, or not: but nothing is asked twice, and no process dies.
    expect(grant).toMatchObject({ reused: 0 });
    expect(grant.calls).toBeLessThanOrEqual(1);
    for (const { error, access } of answers) {
      expect([undefined, "coordinator_unavailable"]).toContain(error);
      if (!error) expect(access).toBe(grant.newest.access);
    }
    host.link.heal();
    const healed = await world.ends([host], 2);
    expectFigures({ scenario: "an engine that answers twice, mended", engine }, grant, healed, { calls: 1, served: 2 });
  });

  if (engine === "postgres") {
    const as = (change) => ({ postgres: change(new URL(use.current.engine.url)).href });

    test("the table is not there", async () => {
      await use.current.engine.ask("CREATE DATABASE bare");
      const address = as((url) => Object.assign(url, { pathname: "/bare" }));
      await expectUnavailable("no table", /create it: CREATE TABLE/, { engine: address });
    });

    test("the database is not there", async () => {
      const address = as((url) => Object.assign(url, { pathname: "/gone" }));
      await expectUnavailable("no database", /no such database/, { engine: address });
    });

    test("the user has no right", async () => {
      await use.current.engine.ask("CREATE ROLE guest LOGIN");
      const address = as((url) => Object.assign(url, { username: "guest" }));
      await expectUnavailable("no rights", /GRANT SELECT, INSERT, UPDATE/, { engine: address });
    });

    test("the user may only read", async () => {
      await use.current.engine.ask("CREATE ROLE reader LOGIN; GRANT SELECT ON oauth_refresh_lock TO reader");
      const address = as((url) => Object.assign(url, { username: "reader" }));
      await expectUnavailable("the right to read alone", /GRANT SELECT, INSERT, UPDATE/, { engine: address });
    });

    test("it is a read replica", async () => {
      const replica = await use.current.engine.standby();
      await expectUnavailable("a read replica", /address of the primary/, { engine: { postgres: replica.url } });
      await replica.remove();
    });
  } else {
    test("it wants a user", async () => {
      const users = { agents: { password: "p", prefix: "oauth-refresh-lock/" }, guest: { password: "p" } };
      const closed = await startEtcd({ auth: { rootPassword: "r", users } });
      const address = { etcd: closed.endpoint };
      const given = (username, password) => ({ engine: address, adapter: { ...adapter, username, password } });
      await expectUnavailable("no user", /give the options username and password/, { engine: address });
      await expectUnavailable("a wrong password", /compare the options/, given("agents", "q"));
      await expectUnavailable("no rights", /READWRITE/, given("guest", "p"));

      const world = use.current;
      const grant = world.provider.login();
      const hosts = await world.hosts(3, grant);
      const answers = await world.ends(hosts, 3, given("agents", "p"));
      expectFigures({ scenario: "etcd with users", engine }, grant, answers, { calls: 1, served: 9 });
      await closed.remove();
    });

    test("its history is compacted while others wait", async () => {
      const world = use.current;
      const grant = world.provider.login();
      const [one, ...others] = await world.hosts(3, grant);
      const gate = grant.hold("before");
      const first = await world.calls([one], 1);
      await gate.reached;
      const waiting = await world.calls(others, 2);
      await Promise.all(waiting.map((call) => call.event("waiting")));
      const { header } = await world.engine.put("of-another-program", "x");
      await world.engine.post("/v3/kv/compaction", { revision: header.revision, physical: true });
      gate.release();
      const answers = await world.answers([...first, ...waiting]);
      expectFigures({ scenario: "etcd compacted in the wait", engine }, grant, answers, { calls: 1, served: 5 });
      await world.engine.forget("of-another-program");
    });
  }
});
