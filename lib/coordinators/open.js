const args = require("../arguments.js");

/** Connections to PostgreSQL of a process that gave a URL and no pool. */
const POOL_SIZE = 4;
const CONNECT_MS = 5_000;
const IDLE_MS = 10_000;
const ETCD_PORT = 2379;
/** `etcd://user:password@host:port,host:port` */
const ETCD_URL = /^(etcds?):\/\/(?:([^@/]*)@)?([^@/?#]+)\/?$/;

/** One for each URL: they have connections. */
const opened = new Map();

/**
 * The coordinator that a URL names: `postgres://…` or `postgresql://…` (with the program's own package `pg`), `etcd://host:port,…`,
 * `etcds://…` by TLS.
 *
 * @param {string} url it may have a password in it, and is never shown
 */
function openCoordinator(url) {
  const found = opened.get(args.text("coordinator", url));
  if (found) return found;
  const coordinator = open(url);
  opened.set(url, coordinator);
  return coordinator;
}

function open(url) {
  if (/^postgres(ql)?:\/\//.test(url)) return openPostgres(url);
  if (/^etcds?:\/\//.test(url)) return openEtcd(url);
  throw args.invalid('coordinator must begin with "postgres://", "etcd://" or "etcds://", or be an object');
}

function openPostgres(url) {
  const { hostname, searchParams, username, password, pathname, hash } = URL.canParse(url) ? new URL(url) : {};
  const isCut = hash !== "" || pathname.includes("@");
  if (searchParams === undefined || isCut || (hostname === "" && !searchParams.has("host"))) {
    throw args.invalid(
      'coordinator must be like "postgres://user:password@host:5432/database"; percent-encode the password',
    );
  }
  decoded(username);
  decoded(password);
  const { Client, Pool } = loadPg();
  const pool = new Pool({
    Client: closing(Client),
    connectionString: url,
    max: POOL_SIZE,
    connectionTimeoutMillis: CONNECT_MS,
    idleTimeoutMillis: IDLE_MS,
    allowExitOnIdle: true,
    application_name: "oauth-refresh-lock",
  });
  // A connection that breaks while idle is replaced when one is needed.
  pool.on("error", () => {});
  return require("./postgres.js").postgresCoordinator(pool);
}

/** A pool forgets a client that could not connect, for want of a password, say; the server would keep its connection for a minute. */
const closing = (Client) =>
  class extends Client {
    connect(callback) {
      const close = () => this.connection?.stream?.destroy();
      if (callback === undefined) {
        return super.connect().catch((error) => {
          close();
          throw error;
        });
      }
      return super.connect((error, client) => {
        if (error) close();
        callback(error, client);
      });
    }
  };

function loadPg() {
  try {
    return require("pg");
  } catch (cause) {
    if (cause?.code !== "MODULE_NOT_FOUND") throw cause;
    const message = 'a coordinator "postgres://…" needs the package "pg"; install it beside this one: npm install pg';
    throw Object.assign(args.invalid(message), { cause });
  }
}

function openEtcd(url) {
  const [, scheme, login, hosts] = ETCD_URL.exec(url) ?? [];
  const endpoints = hosts?.split(",").map((host) => {
    const port = /:\d+$/.test(host) ? "" : `:${ETCD_PORT}`;
    return `${scheme === "etcds" ? "https" : "http"}://${host}${port}`;
  });
  if (!endpoints?.every((endpoint) => URL.canParse(endpoint) && new URL(endpoint).pathname === "/")) {
    throw args.invalid(
      'coordinator must be like "etcd://user:password@host:2379,host:2379"; percent-encode the password',
    );
  }
  return require("./etcd.js").etcdCoordinator(endpoints, credentials(login));
}

function credentials(login) {
  if (login === undefined) return {};
  const [username, ...rest] = login.split(":");
  return { username: decoded(username), password: decoded(rest.join(":")) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    throw args.invalid("coordinator has a user or password that is not percent-encoded");
  }
}

module.exports = { openCoordinator };
