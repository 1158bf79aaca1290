/** A round: a login on some machines, twenty calls, and what its plan says goes wrong meanwhile. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startLink } from "../../__test__/hosts/support/link.mjs";
import { faultsAtLast, faultsOf } from "./faults.mjs";
import { Machine } from "./machine.mjs";
import { has } from "./plan.mjs";

const PATIENCE_MS = 30_000;
/** A call that has not ended by then never does. */
const NEVER_MS = 90_000;
const adapter = { timeoutMs: 800 };

/** Lets so many bytes through that way, then closes every connection. */
function cutAfter(link, way, bytes) {
  return new Promise((resolve) => {
    let left = bytes;
    link[way].change = (chunk) => {
      if (left < 0) return [];
      const part = chunk.subarray(0, left);
      left -= chunk.length;
      if (left < 0) {
        setImmediate(() => {
          link.sever();
          link.heal();
          resolve();
        });
      }
      return part.length > 0 ? [part] : [];
    };
  });
}

/** Does something on a machine's disk, unless that has no room or is read-only by now. */
function unlessRefused(work) {
  try {
    return work();
  } catch (error) {
    if (!["ENOSPC", "EROFS"].includes(error.code)) throw error;
    return undefined;
  }
}

export class Round {
  calls = [];
  logins = [];
  killed = new Set();

  constructor(world, plan, counts, preload) {
    Object.assign(this, { world, plan, counts, preload });
    this.grants = [];
    this.first = this.#login();
  }

