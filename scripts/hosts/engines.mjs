/**
 * Real engines for tests: each on loopback, on a free port, with a directory of its own that goes when the engine is stopped.
 * Nothing is installed here. On Debian: apt-get install postgresql etcd-server pgbouncer
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const LOOPBACK = "127.0.0.1";
const START_MS = 60_000;
const STOP_MS = 15_000;
/** Where Debian and others put PostgreSQL's servers. */
const POSTGRES_ROOTS = ["/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt/postgresql"];

/** A program's path, or undefined. */
function find(name) {
  const places = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"];
  return places.map((place) => join(place, name)).find((path) => existsSync(path));
}

/** The directory that has `initdb` and `postgres`, of the newest version. */
function findPostgres() {
  const versions = POSTGRES_ROOTS.filter((root) => existsSync(root)).flatMap((root) =>
    readdirSync(root)
      .sort((one, other) => Number(other) - Number(one))
      .map((version) => join(root, version, "bin")),
  );
  const onPath = find("initdb");
  return [...versions, ...(onPath ? [dirname(onPath)] : [])].find((bin) => existsSync(join(bin, "postgres")));
}

/** What is installed: paths, or undefined. */
export const installed = { postgres: findPostgres(), etcd: find("etcd"), pgbouncer: find("pgbouncer") };

const HOW_TO_INSTALL = {
  postgres: "on Debian: apt-get install postgresql",
  etcd: "on Debian: apt-get install etcd-server",
  pgbouncer: "on Debian: apt-get install pgbouncer",
};

/** Why an engine can't be started here, or undefined. */
export function missing(name) {
  return installed[name] ? undefined : `${name} is not installed; ${HOW_TO_INSTALL[name]}`;
}

function binary(name) {
  const why = missing(name);
  if (why) throw new Error(why);
  return installed[name];
}

export async function freePort() {
  const server = createServer().listen(0, LOOPBACK);
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** PostgreSQL and PgBouncer refuse to run as root. */
function unprivileged() {
  if (process.getuid?.() !== 0) return {};
  for (const user of ["postgres", "nobody"]) {
    const { status, stdout } = spawnSync("id", [user], { encoding: "utf8" });
    const [, uid, gid] = status === 0 ? (/uid=(\d+)\S* gid=(\d+)/.exec(stdout) ?? []) : [];
    if (uid !== undefined) return { uid: Number(uid), gid: Number(gid) };
  }
  throw new Error("PostgreSQL refuses to run as root, and there is no user `postgres` and no user `nobody`");
}

/** @param {{ uid?: number, gid?: number }} owner */
function directory(name, owner = {}) {
  const path = mkdtempSync(join(tmpdir(), `${name}-`));
  if (owner.uid !== undefined) chownSync(path, owner.uid, owner.gid);
  return path;
}

/** A file that the engine alone may read. */
function write(path, text, owner = {}) {
  writeFileSync(path, text, { mode: 0o600 });
  if (owner.uid !== undefined) chownSync(path, owner.uid, owner.gid);
  return path;
}

/** PostgreSQL's backends outlive a postmaster that was killed. */
function childrenOf(pid) {
  if (process.platform !== "linux") return [];
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return new RegExp(`^\\d+ \\(.*\\) \\S ${pid} `, "s").test(readFileSync(`/proc/${name}/stat`, "utf8"));
      } catch {
        return false;
      }
    })
    .map(Number);
}

function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch {
    // It is gone.
  }
}

