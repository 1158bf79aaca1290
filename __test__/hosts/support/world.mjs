/** Hosts that share a grant by an engine. */
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { Agent } from "./agents.mjs";
import { startEngine } from "./engines.mjs";
import { startLink } from "./link.mjs";
import { startProvider } from "./provider.mjs";

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
    rmSync(this.stateDir, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** One for all tests of a `describe`. Its agents live as long, unless a test kills them. */
export class World {
  /** @type {Agent[]} */
  #idle = [];
  #agents = new Set();
  #hosts = new Set();

  constructor(engine, provider, { module, env }) {
    this.engine = engine;
    this.provider = provider;
    this.module = module;
    this.env = env;
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
    const engine = this.engine.address(host.link?.port);
    return { stateDir: host.stateDir, engine, provider: this.provider.url, ...more };
  }

  /** An agent that a test may kill. */
  async agent({ env } = {}) {
    const agent = new Agent({ package: this.module, env: { ...this.env, ...env } });
    this.#agents.add(agent);
    await agent.ready;
    return agent;
  }

  /** A call by an agent that nobody kills. */
  async call(host, more) {
    const agent = this.#idle.pop() ?? (await this.agent());
    const call = agent.call(this.ask(host, more));
    void call.became.then(() => {
      if (agent.isAlive) this.#idle.push(agent);
    });
    return call;
  }

  /** So many calls on each host at once. */
  async calls(hosts, each, more) {
    const wanted = hosts.length * each - this.#idle.length;
    this.#idle.push(...(await Promise.all(Array.from({ length: Math.max(0, wanted) }, () => this.agent()))));
    return Promise.all(
      Array.from({ length: each }, () => hosts)
        .flat()
        .map((host) => this.call(host, more)),
    );
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
    await this.engine.remove();
  }
}

/** @returns {{ readonly current: World }} */
export function useWorld(engine, { engineOptions, delayMs, faults = false, env } = {}) {
  const use = { current: undefined };
  beforeAll(async () => {
    const module = faults ? (await import("../../faults/support/package.mjs")).faultyPackage() : undefined;
    use.current = new World(await startEngine(engine, engineOptions), await startProvider({ delayMs }), {
      module,
      env,
    });
  });
  afterAll(() => use.current?.close());
  return use;
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
  return counts;
}

/**
 * The figures of a scenario, which have to be these exactly, and go into the table of `npm run hosts`.
 *
 * @param {{ scenario: string, engine: string }} what
 * @param {{ calls: number, reused?: number, served: number, of?: number, troubles?: object }} expected `served` of all, by default
 */
export function expectFigures({ scenario, engine }, grant, answers, expected) {
  const found = {
    calls: grant.calls,
    reused: grant.reused,
    served: served(grant, answers),
    of: answers.length,
    troubles: troubles(answers),
  };
  const { reused = 0, of = answers.length, troubles: expectedTroubles = {} } = expected;
  const wanted = { calls: expected.calls, reused, served: expected.served, of, troubles: expectedTroubles };
  const isAsExpected = JSON.stringify(found) === JSON.stringify(wanted);
  if (process.env.HOSTS_REPORT) {
    appendFileSync(process.env.HOSTS_REPORT, `${JSON.stringify({ scenario, engine, ...found, isAsExpected })}\n`);
  }
  const others = answers.filter(({ access }) => access !== grant.newest.access);
  expect(found, `${scenario} on ${engine}: ${JSON.stringify(others).slice(0, 4_000)}`).toEqual(wanted);
}
