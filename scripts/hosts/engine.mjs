/**
 * What the engines of tests share: each is on loopback, on a free port, with a directory of its own that goes when it is stopped.
 * Nothing is installed here. On Debian: apt-get install postgresql etcd-server pgbouncer
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { hasStopped } from "../stopped.mjs";

export const LOOPBACK = "127.0.0.1";
export const START_MS = 60_000;
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
const installed = { postgres: findPostgres(), etcd: find("etcd"), pgbouncer: find("pgbouncer") };

const HOW_TO_INSTALL = {
  postgres: "on Debian: apt-get install postgresql",
  etcd: "on Debian: apt-get install etcd-server",
  pgbouncer: "on Debian: apt-get install pgbouncer",
};

/** Why an engine can't be started here, or undefined. */
export function missing(name) {
  return installed[name] ? undefined : `${name} is not installed; ${HOW_TO_INSTALL[name]}`;
}

export function binary(name) {
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
export function unprivileged() {
  if (process.getuid?.() !== 0) return {};
  for (const user of ["postgres", "nobody"]) {
    const { status, stdout } = spawnSync("id", [user], { encoding: "utf8" });
    const [, uid, gid] = status === 0 ? (/uid=(\d+)\S* gid=(\d+)/.exec(stdout) ?? []) : [];
    if (uid !== undefined) return { uid: Number(uid), gid: Number(gid) };
  }
  throw new Error("PostgreSQL refuses to run as root, and there is no user `postgres` and no user `nobody`");
}

/** @param {{ uid?: number, gid?: number }} owner */
export function directory(name, owner = {}) {
  const path = mkdtempSync(join(tmpdir(), `${name}-`));
  if (owner.uid !== undefined) chownSync(path, owner.uid, owner.gid);
  return path;
}

/** A file that the engine alone may read. */
export function write(path, text, owner = {}) {
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

/** Returns when they stand still. */
async function stop(pids) {
  for (const pid of pids) signal(pid, "SIGSTOP");
  await Promise.all(pids.map(hasStopped));
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
export class Engine {
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
    await stop([this.pid]);
    const victims = [this.pid, ...childrenOf(this.pid)];
    await this.#end(() => {
      for (const pid of victims) signal(pid, "SIGKILL");
    });
    // Others than this process wait for its children; until they are gone, their memory is in the next server's way.
    for (const end = Date.now() + STOP_MS; victims.some(isThere) && Date.now() < end; ) await sleep(5);
  }

  /** Stands still until `resume`: connections stay open, and nothing is answered. */
  async pause() {
    await stop([this.pid]);
    await stop(childrenOf(this.pid));
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
    // A PostgreSQL that is killed leaves its shared memory in the kernel.
    await this.stop();
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

/** Whether somebody listens there. */
export async function canConnect(port) {
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