function isThere(pid) {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** On Linux an engine dies with the process that started it, also where that is killed. */
const DIES_WITH_US = process.platform === "linux" && find("setpriv") ? ["setpriv", "--pdeathsig", "KILL", "--"] : [];

/** Engines that run. None outlives this process. */
const running = new Set();
process.on("exit", () => {
  for (const engine of running) engine.end();
});

/** A server process that can be stopped, killed and started again on the same port, with the same data. */
class Engine {
  #name;
  #command;
  #isReady;
  #stopSignal;
  #child;
  #log = "";
  #dirs;

  /**
   * @param {string} name
   * @param {{ command: () => { file: string, args: string[], options?: object }, isReady: () => Promise<boolean> | boolean,
   *   stopSignal?: NodeJS.Signals, dirs: string[] }} how
   */
  constructor(name, { command, isReady, stopSignal = "SIGTERM", dirs }) {
    this.#name = name;
    this.#command = command;
    this.#isReady = isReady;
    this.#stopSignal = stopSignal;
    this.#dirs = dirs;
    running.add(this);
  }

  get pid() {
    return this.#child?.pid;
  }

  /** What the engine has printed. */
  get log() {
    return this.#log;
  }

  async start() {
    const { file, args, options } = this.#command();
    const [command, ...rest] = [...DIES_WITH_US, file, ...args];
    const child = spawn(command, rest, { stdio: ["ignore", "pipe", "pipe"], ...options });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (text) => {
        this.#log = (this.#log + text).slice(-100_000);
      });
      stream.unref?.();
    }
    let failure;
    child.on("error", (error) => {
      failure = error;
    });
    child.unref();
    for (const end = Date.now() + START_MS; Date.now() < end; await sleep(25)) {
      if (failure || child.exitCode !== null || child.signalCode !== null) break;
      if (await this.#isReady()) return this;
    }
    throw new Error(`${this.#name} did not start: ${failure?.message ?? this.#log.slice(-2_000)}`);
  }

  /** An orderly end. The data stays. */
  async stop() {
    await this.#end(() => signal(this.pid, this.#stopSignal));
  }

  /** As if the machine lost its power, as far as that can be done to processes. The data stays. */
  async kill() {
    if (this.pid === undefined) return;
    // It starts no more processes.
    signal(this.pid, "SIGSTOP");
    const victims = [this.pid, ...childrenOf(this.pid)];
    await this.#end(() => {
      for (const pid of victims) signal(pid, "SIGKILL");
    });
    // Others than this process wait for its children; until they are gone, their memory is in the next server's way.
    for (const end = Date.now() + STOP_MS; victims.some(isThere) && Date.now() < end; ) await sleep(5);
  }

  /** Stands still until `resume`: connections stay open, and nothing is answered. */
  pause() {
    for (const pid of [this.pid, ...childrenOf(this.pid)]) signal(pid, "SIGSTOP");
  }

  resume() {
    for (const pid of [this.pid, ...childrenOf(this.pid)]) signal(pid, "SIGCONT");
  }

  async restart() {
    await this.stop();
    await this.start();
  }

  /** Keeps a copy of a stopped engine's data, owners and times included. */
  backUp() {
    for (const dir of this.#dirs) execFileSync("cp", ["-a", `${dir}/data`, `${dir}/backup`]);
  }

  /** Sets a stopped engine back to that copy. */
  setBack() {
    for (const dir of this.#dirs) {
      rmSync(join(dir, "data"), { recursive: true, force: true });
      execFileSync("cp", ["-a", `${dir}/backup`, `${dir}/data`]);
      rmSync(join(dir, "data", "postmaster.pid"), { force: true });
    }
  }

  /** The engine and its data. */
  async remove() {
    this.resume();
    await this.kill();
    running.delete(this);
    this.#removeData();
  }

  /** The same at this process's end, where nothing can be waited for. */
  end() {
    if (this.pid !== undefined) for (const pid of [this.pid, ...childrenOf(this.pid)]) signal(pid, "SIGKILL");
    this.#removeData();
  }

  #removeData() {
    for (const dir of this.#dirs) rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }

  async #end(ask) {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.ref();
    ask();
    const limit = sleep(STOP_MS, "late", { ref: false });
    if ((await Promise.race([exited, limit])) === "late") {
      for (const pid of [child.pid, ...childrenOf(child.pid)]) signal(pid, "SIGKILL");
      await exited;
    }
  }
}

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

