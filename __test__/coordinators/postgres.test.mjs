/** On a real PostgreSQL, also through PgBouncer. */
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, expect, test } from "vitest";
import { postgresCoordinator } from "../../index.mjs";
import { startPgBouncer, startPostgres } from "../../scripts/hosts/engines.mjs";
import {
  describeWith,
  expectQuiet,
  expectRight,
  expectSooner,
  forever,
  newKey,
  own,
  pool,
  thrownBy,
} from "./support/engines.mjs";

const { postgresSchema } = createRequire(import.meta.url)("../../lib/coordinators/postgres.js");

/** PostgreSQL with a table. */
async function startWithTable(options) {
  const postgres = await startPostgres(options);
  postgres.sql(postgresSchema());
  return postgres;
}

/** How many of the server's connections listen, or have listened last. */
const listening = (postgres) =>
  Number(postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"));

/** Has a swap wait for a row that another transaction has locked, and breaks it there. */
async function breakAStatement(postgres, coordinator, breakIt) {
  const key = newKey();
  const version = await coordinator.compareAndSwap(key, null, "1");
  const client = await pool(postgres.url).connect();
  await client.query("BEGIN");
  await client.query("UPDATE oauth_refresh_lock SET value = value WHERE key = $1", [key]);
  const failing = thrownBy(coordinator.compareAndSwap(key, version, "2"));
  const stuck = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'WITH put%'";
  await expect.poll(() => postgres.sql(`SELECT count(*) ${stuck}`)).toBe("1");
  await breakIt(stuck);
  expect((await failing).message).toMatch("whether it was written is unknown");
  await client.query("ROLLBACK");
  client.release();
  return { key, version };
}

describeWith(["postgres"], "PostgreSQL", () => {
  let postgres;
  beforeAll(async () => {
    postgres = await startWithTable();
    return () => postgres.remove();
  });
  const coordinatorOf = (options) => postgresCoordinator(pool(postgres.url, options));

  test("keeps a coordinator's rules, and tells of changes and ages", async () => {
    const notes = await expectRight(coordinatorOf(), coordinatorOf());
    expect(notes).toMatchObject({ age: undefined, "read at once": undefined });
    expect(notes.told).not.toMatch("not within");
  });

  test.each(["serializable", "repeatable read"])("keeps them where the default isolation is %s", async (isolation) => {
    const options = `-c default_transaction_isolation=${isolation.replace(" ", "\\ ")}`;
    await expectRight(coordinatorOf({ options }), coordinatorOf({ options }));
  });

  test("keeps them on a pool of one connection, and gives types other than pg's own", async () => {
    const types = { getTypeParser: () => (value) => ({ parsed: value }) };
    expect(await coordinatorOf({ max: 1 }).load(newKey())).toBeNull();
    await expectRight(coordinatorOf({ max: 1 }), coordinatorOf({ max: 1 }));
    const key = newKey();
    await coordinatorOf().compareAndSwap(key, null, "{}");
    // Not a row that it knows: refused, and not believed.
    expect((await thrownBy(coordinatorOf({ types }).load(key))).message).toMatch("its columns must be");
  });

  test("keeps them in a table of another schema, with capitals", async () => {
    postgres.sql('CREATE SCHEMA IF NOT EXISTS "Auth"');
    postgres.sql(postgresSchema('"Auth"."Refresh_Rows"'));
    const table = "Auth.Refresh_Rows";
    await expectRight(postgresCoordinator(pool(postgres.url), { table }));
    expect(postgres.sql('SELECT count(*) > 5 FROM "Auth"."Refresh_Rows"')).toBe("t");
  });

  test("needs no more than SELECT, INSERT and UPDATE", async () => {
    postgres.sql("CREATE ROLE app LOGIN; GRANT SELECT, INSERT, UPDATE ON oauth_refresh_lock TO app");
    const url = postgres.url.replace("postgres@", "app@");
    await expectRight(postgresCoordinator(pool(url)), postgresCoordinator(pool(url)));
    postgres.sql("REVOKE UPDATE ON oauth_refresh_lock FROM app");
    const coordinator = postgresCoordinator(pool(url));
    const key = newKey();
    // A claim whose answer nobody could be told.
    const error = await thrownBy(coordinator.compareAndSwap(key, null, "{}"));
    expect(error.message).toMatch("GRANT SELECT, INSERT, UPDATE");
    expect(await coordinator.load(key)).toBeNull();
  });

  test("gives no version twice, even when a row was deleted against the rules", async () => {
    const coordinator = coordinatorOf();
    const key = newKey();
    const first = await coordinator.compareAndSwap(key, null, "{}");
    postgres.sql(`DELETE FROM oauth_refresh_lock WHERE key = '${key}'`);
    expect(await coordinator.compareAndSwap(key, null, "{}")).not.toBe(first);
  });

  test("has one connection that listens for all waiters, not of the pool, and none afterwards", async () => {
    const made = pool(postgres.url, { max: 1 });
    const coordinator = postgresCoordinator(made);
    const keys = Array.from({ length: 20 }, newKey);
    const versions = [];
    for (const key of keys) versions.push(await coordinator.compareAndSwap(key, null, "1"));
    const waiting = keys.map((key, index) => coordinator.changed(key, versions[index], forever()));
    await expect.poll(() => listening(postgres)).toBe(1);
    expect(made.totalCount).toBe(1);
    const writer = coordinatorOf();
    await Promise.all(keys.map((key, index) => writer.compareAndSwap(key, versions[index], "2")));
    await Promise.all(waiting);
    await expect.poll(() => listening(postgres)).toBe(0);
    expect((await made.query("SELECT count(*)::int AS listens FROM pg_listening_channels()")).rows[0].listens).toBe(0);
  });

  test("leaves no connection when waiters leave, even while it is made", async () => {
    const coordinator = coordinatorOf();
    const key = newKey();
    const version = await coordinator.compareAndSwap(key, null, "1");
    const before = () =>
      Number(postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"));
    const atFirst = before();
    for (const ms of [0, 1, 3, 10, 50]) {
      const abort = new AbortController();
      const waiting = coordinator.changed(key, version, abort.signal);
      await sleep(ms);
      abort.abort();
      await waiting;
    }
    await expect.poll(before).toBe(atFirst);
  });

  test("is told again after the connection that listens broke", async () => {
    const [coordinator, writer] = [coordinatorOf(), coordinatorOf()];
    const key = newKey();
    const version = await coordinator.compareAndSwap(key, null, "1");
    const waiting = coordinator.changed(key, version, forever());
    await expect.poll(() => listening(postgres)).toBe(1);
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'");
    await expect.poll(() => listening(postgres)).toBe(0);
    await expect.poll(() => listening(postgres), { timeout: 20_000 }).toBe(1);
    await writer.compareAndSwap(key, version, "2");
    await waiting;
  });

  test("does not tell a waiter while nothing changes", async () => {
    const coordinator = coordinatorOf();
    const [key, other] = [newKey(), newKey()];
    const version = await coordinator.compareAndSwap(key, null, "1");
    await expectQuiet(coordinator, key, version, () => coordinator.compareAndSwap(other, null, "1"));
  });

  test("tells a waiter of what was written just before it listened", async () => {
    const writer = coordinatorOf();
    // Sooner than it looks by itself.
    await expectSooner(240, async () => {
      const coordinator = coordinatorOf();
      const key = newKey();
      const version = await coordinator.compareAndSwap(key, null, "1");
      await writer.compareAndSwap(key, version, "2");
      const start = performance.now();
      await coordinator.changed(key, version, forever());
      return performance.now() - start;
    });
  });

  test("a connection that breaks in the middle of a statement breaks nothing else", async () => {
    const coordinator = coordinatorOf({ max: 1 });
    const terminate = (stuck) => postgres.sql(`SELECT pg_terminate_backend(pid) ${stuck}`);
    const { key, version } = await breakAStatement(postgres, coordinator, terminate);
    expect(await coordinator.load(key)).toMatchObject({ version, value: "1" });
  });

  test("a pool of which only query and connect are known looks now and then", async () => {
    const made = pool(postgres.url);
    const plain = { query: (query) => made.query(query), connect: () => made.connect() };
    await expectRight(postgresCoordinator(plain));
    expect(listening(postgres)).toBe(0);
  });

  test("a table that is not there is told of, with what creates it", async () => {
    const error = await thrownBy(postgresCoordinator(pool(postgres.url), { table: "absent" }).load(newKey()));
    expect(error.message).toMatch(/"absent": it is not there; create it: CREATE TABLE "absent"/);
    expect(error.cause.code).toBe("42P01");
  });

  test("a table with other columns is told of", async () => {
    postgres.sql("CREATE TABLE other (key text PRIMARY KEY, value text)");
    const error = await thrownBy(postgresCoordinator(pool(postgres.url), { table: "other" }).load(newKey()));
    expect(error.message).toMatch("it has other columns; they must be");
  });

  test("a table in which a key may be twice is refused: each host would have a claim of its own", async () => {
    postgres.sql("CREATE TABLE keyless (key text, rev bigint, value text, at timestamptz)");
    const coordinator = postgresCoordinator(pool(postgres.url), { table: "keyless" });
    const error = await thrownBy(coordinator.compareAndSwap(newKey(), null, "{}"));
    expect(error.message).toMatch(/its column "key" is no primary key; .*PRIMARY KEY/);
  });

  test("a session that only reads is told of", async () => {
    const coordinator = coordinatorOf({ options: "-c default_transaction_read_only=on" });
    const error = await thrownBy(coordinator.compareAndSwap(newKey(), null, "{}"));
    expect(error.message).toMatch("this server only reads; give the address of the primary");
  });

  test("a pool without a free connection is told of in time, and nothing is sent later", async () => {
    const made = pool(postgres.url, { max: 1 });
    const taken = await made.connect();
    const key = newKey();
    const error = await thrownBy(postgresCoordinator(made, { timeoutMs: 200 }).compareAndSwap(key, null, "{}"));
    expect(error.message).toMatch("gave no connection within 200 ms; nothing was sent");
    taken.release();
    await made.query("SELECT 1");
    expect(await coordinatorOf().load(key)).toBeNull();
  });

  test("a row that another transaction holds is waited for no longer than the limit; its connection is not used again", async () => {
    const [holder, made] = [pool(postgres.url), pool(postgres.url, { max: 1 })];
    const [coordinator, hasty] = [postgresCoordinator(made), postgresCoordinator(made, { timeoutMs: 300 })];
    const key = newKey();
    const version = await coordinator.compareAndSwap(key, null, "1");
    const client = await holder.connect();
    await client.query("BEGIN");
    await client.query("UPDATE oauth_refresh_lock SET value = value WHERE key = $1", [key]);
    const error = await thrownBy(hasty.compareAndSwap(key, version, "2"));
    expect(error.message).toMatch("did not answer within 300 ms; whether it was written is unknown");
    expect(made.totalCount).toBe(0);
    await client.query("ROLLBACK");
    client.release();
    // The server goes on with what it was sent: unknown is the word.
    await expect.poll(async () => (await coordinator.load(key)).value).toBe("2");
  });
});

describeWith(["postgres"], "PostgreSQL that fails", () => {
  test("keeps what it acknowledged when it is killed, though its default is to lose it", async () => {
    const settings = { synchronous_commit: "off", wal_writer_delay: "10s", wal_writer_flush_after: 0 };
    const postgres = await own(startWithTable({ settings }));
    const made = pool(postgres.url, { max: 1 });
    const coordinator = postgresCoordinator(made);
    const [created, updated, plain] = [newKey(), newKey(), newKey()];
    let lost = 0;
    // Each round is another chance for the server to write by itself what it did not have to; mostly it does not.
    for (let round = 0; round < 3 || (lost === 0 && round < 10); round++) {
      const before = await coordinator.load(updated);
      const version = await coordinator.compareAndSwap(updated, before?.version ?? null, `"${round}"`);
      await made.query("INSERT INTO oauth_refresh_lock VALUES ($1, 1, '{}')", [`${plain}${round}`]);
      await postgres.kill();
      await postgres.start();
      expect(await coordinator.load(updated)).toMatchObject({ version, value: `"${round}"` });
      if ((await coordinator.load(`${plain}${round}`)) === null) lost += 1;
    }
    // So it is the adapter that kept it.
    expect(lost).toBeGreaterThan(0);
    const version = await coordinator.compareAndSwap(created, null, "{}");
    await postgres.kill();
    await postgres.start();
    expect(await coordinator.load(created)).toMatchObject({ version });
  });

  test("is served by the same coordinator after a restart, and a waiter is told", async () => {
    const postgres = await own(startWithTable());
    const coordinator = postgresCoordinator(pool(postgres.url));
    const key = newKey();
    const version = await coordinator.compareAndSwap(key, null, "1");
    const waiting = coordinator.changed(key, version, forever());
    await postgres.stop();
    const error = await thrownBy(coordinator.load(key));
    expect(error.message).toMatch(/nothing was sent|terminat|ECONN/);
    await postgres.start();
    expect(await coordinator.compareAndSwap(key, version, "2")).toMatch(/^\d+$/);
    await waiting;
  });

  test("is told of when it stands still, in time", async () => {
    const postgres = await own(startWithTable());
    const pooled = pool(postgres.url);
    const patient = postgresCoordinator(pooled);
    await patient.load(newKey());
    await postgres.pause();
    const hasty = postgresCoordinator(pooled, { timeoutMs: 300 });
    const error = await thrownBy(hasty.compareAndSwap(newKey(), null, "{}"));
    expect(error.message).toMatch("within 300 ms");
    postgres.resume();
    expect(await patient.load(newKey())).toBeNull();
  });

  test("and is a read replica refuses to write", async () => {
    const postgres = await own(startWithTable());
    const standby = await own(postgres.standby());
    const error = await thrownBy(postgresCoordinator(pool(standby.url)).compareAndSwap(newKey(), null, "{}"));
    expect(error.message).toMatch(
      "this server only reads; give the address of the primary, not that of a read replica",
    );
  });

  test("shows no password when it refuses one", async () => {
    const postgres = await own(startPostgres({ password: "right" }));
    const coordinator = postgresCoordinator(pool(postgres.url.replace(":right@", ":sesame-wrong@")));
    const error = await thrownBy(coordinator.load(newKey()));
    expect(error.message).toMatch("refuses this user or password");
    expect(JSON.stringify([error.message, error.stack, error.cause, String(error.cause)])).not.toMatch("sesame");
  });
});

describeWith(["postgres", "pgbouncer"], "PostgreSQL behind PgBouncer", () => {
  let postgres;
  beforeAll(async () => {
    postgres = await startWithTable();
    return () => postgres.remove();
  });

  test.each(["transaction", "statement", "session"])("in %s mode keeps a coordinator's rules", async (poolMode) => {
    const bouncer = await own(startPgBouncer(postgres, { poolMode, poolSize: 20 }));
    const one = postgresCoordinator(pool(bouncer.url));
    const notes = await expectRight(one, postgresCoordinator(pool(bouncer.url)));
    expect(notes.told).not.toMatch("not within");
  });

  test("that is killed in the middle of a statement breaks nothing else", async () => {
    const bouncer = await own(startPgBouncer(postgres));
    const coordinator = postgresCoordinator(pool(bouncer.url));
    const { key } = await breakAStatement(postgres, coordinator, () => bouncer.kill());
    await bouncer.start();
    expect((await coordinator.load(key)).value).toMatch(/[12]/);
  });

  test("leaves no LISTEN on a connection that others share", async () => {
    const bouncer = await own(startPgBouncer(postgres, { poolSize: 1 }));
    const made = pool(bouncer.url);
    const coordinator = postgresCoordinator(made);
    const key = newKey();
    const version = await coordinator.compareAndSwap(key, null, "1");
    await expectQuiet(coordinator, key, version);
    expect((await made.query("SELECT pg_listening_channels()")).rows).toEqual([]);
  });

  test("tells a waiter of what was written directly", async () => {
    const bouncer = await own(startPgBouncer(postgres));
    const [one, direct] = [postgresCoordinator(pool(bouncer.url)), postgresCoordinator(pool(postgres.url))];
    const key = newKey();
    const version = await one.compareAndSwap(key, null, "1");
    const waiting = one.changed(key, version, forever());
    await direct.compareAndSwap(key, version, "2");
    await waiting;
  });
});
