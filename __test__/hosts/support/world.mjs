/** Hosts that share a grant by an engine. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent } from "./agents.mjs";
import { startLink } from "./link.mjs";

const PROFILE = "acme:main";

/** A machine: its state directory, and its line to the engine. */
export class Host {
  #link;

  constructor(link) {
    this.#link = link;
    this.stateDir = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-host-"));
    this.storeFile = join(this.stateDir, "agents", "main", "agent", "auth-profiles.json");
    mkdirSync(join(this.stateDir, "agents", "main", "agent"), { recursive: true, mode: 0o700 });
  }

  /** The line to the engine. */
  get link() {
    return this.#link;
  }

  /** A login, or one that has come from elsewhere. */
  put({ access, refresh }, { profileId = PROFILE, expires = Date.now() - 1_000, ...more } = {}) {
    const profiles = existsSync(this.storeFile) ? JSON.parse(readFileSync(this.storeFile, "utf8")).profiles : {};
    profiles[profileId] = { type: "oauth", provider: "acme", access, refresh, expires, ...more };
    writeFileSync(this.storeFile, JSON.stringify({ version: 1, profiles }), { mode: 0o600 });
  }

  /** The access token expires. */
  expire(profileId = PROFILE) {
    this.put(this.credential(profileId), { profileId });
  }

  logOut() {
    writeFileSync(this.storeFile, JSON.stringify({ version: 1, profiles: {} }), { mode: 0o600 });
  }

  credential(profileId = PROFILE) {
    return JSON.parse(readFileSync(this.storeFile, "utf8")).profiles[profileId];
  }

  bytes() {
    return readFileSync(this.storeFile, "utf8");
  }

  /** The machine is gone, with its disk. */
  remove() {
    this.#link?.close();
    try {
      rmSync(this.stateDir, { recursive: true, force: true, maxRetries: 5 });
    } catch {
      // An agent is making files there. It is removed once more when the world closes.
    }
  }
}

/** One for all tests of a `describe`. Its agents live as long, unless a test kills them. */
export class World {
  /** @type {Agent[]} */
  #idle = [];
  #agents = new Set();
  #hosts = new Set();

  /**
   * @param [engine] what the hosts share, if they do
   * @param {{ module?: string, env?: object, node?: string }} [options] what agents are run with
   */
  constructor(engine, provider, { module, env, node } = {}) {
    this.engine = engine;
    this.provider = provider;
    this.module = module;
    this.env = env;
    this.node = node;
  }

  /** @param {{ linked?: boolean }} [options] whether the hosts' lines to the engine can be cut */
  async hosts(count, grant, { linked = false } = {}) {
    const links = await Promise.all(
      Array.from({ length: count }, () => (linked ? startLink(this.engine.port) : undefined)),
    );
    return links.map((link) => {
      const host = new Host(link);
      this.#hosts.add(host);
      if (grant) host.put(grant.newest);
      return host;
    });
  }

  ask(host, more) {
    const engine = this.engine?.address(host.link?.port);
    return { stateDir: host.stateDir, engine, provider: this.provider.url, ...more };
  }

  /** An agent that a test may kill. */
  async agent({ env } = {}) {
    const agent = new Agent({ package: this.module, node: this.node, env: { ...this.env, ...env } });
    this.#agents.add(agent);
    await agent.ready;
    return agent;
  }

  /** A call by an agent that nobody kills. */
  async call(host, more) {
    this.#idle = this.#idle.filter(({ isAlive }) => isAlive);
    const agent = this.#idle.pop() ?? (await this.agent());
    const call = agent.call(this.ask(host, more));
    void call.became.then(() => {
      if (agent.isAlive) this.#idle.push(agent);
    });
    return call;
  }

  /** So many calls on each host at once. */
  async calls(hosts, each = 1, more = {}) {
    const wanted = hosts.length * each - this.#idle.length;
    this.#idle.push(...(await Promise.all(Array.from({ length: Math.max(0, wanted) }, () => this.agent()))));
    return Promise.all(
      Array.from({ length: each }, () => hosts)
        .flat()
        .map((host) => this.call(host, more)),
    );
  }

  /**
   * Resolves once each of these hosts has seen a row. etcd does not tell how old it is: it counts from then on. A caller that waits may
   * be waiting for its host's lock alone.
   */
  async seen(hosts, row) {
    if (this.engine.name !== "etcd") return;
    while (!hosts.every((host) => isOnDisk(row, host))) await sleep(20);
  }

  /** What became of them. */
  answers(calls) {
    return Promise.all(calls.map(({ became }) => became));
  }

  /** One call on each of these hosts, to its end. */
  async ends(hosts, each = 1, more) {
    return this.answers(await this.calls(hosts, each, more));
  }

  async close() {
    await Promise.all([...this.#agents].map((agent) => agent.kill()));
    for (const host of this.#hosts) host.remove();
    await this.provider.close();
    await this.engine?.remove();
  }
}

/** Whether a text is in a file of a host. */
export function isOnDisk(text, { stateDir }) {
  if (!existsSync(stateDir)) return false;
  return readdirSync(stateDir, { recursive: true }).some((name) => textOf(join(stateDir, name)).includes(text));
}

/** Of a file; agents remove some of theirs meanwhile. */
function textOf(path) {
  try {
    return readFileSync(path);
  } catch (error) {
    if (["ENOENT", "EISDIR"].includes(error.code)) return "";
    throw error;
  }
}

/** How many calls of these were served with the newest token. */
export function served(grant, answers) {
  return answers.filter(({ access }) => access === grant.newest.access).length;
}

/** How often each thing happened that is not a token. */
export function troubles(answers) {
  const counts = {};
  for (const { error, died } of answers) {
    const name = error ?? (died && `died of ${died}`);
    if (name) counts[name] = (counts[name] ?? 0) + 1;
  }
  // In an order that does not depend on who came first.
  return Object.fromEntries(Object.entries(counts).sort().reverse());
}
