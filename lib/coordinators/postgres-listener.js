const { aborted } = require("./until-changed.js");

/** For every table: a key is in one table only. */
const CHANNEL = "oauth_refresh_lock";
/** How long to wait before a broken connection is made anew. Waiters look by themselves meanwhile. */
const RECONNECT_MS = 2_000;

/**
 * Hears which rows change, on one connection for all waiters. It is not one of the pool's: a pool is small, and a connection that
 * listens must not go back to it. It is there only while somebody waits, and never keeps the process from exiting.
 */
class PostgresListener {
  #pool;
  #timeoutMs;
  /** @type {Set<Ear>} */
  #ears = new Set();
  #client;
  #timer;
  #isDeaf;

  /** @param {import("pg").Pool} pool */
  constructor(pool, timeoutMs) {
    this.#pool = pool;
    this.#timeoutMs = timeoutMs;
    this.#isDeaf = typeof pool.Client !== "function";
  }

  /** Begins to listen for a row of another version. */
  open(key, version) {
    const ear = new Ear(key, version, () => this.#close(ear));
    this.#ears.add(ear);
    this.#connect();
    return ear;
  }

  #close(ear) {
    this.#ears.delete(ear);
    if (this.#ears.size === 0) this.#disconnect();
  }

  #connect() {
    if (this.#isDeaf || this.#client || this.#timer) return;
    let client;
    try {
      client = new this.#pool.Client(listenerOptions(this.#pool.options, this.#timeoutMs));
    } catch {
      this.#isDeaf = true;
      return;
    }
    this.#client = client;
    const lost = () => this.#lost(client);
    client.on("error", lost);
    client.on("end", lost);
    client.on("notification", ({ payload }) => this.#tell(payload));
    const connecting = client.connect();
    client.unref?.();
    Promise.resolve(connecting)
      .then(() => this.#listen(client))
      .catch(lost);
  }

  async #listen(client) {
    const { rows } = await client.query("SELECT pg_backend_pid() AS pid");
    // A pooler gives its clients process ids of its own. It may send each statement to another server connection: LISTEN would be
    // heard of by nobody, and stay on a connection that others use.
    if (rows[0]?.pid !== client.processID) {
      this.#isDeaf = true;
      this.#disconnect();
      return;
    }
    await client.query(`LISTEN ${CHANNEL}`);
    // What changed before nobody has heard.
    for (const ear of this.#ears) ear.tell("look");
  }

  #tell(payload) {
    const [key, version] = (payload ?? "").split(" ");
    for (const ear of this.#ears) if (ear.key === key && ear.version !== version) ear.tell("changed");
  }

  #lost(client) {
    if (this.#client !== client) return;
    this.#disconnect();
    if (this.#ears.size === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#connect();
    }, RECONNECT_MS).unref();
  }

  #disconnect() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const client = this.#client;
    this.#client = undefined;
    // Nobody waits for its goodbye.
    if (client) Promise.resolve(client.end()).catch(() => {});
  }
}

/** The pool's own options, with a time limit. The password is there, but not enumerable. */
function listenerOptions(options, timeoutMs) {
  return {
    ...options,
    password: options.password,
    connectionTimeoutMillis: timeoutMs,
    query_timeout: timeoutMs,
    keepAlive: true,
  };
}

/** One waiter's. */
class Ear {
  #news = "nothing";
  #wake = () => {};

  constructor(key, version, close) {
    this.key = key;
    this.version = version;
    this.close = close;
  }

  tell(news) {
    if (this.#news !== "changed") this.#news = news;
    this.#wake();
  }

  /** What was heard since the last time, or will be heard until the signal aborts. */
  async next(signal) {
    if (this.#news === "nothing") {
      const told = new Promise((resolve) => {
        this.#wake = resolve;
      });
      await Promise.race([told, aborted(signal)]);
    }
    const news = this.#news;
    this.#news = "nothing";
    return news;
  }
}

module.exports = { CHANNEL, PostgresListener };
