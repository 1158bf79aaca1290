const args = require("../arguments.js");
const { startLimit, within } = require("./limit.js");
const { CHANNEL, PostgresListener } = require("./postgres-listener.js");
const { untilChanged } = require("./until-changed.js");

const OPTIONS = ["table", "timeoutMs"];
const DEFAULT_TABLE = "oauth_refresh_lock";
const DEFAULT_TIMEOUT_MS = 5_000;
/** How long a waiter listens before it looks; through a pooler it hears nothing. */
const FIRST_LOOK_MS = 250;
const LAST_LOOK_MS = 5_000;
const LOOK_AT_IT = "see that the server runs and can be reached";
/** A table's name, perhaps with its schema, as PostgreSQL keeps it: at most 63 bytes each. */
const IDENTIFIER = /^[A-Za-z_][A-Za-z0-9_$]{0,62}$/;
/** The server undid the statement, as another one was in its way: `serialization_failure`, `deadlock_detected`. */
const UNDONE = ["40001", "40P01"];

/** What a table needs. Rows are never deleted: that would make a spent refresh token sendable again. */
function postgresSchema(table = DEFAULT_TABLE) {
  return (
    `CREATE TABLE ${table} (key text PRIMARY KEY, rev bigint NOT NULL, value text NOT NULL, ` +
    "at timestamptz NOT NULL DEFAULT clock_timestamp());"
  );
}

/**
 * Each step is one statement, so that it works through any pooler. A revision is the server's time in microseconds, and always more
 * than the last one: a table that was set back to a backup never gives one for the second time.
 */
function statements(table) {
  const now = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
  // The commit waits for the disk, whatever the database's default is; and then the others hear of it.
  const told =
    "SELECT rev::text AS rev, set_config('synchronous_commit', 'on', true), " +
    `pg_notify('${CHANNEL}', $1 || ' ' || rev) FROM put`;
  // A user that could claim, and not tell the answer, is refused before the provider is asked.
  const mayUpdate = `may AS (UPDATE ${table} SET rev = rev, value = value, at = at WHERE false)`;
  return {
    load:
      "SELECT rev::text AS rev, value, (greatest(extract(epoch FROM clock_timestamp() - at), 0) * 1000)::text AS age " +
      `FROM ${table} WHERE key = $1`,
    // With the column: a table without a key on it is refused, as two hosts would each get a row.
    // Not DO UPDATE … WHERE false: that locks rows, and a row that is newer than the snapshot would be neither inserted nor seen.
    insert:
      `WITH put AS (INSERT INTO ${table} (key, rev, value, at) VALUES ($1, ${now}, $2, clock_timestamp()) ` +
      `ON CONFLICT (key) DO NOTHING RETURNING rev), ${mayUpdate} ${told}`,
    // What a claim needs, without a row.
    nothing:
      `WITH ${mayUpdate} INSERT INTO ${table} (key, rev, value, at) ` +
      "SELECT '', 0, '', clock_timestamp() WHERE false ON CONFLICT (key) DO NOTHING",
    update:
      `WITH put AS (UPDATE ${table} SET rev = greatest(rev + 1, ${now}), value = $2, at = clock_timestamp() ` +
      `WHERE key = $1 AND rev::text = $3 RETURNING rev) ${told}`,
  };
}

/**
 * A coordinator over the host program's own pool of `pg`.
 *
 * @param {import("pg").Pool} pool
 * @param {{ table?: string, timeoutMs?: number }} [given]
 */
function postgresCoordinator(pool, given) {
  const { table = DEFAULT_TABLE, timeoutMs } = args.optionsObject(given, "options", OPTIONS);
  if (typeof pool?.query !== "function" || typeof pool.connect !== "function") {
    throw args.invalid(`pool must be a Pool of the package "pg", not ${args.kind(pool)}`);
  }
  const limitMs = args.delay("timeoutMs", timeoutMs, { fallback: DEFAULT_TIMEOUT_MS });
  return new PostgresCoordinator(pool, checkedTable(table), limitMs);
}

/** The name in quotes: nothing else can be injected with it, and capitals stay what they are. */
function checkedTable(table) {
  const parts = args.text("table", table).split(".");
  if (parts.length > 2 || !parts.every((part) => IDENTIFIER.test(part))) {
    throw args.invalid('table must be a table\'s name, or "schema.name", of letters, digits and underscores');
  }
  return parts.map((part) => `"${part}"`).join(".");
}

class PostgresCoordinator {
  name = "postgres";
  #pool;
  #table;
  #sql;
  #timeoutMs;
  #listener;

  constructor(pool, table, timeoutMs) {
    this.#pool = pool;
    this.#table = table;
    this.#sql = statements(table);
    this.#timeoutMs = timeoutMs;
    this.#listener = new PostgresListener(pool, timeoutMs);
  }

  async load(key) {
    const [row] = await this.#ask("read", this.#sql.load, [key]);
    if (row === undefined) return null;
    const { rev, value, age } = row;
    const ageMs = Number(age);
    if (!isRevision(rev) || typeof value !== "string" || !(ageMs >= 0)) throw this.#nonsense();
    return { version: rev, value, ageMs };
  }