async function canConnect(port) {
  const { connect } = await import("node:net");
  const socket = connect(port, LOOPBACK);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/**
 * @param {object} [options]
 * @param {{ rootPassword: string, users?: Record<string, { password: string, prefix?: string }> }} [options.auth] the users may
 *   read and write what begins with `prefix` alone
 * @param {{ cert: string, key: string, ca?: string }} [options.tls] PEM texts; with `ca` clients need a certificate too
 * @param {string[]} [options.flags]
 */
export async function startEtcd({ auth, tls, flags = [] } = {}) {
  const [engine] = await startEtcdCluster(1, { tls, flags });
  if (auth) await turnAuthOn(engine, auth);
  return engine;
}

/** Members of one cluster, each an engine with an endpoint of its own. */
export async function startEtcdCluster(size, { tls, flags = [] } = {}) {
  const file = binary("etcd");
  const scheme = tls ? "https" : "http";
  const members = [];
  for (let number = 1; number <= size; number++) {
    const dir = directory("etcd");
    // etcd leaves a directory that is there as it is.
    chmodSync(dir, 0o700);
    const [client, peer] = [await freePort(), await freePort()];
    members.push({ name: `member${number}`, dir, client, peer: `http://${LOOPBACK}:${peer}` });
  }
  const cluster = members.map(({ name, peer }) => `${name}=${peer}`).join(",");
  const engines = members.map(({ name, dir, client, peer }) => {
    const endpoint = `${scheme}://${LOOPBACK}:${client}`;
    const args = ["--name", name, "--data-dir", join(dir, "data"), "--logger", "zap", "--initial-cluster", cluster];
    args.push("--listen-client-urls", endpoint, "--advertise-client-urls", endpoint);
    args.push("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer);
    if (tls) {
      args.push(
        "--cert-file",
        write(join(dir, "cert.pem"), tls.cert),
        "--key-file",
        write(join(dir, "key.pem"), tls.key),
      );
      if (tls.ca) args.push("--client-cert-auth", "--trusted-ca-file", write(join(dir, "ca.pem"), tls.ca));
    }
    const engine = new Engine("etcd", {
      command: () => ({ file, args: [...args, ...flags], options: { cwd: dir, env: withoutEtcdSettings() } }),
      isReady: () => (tls || size > 1 ? canConnect(client) : isHealthy(endpoint)),
      dirs: [dir],
    });
    const url = `${tls ? "etcds" : "etcd"}://${LOOPBACK}:${client}`;
    return Object.assign(engine, { endpoint, url, port: client, post: (path, body) => post(endpoint, path, body) });
  });
  await Promise.all(engines.map((engine) => engine.start()));
  if (size > 1 && !tls) for (const { endpoint } of engines) await until(() => isHealthy(endpoint));
  return engines;
}

/** etcd reads its flags from the environment too. */
function withoutEtcdSettings() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("ETCD_")));
}

async function isHealthy(endpoint) {
  try {
    const response = await fetch(`${endpoint}/health`, { signal: AbortSignal.timeout(1_000) });
    return (await response.json()).health === "true";
  } catch {
    return false;
  }
}

async function until(isSo) {
  for (const end = Date.now() + START_MS; !(await isSo()); await sleep(50)) {
    if (Date.now() > end) throw new Error("etcd's members did not find each other");
  }
}

async function post(endpoint, path, body, token) {
  const headers = token === undefined ? {} : { authorization: token };
  const response = await fetch(`${endpoint}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  const text = await response.text();
  if (!response.ok) throw new Error(`etcd's ${path} answered ${response.status}: ${text}`);
  return JSON.parse(text);
}

async function turnAuthOn({ endpoint }, { rootPassword, users = {} }) {
  const base64 = (text) => Buffer.from(text).toString("base64");
  const ask = (path, body) => post(endpoint, `/v3/auth/${path}`, body);
  await ask("user/add", { name: "root", password: rootPassword });
  await ask("role/add", { name: "root" });
  await ask("user/grant", { user: "root", role: "root" });
  for (const [name, { password, prefix }] of Object.entries(users)) {
    await ask("user/add", { name, password });
    if (prefix === undefined) continue;
    await ask("role/add", { name });
    // The first key that does not begin with the prefix: its last byte one higher.
    const end = Buffer.from(prefix);
    end[end.length - 1] += 1;
    const perm = { permType: "READWRITE", key: base64(prefix), range_end: end.toString("base64") };
    await ask("role/grant", { name, perm });
    await ask("user/grant", { user: name, role: name });
  }
  await ask("enable", {});
}