  #login() {
    const { seconds, beforeMs, afterMs } = this.plan;
    const grant = Object.assign(this.world.provider.login(), { seconds, beforeMs, afterMs });
    this.grants.push(grant);
    return grant;
  }

  /** @returns {Promise<string[]>} what was not as it has to be */
  async play() {
    const { world, plan } = this;
    const hosts = await world.hosts(plan.hosts, undefined, { linked: world.engine !== undefined });
    this.machines = hosts.map((host) => new Machine(host));
    this.links = await Promise.all(hosts.map(() => startLink(world.provider.port)));
    try {
      for (const machine of this.machines) {
        if (plan.isOnSmallDisk) machine.useSmallDisk();
        machine.put(this.first.newest, plan.agents, plan.names);
      }
      if (plan.world === "sqlite") await this.#seedDatabase();
      return await this.#playSteps();
    } finally {
      for (const end of [
        ...this.links.map((link) => () => link.close()),
        ...this.machines.map((one) => () => one.remove()),
      ])
        end();
    }
  }

  async #playSteps() {
    const began = performance.now();
    const under = [];
    for (const step of this.plan.steps) {
      await sleep(Math.max(0, began + step.ms - performance.now()));
      if (step.what !== "call") this.counts[step.what] += 1;
      under.push(this[step.what](step));
    }
    await Promise.all(under);
    const answers = await this.#answers(this.calls);
    this.inTrouble = this.first.calls;
    for (const link of this.links) link.heal();
    for (const grant of this.grants) Object.assign(grant, { seconds: 3_600, beforeMs: 0, afterMs: 0 });
    // What they get first may be a token of before that is still good. Then everyone says that it was refused.
    this.had = await this.#allCall();
    const before = this.grants.map(({ newest, calls }) => ({ access: newest.access, calls }));
    const last = await this.#allCall(this.had);
    this.#count(answers);
    const faults = [...faultsOf(this, answers), ...faultsAtLast(this, before, last)];
    if (faults.length > 0) faults.push(...this.#evidence({ answers, last }));
    return faults;
  }

  /** What helps to understand it. */
  #evidence({ answers, last }) {
    const brief = ({ agent, profileId, host, outcome, access, error, died }) =>
      JSON.stringify([host, agent, profileId, access, error ?? died ?? outcome].filter((part) => part !== undefined));
    const stored = (machine) => this.plan.agents.map((agent) => `${agent}: ${machine.tokens(agent)}`).join("; ");
    return [
      ...this.grants.map(({ presented }) => `presented: ${JSON.stringify(presented)}`),
      `answers: ${answers.map(brief).join(" ")}`,
      `afterwards: ${this.had.map(brief).join(" ")}`,
      `at last: ${last.map(brief).join(" ")}`,
      `logins: ${JSON.stringify(this.logins)}`,
      ...this.machines.map((machine, host) => `stores of machine ${host}: ${stored(machine)}`),
    ];
  }

  #ask(host, { agent = "main", ...more }) {
    const provider = `http://127.0.0.1:${this.links[host].port}/token`;
    const sqlite = this.plan.world === "sqlite" ? join(this.machines[0].stateDir, "credentials.sqlite") : undefined;
    return this.world.ask(this.machines[host], { provider, agent, sqlite, adapter, ...more });
  }

  async #begin(host, { wrongByMs, ...more }) {
    const ask = this.#ask(host, more);
    if (!wrongByMs || !this.preload) return this.world.call(this.machines[host], ask);
    const env = { LD_PRELOAD: this.preload, WRONG_BY_MS: String(wrongByMs) };
    const agent = await this.world.agent({ env });
    const call = agent.call(ask);
    void call.became.then(() => agent.finish());
    return call;
  }

  async #answers(calls) {
    const late = sleep(NEVER_MS, { error: "never", message: `no answer within ${NEVER_MS} ms` }, { ref: false });
    return Promise.all(calls.map((call) => Promise.race([call.became, late])));
  }

  /** Each agent once, by each name, on each machine; it says that what it `had` was refused. */
  async #allCall(had = []) {
    const { agents, names } = this.plan;
    const asks = this.machines.flatMap((_, host) =>
      agents.flatMap((agent) => names.map((profileId) => ({ host, agent, profileId }))),
    );
    const optionsOf = (index) => ({ timeoutMs: PATIENCE_MS, rejectedAccess: had[index]?.access });
    const calls = await Promise.all(
      asks.map(({ host, ...ask }, index) => this.#begin(host, { ...ask, options: optionsOf(index) })),
    );
    return (await this.#answers(calls)).map((answer, index) => ({ ...answer, ...asks[index] }));
  }

  async #seedDatabase() {
    const { agents, names } = this.plan;
    const asks = agents.flatMap((agent) => names.map((profileId) => ({ agent, profileId })));
    const login = { type: "oauth", provider: "acme", ...this.first.newest, expires: Date.now() - 1_000 };
    for (const ask of asks) {
      const seeded = await (await this.#begin(0, { ...ask, seed: login })).became;
      if (seeded.outcome !== "seeded") throw new Error(`not seeded: ${JSON.stringify(seeded)}`);
    }
  }

  #count(answers) {
    this.counts.rounds += 1;
    this.counts.providerCalls += this.grants.reduce((sum, { calls }) => sum + calls, 0);
    this.counts.lost += this.grants.some(({ isRevoked }) => isRevoked) ? 1 : 0;
    for (const { access, died } of answers) this.counts[access ? "served" : died ? "died" : "refused"] += 1;
  }

  #live(pick) {
    const live = this.calls.filter(({ isOver, agent }) => !isOver && agent.isAlive);
    return live[pick % live.length]?.agent;
  }

  async call({ host, isRejecting, isImpatient, ...ask }) {
    const options = {
      timeoutMs: isImpatient ? 300 : PATIENCE_MS,
      ...(isRejecting && { rejectedAccess: this.first.newest.access }),
    };
    const { agent, profileId, atEndpoint, wrongByMs } = ask;
    this.calls.push(await this.#begin(host, { agent, profileId, atEndpoint, wrongByMs, options }));
  }

  kill({ pick }) {
    const agent = this.#live(pick);
    if (!agent) return;
    this.killed.add(agent.pid);
    void agent.kill();
  }

  async stop({ pick, forMs }) {
    const agent = this.#live(pick);
    if (!agent) return;
    agent.pause();
    await sleep(forMs);
    agent.goOn();
  }

  cutProvider({ host, way, bytes }) {
    void cutAfter(this.links[host], way, bytes).then(() => {
      const now = performance.now();
      for (const { presented } of this.grants)
        for (const entry of presented) entry.isCut ||= (entry.closedAt ?? now) > now - 1_000;
    });
  }

  removeSidecars({ host }) {
    unlessRefused(() => this.machines[host].removeSidecars());
  }

  async fillDisk({ host, forMs }) {
    const machine = this.machines[host];
    if (!machine.isMounted || !unlessRefused(() => machine.fillDisk())) return;
    await sleep(forMs);
    machine.makeRoom();
  }

  async makeReadOnly({ host, forMs }) {
    const machine = this.machines[host];
    if (!machine.isMounted) return;
    if (!machine.makeReadOnly()) {
      this.counts.makeReadOnly -= 1;
      return;
    }
    await sleep(forMs);
    machine.makeWritable();
  }

  async cutEngine({ host, how, forMs }) {
    const { link } = this.machines[host];
    if (how === "sever") link.sever();
    else if (how === "down") link.cut(link.down);
    else link.cut();
    await sleep(forMs);
    link.heal();
  }

  async restartEngine() {
    await this.world.engine.kill();
    await this.world.engine.start();
  }

  restoreStore({ host, agent }) {
    unlessRefused(() => this.machines[host].restore(agent));
  }

  async logIn({ host, profileId }) {
    const grant = this.#login();
    const save = { ...grant.newest, expires: Date.now() + grant.seconds * 1_000 };
    const call = await this.#begin(host, { profileId, save });
    this.calls.push(call);
    this.logins.push({ host, profileId, refresh: save.refresh, became: await call.became });
  }

  async logOut({ host, profileId }) {
    const call = await this.#begin(host, { profileId, remove: true });
    this.calls.push(call);
    this.logins.push({ host, profileId, became: await call.became });
  }

  /** Nothing happened but calls. */
  get isQuiet() {
    return this.plan.isQuiet && this.plan.seconds > 1 && !has(this.plan, "logIn", "logOut");
  }
}
