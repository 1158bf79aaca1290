/** PostgreSQL and PgBouncer for tests. */
import { execFileSync, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { binary, canConnect, directory, Engine, freePort, LOOPBACK, unprivileged, write } from "./engine.mjs";

/**
 * @param {object} [options]
 * @param {Record<string, string | number>} [options.settings] for postgresql.conf
 * @param {string} [options.password] of the user `postgres`, by SCRAM; without it everyone on loopback is let in
 * @param {{ cert: string, key: string }} [options.tls] PEM texts; then clients may use TLS
 * @param {string} [options.from] the URL of the server that this one is to be a read replica of
 */
export async function startPostgres({ settings = {}, password, tls, from } = {}) {
  const bin = binary("postgres");
  const owner = unprivileged();
  const dir = directory("postgres", owner);
  const data = join(dir, "data");
  const port = await freePort();
  const run = (file, args) =>
    execFileSync(join(bin, file), args, { ...owner, cwd: dir, stdio: ["ignore", "pipe", "pipe"] });
  if (from === undefined) {
    const method = password === undefined ? "trust" : "scram-sha-256";
    const secret = password === undefined ? [] : [`--pwfile=${write(join(dir, "password"), password, owner)}`];
    run("initdb", [
      "-D",
      data,
      "-U",
      "postgres",
      "-E",
      "UTF8",
      "--locale=C",
      `--auth=${method}`,
      "--no-sync",
      ...secret,
    ]);
  } else {
    run("pg_basebackup", ["-D", data, "-d", from, "-R", "-X", "stream", "--checkpoint=fast", "--no-sync"]);
  }
  const all = {
    listen_addresses: LOOPBACK,
    port,
    unix_socket_directories: dir,
    shared_buffers: "32MB",
    // In files of its own directory: in memory, a server that is killed would leave half a megabyte each time.
    dynamic_shared_memory_type: "mmap",
    max_connections: 100,
    ...settings,
  };
  if (tls) {
    all.ssl = "on";
    all.ssl_cert_file = write(join(dir, "cert.pem"), tls.cert, owner);
    all.ssl_key_file = write(join(dir, "key.pem"), tls.key, owner);
  }
  const lines = Object.entries(all).map(([name, value]) => `${name} = '${value}'\n`);
  writeFileSync(join(data, "postgresql.conf"), lines.join(""), { flag: "a" });
  const secret = password === undefined ? "" : `:${encodeURIComponent(password)}`;
  const url = `postgres://postgres${secret}@${LOOPBACK}:${port}/postgres`;
  const ready = () =>
    spawnSync(join(bin, "pg_isready"), ["-q", "-h", LOOPBACK, "-p", port, "-U", "postgres"]).status === 0;
  const engine = new Engine("PostgreSQL", {
    command: () => ({ file: join(bin, "postgres"), args: ["-D", data], options: { ...owner, cwd: dir } }),
    isReady: ready,
    stopSignal: "SIGINT",
    dirs: [dir],
  });
  await engine.start();
  return Object.assign(engine, {
    url,
    port,
    /** Runs SQL and returns what psql prints. */
    sql: (text, as = url) =>
      execFileSync(join(bin, "psql"), ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", as, "-c", text], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "pipe"],
      }).trim(),
    /** A read replica, by streaming replication. */
    standby: (more = {}) => startPostgres({ settings: more, password, from: url }),
  });
}

/**
 * PgBouncer before a PostgreSQL that lets everyone in.
 *
 * @param {{ port: number }} postgres
 * @param {{ poolMode?: "transaction" | "session" | "statement", poolSize?: number }} [options]
 */
export async function startPgBouncer(postgres, { poolMode = "transaction", poolSize = 5 } = {}) {
  const file = binary("pgbouncer");
  const owner = unprivileged();
  const dir = directory("pgbouncer", owner);
  const port = await freePort();
  const users = write(join(dir, "users"), '"postgres" ""\n', owner);
  const config = `[databases]
* = host=${LOOPBACK} port=${postgres.port}
[pgbouncer]
listen_addr = ${LOOPBACK}
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
pool_mode = ${poolMode}
default_pool_size = ${poolSize}
max_client_conn = 100
`;
  const ini = write(join(dir, "pgbouncer.ini"), config, owner);
  const engine = new Engine("PgBouncer", {
    command: () => ({ file, args: [ini], options: { ...owner, cwd: dir } }),
    isReady: () => canConnect(port),
    stopSignal: "SIGTERM",
    dirs: [dir],
  });
  await engine.start();
  return Object.assign(engine, { port, url: `postgres://postgres@${LOOPBACK}:${port}/postgres` });
}
