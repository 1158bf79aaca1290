/** A host of the chaos: the stores of several agents, with foreign profiles in them; as root, on a small disk of its own. */
import { spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";

/** Room for some journals, and soon full. */
const DISK_BYTES = 6 << 20;
/** What no writer may change, spelled as a careless one would not leave it. */
const FOREIGN = `"other:key": { "type":"api_key",  "key": "k\\u0065pt", "quota": 9007199254740993, "rate": 1.50 }`;

export const canMount = process.platform === "linux" && process.getuid() === 0;

const mounted = new Set();
const unmount = (directory) => spawnSync("umount", ["--lazy", directory], { stdio: "ignore" });
process.once("exit", () => mounted.forEach(unmount));

const mount = (...args) => spawnSync("mount", args, { stdio: "ignore" }).status === 0;

export class Machine {
  #host;
  /** By agent: its store as it was at the beginning. */
  #copies = new Map();

  /** @param {import("../../__test__/hosts/support/world.mjs").Host} host */
  constructor(host) {
    this.#host = host;
  }

  get link() {
    return this.#host.link;
  }

  get stateDir() {
    return this.#host.stateDir;
  }

  useSmallDisk() {
    this.isMounted = canMount && mount("-t", "tmpfs", "-o", `size=${DISK_BYTES},mode=700`, "tmpfs", this.stateDir);
    if (this.isMounted) mounted.add(this.stateDir);
  }

  storeFile(agent) {
    return join(this.stateDir, "agents", agent, "agent", "auth-profiles.json");
  }

  /** Every agent has the login, by each of these names. */
  put({ access, refresh }, agents, names) {
    for (const agent of agents) {
      const login = JSON.stringify({ type: "oauth", provider: "acme", access, refresh, expires: Date.now() - 1_000 });
      const text = `{"version": 1.0, "profiles": {${FOREIGN}, ${names.map((name) => `"${name}": ${login}`).join(", ")}} }\n`;
      mkdirSync(dirname(this.storeFile(agent)), { recursive: true, mode: 0o700 });
      writeFileSync(this.storeFile(agent), text, { mode: 0o600 });
      this.#copies.set(agent, text);
    }
  }

  /** Brings back a store as it was at the beginning, as a backup's program does. */
  restore(agent) {
    writeFileSync(`${this.storeFile(agent)}.backup`, this.#copies.get(agent), { mode: 0o600 });
    renameSync(`${this.storeFile(agent)}.backup`, this.storeFile(agent));
  }

  removeSidecars() {
    const locks = join(this.stateDir, "locks");
    if (!existsSync(locks)) return;
    for (const name of readdirSync(locks, { recursive: true }))
      if (name.endsWith(".lock")) rmSync(join(locks, name), { force: true });
  }

  /** @returns {boolean} whether its disk is full now */
  fillDisk() {
    const file = openSync(join(this.stateDir, "filler"), "w");
    try {
      for (const bytes of [1 << 16, 1]) {
        try {
          while (true) writeSync(file, Buffer.alloc(bytes));
        } catch (error) {
          if (error.code !== "ENOSPC") throw error;
        }
      }
      return true;
    } finally {
      closeSync(file);
    }
  }

  makeRoom() {
    rmSync(join(this.stateDir, "filler"), { force: true });
  }

  /** @returns {boolean} whether it could be: not while a file is open for writing */
  makeReadOnly() {
    return mount("-o", "remount,ro", this.stateDir);
  }

  makeWritable() {
    mount("-o", "remount,rw", this.stateDir);
  }

  /** The refresh tokens in a store. */
  tokens(agent) {
    return existsSync(this.storeFile(agent))
      ? readFileSync(this.storeFile(agent), "utf8").match(/refresh-\w+-\d+/g)
      : null;
  }

  /** What is wrong with its stores. */
  faults(agents) {
    return agents.flatMap((agent) => {
      if (!existsSync(this.storeFile(agent))) return [`the store of ${agent} is gone`];
      const text = readFileSync(this.storeFile(agent), "utf8");
      try {
        JSON.parse(text);
      } catch (error) {
        return [`the store of ${agent} is not JSON: ${error.message}`];
      }
      return text.includes(FOREIGN) ? [] : [`foreign bytes of the store of ${agent} are gone: ${text}`];
    });
  }

  remove() {
    if (mounted.delete(this.stateDir)) unmount(this.stateDir);
    this.#host.remove();
  }
}
