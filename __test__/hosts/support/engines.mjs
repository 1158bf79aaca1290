/** PostgreSQL and etcd as the scenarios need them: the same questions to both, past the product. */
import { hkdfSync } from "node:crypto";
import pg from "pg";
import postgres from "../../../lib/coordinators/postgres.js";
import { startEtcd, startPostgres } from "../../../scripts/hosts/engines.mjs";

const TABLE = "oauth_refresh_lock";
const PREFIX = "oauth-refresh-lock/";

/** The name of a refresh token's row, as docs/formats.md has it. */
export function rowOf(refresh) {
  return Buffer.from(hkdfSync("sha256", refresh, "oauth-refresh-lock/1", "row", 32)).toString("hex");
}

export function startEngine(name, options) {
  return name === "postgres" ? startPostgresEngine(options) : startEtcdEngine(options);
}

async function startPostgresEngine(options) {
  const server = await startPostgres(options);
  const address = (port = server.port) => ({ postgres: server.url.replace(`:${server.port}/`, `:${port}/`) });
  const ask = async (text, values) => {
    const client = new pg.Client({ connectionString: server.url });
    await client.connect();
    try {
      return (await client.query(text, values)).rows;
    } finally {
      await client.end();
    }
  };
  await ask(postgres.postgresSchema());
  return Object.assign(server, {
    name: "postgres",
    address,
    ask,
    rows: () => ask(`SELECT key, value FROM ${TABLE} ORDER BY key`),
    load: async (key) => (await ask(`SELECT value FROM ${TABLE} WHERE key = $1`, [key]))[0]?.value,
    put: (key, value) =>
      ask(
        `INSERT INTO ${TABLE} (key, rev, value) VALUES ($1, 1, $2) ON CONFLICT (key) DO UPDATE SET rev = ${TABLE}.rev + 1, value = $2`,
        [key, value],
      ),
    forget: (key) => ask(`DELETE FROM ${TABLE} WHERE key = $1`, [key]),
    /** As if all had been written so much earlier. */
    age: (ms) => ask(`UPDATE ${TABLE} SET at = at - $1 * interval '1 ms'`, [ms]),
    /** Every byte that a thief of the engine gets. */
    dump: async () => JSON.stringify(await ask(`SELECT * FROM ${TABLE}`)),
  });
}

async function startEtcdEngine(options) {
  const server = await startEtcd(options);
  return Object.assign(server, etcdQuestions(server));
}

/** For one member, or several of a cluster. */
export function etcdQuestions(server) {
  const base64 = (text) => Buffer.from(text).toString("base64");
  const plain = (text) => Buffer.from(text, "base64").toString();
  const range = async () => {
    const answer = await server.post("/v3/kv/range", { key: base64(PREFIX), range_end: base64("oauth-refresh-lock0") });
    return answer.kvs ?? [];
  };
  const rows = async () =>
    (await range()).map(({ key, value = "" }) => ({ key: plain(key).slice(PREFIX.length), value: plain(value) }));
  return {
    name: "etcd",
    address: (port = server.port) => ({ etcd: `http://127.0.0.1:${port}` }),
    rows,
    load: async (key) => (await rows()).find((row) => row.key === key)?.value,
    put: (key, value) => server.post("/v3/kv/put", { key: base64(PREFIX + key), value: base64(value) }),
    forget: (key) => server.post("/v3/kv/deleterange", { key: base64(PREFIX + key) }),
    /** It tells no age: hosts count from their first look. */
    age: async () => {},
    dump: async () => JSON.stringify(await range()) + JSON.stringify(await rows()),
  };
}