  async compareAndSwap(key, expected, value) {
    const rows =
      expected === null
        ? await this.#ask("write", this.#sql.insert, [key, value])
        : await this.#ask("write", this.#sql.update, [key, value, expected]);
    if (rows.length === 0) return null;
    if (!isRevision(rows[0]?.rev)) throw this.#nonsense();
    return rows[0].rev;
  }

  /** Fails as a claim would, and writes nothing. */
  async tryToCreate() {
    await this.#ask("write", this.#sql.nothing, []);
  }

  async changed(key, version, signal) {
    const ear = this.#listener.open(key, version);
    try {
      await untilChanged({
        listen: (turn) => ear.next(turn),
        isChanged: async () => (await this.load(key))?.version !== version,
        firstMs: FIRST_LOOK_MS,
        lastMs: LAST_LOOK_MS,
        signal,
      });
    } finally {
      ear.close();
    }
  }

  /** Runs one statement on one of the pool's connections and returns its rows. */
  async #ask(step, text, values) {
    const limit = startLimit(this.#timeoutMs);
    for (;;) {
      const client = await this.#connect(step, limit);
      try {
        return await this.#send(client, { text, values }, limit);
      } catch (error) {
        if (UNDONE.includes(error?.code) && limit.left() > 0) continue;
        if (isFromServer(error)) throw this.#failure(step, error);
        throw this.#failure(step, error, step === "write" ? "whether it was written is unknown" : LOOK_AT_IT);
      }
    }
  }

  async #connect(step, limit) {
    try {
      const connecting = take(this.#pool);
      // What has not been sent when the time is up is never sent.
      return await within(limit.left(), connecting, () => tooLate("gave no connection", limit), free);
    } catch (error) {
      throw this.#failure(step, error, `nothing was sent; ${LOOK_AT_IT}`);
    }
  }

  async #send(client, query, limit) {
    let broken;
    try {
      const answering = Promise.resolve(client.query(query));
      const answer = await within(limit.left(), answering, () => tooLate("did not answer", limit));
      if (!Array.isArray(answer?.rows)) throw this.#nonsense();
      return answer.rows;
    } catch (error) {
      // An error that the server sent leaves its connection whole.
      if (!isFromServer(error)) broken = error;
      throw error;
    } finally {
      free(client, broken);
    }
  }

  #nonsense() {
    return new Error(
      `The PostgreSQL coordinator's answer is not that of a table ${this.#table}; its columns must be: ${postgresSchema(this.#table)}`,
    );
  }

  /** What failed, and what to do. The pool's own errors have no password in them. */
  #failure(step, error, otherwise) {
    const [what, advice = otherwise] = explain(error, this.#table);
    const then = advice === undefined ? "" : `; ${advice}`;
    return new Error(`The PostgreSQL coordinator could not ${step} the table ${this.#table}: ${what}${then}`, {
      cause: error,
    });
  }
}

/** What happened, and what to do about it. */
function explain(error, table) {
  switch (error?.code) {
    case "25006":
      return ["this server only reads", "give the address of the primary, not that of a read replica"];
    case "42P01":
    case "3F000":
      return ["it is not there", `create it: ${postgresSchema(table)}`];
    case "42501":
      return ["this user has no right to do so", `grant them: GRANT SELECT, INSERT, UPDATE ON ${table} TO …;`];
    case "42P10":
      return ['its column "key" is no primary key', `create it anew: ${postgresSchema(table)}`];
    case "42703":
    case "42804":
      return ["it has other columns", `they must be: ${postgresSchema(table)}`];
    case "28P01":
    case "28000":
      return ["the server refuses this user or password", "compare the pool's user and password with the server's"];
    case "3D000":
      return ["there is no such database", "compare the pool's database with the server's"];
    case "53300":
      return ["the server has no connection left", "raise its max_connections, or use a pooler such as PgBouncer"];
    case "57P03":
      return ["the server is starting or stopping"];
    default:
      if (/client password must be|must be a non-empty string/.test(error?.message)) {
        return ["it asks for a password, and none was given", "name it in the address, in PGPASSWORD, or to your pool"];
      }
      return [error?.message || String(error?.code ?? error)];
  }
}

function tooLate(what, { ms }) {
  return new Error(`it ${what} within ${ms} ms`);
}

/** Whether it is the server's answer, after which the connection is whole and nothing was written; not that it shuts down. */
function isFromServer(error) {
  return typeof error?.severity === "string" && /^[0-9A-Z]{5}$/.test(error.code ?? "") && !error.code.startsWith("57P");
}

function isRevision(rev) {
  return typeof rev === "string" && /^\d{1,19}$/.test(rev);
}

/**
 * One of the pool's connections. Without a listener, one that breaks would end the process; and it may break in the same turn of the
 * event loop, before a promise of it resolves.
 */
function take(pool) {
  return new Promise((resolve, reject) => {
    const listen = (client) => {
      client.on?.("error", ignore);
      resolve(client);
    };
    const promised = pool.connect((error, client) => (error ? reject(error) : listen(client)));
    // A pool of another make.
    if (promised !== undefined) Promise.resolve(promised).then(listen, reject);
  });
}

function free(client, broken) {
  client.release(broken);
  // One that is broken is being closed, by nobody who listens: its last words would end the process.
  if (broken === undefined) client.removeListener?.("error", ignore);
}

function ignore() {}

module.exports = { postgresCoordinator, postgresSchema };
