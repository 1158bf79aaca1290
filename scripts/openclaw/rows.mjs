// What happens to a fleet whose shared login has just expired, and how many it serves.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { Fleet } from "./fleet.mjs";
import { startProvider } from "./provider.mjs";

const DEATH = { silent: true, kills: true };
const FAULTS = {
  storm: {},
  "one 503": { status: 503 },
  "one 500": { status: 500 },
  "one 429": { status: 429 },
  "DNS fails once": { dns: true },
  "killed, unspent": DEATH,
  "killed, spent": { ...DEATH, spent: true },
};
/** Where every agent but one fails, the release as it is waits for 120 s, twice. */
const isSlow = (fault) => fault.kills === true;

const row = (name, fault, more = {}) => ({
  name,
  fault,
  isSlow: isSlow(fault),
  mayFail: fault.spent === true,
  ...more,
});
const some = (names, prefix, more) => names.map((name) => row(`${prefix}: ${name}`, FAULTS[name], more));
const MIXED = ["one 503", "DNS fails once", "killed, unspent"];

/**
 * One shared login; agents with copies of it in their own stores; and half the fleet as it is, with the first call on either side.
 * `goal`: what the whole refresh has to reach, unless `mayFail`.
 */
export const ROWS = [
  ...Object.entries(FAULTS).map(([name, fault]) => row(name, fault)),
  ...some(["storm", "one 503", "DNS fails once", "killed, unspent"], "copies", { hasCopies: true }),
  ...some(MIXED, "half patched, patched first", { first: "patched" }),
  ...some(["one 503", "killed, unspent"], "half patched, unpatched first", { first: "unpatched", mayFail: true }),
];

/** A fleet of one variant, alone or beside the release as it is, with its provider and home, on which rows are played. */
export class Stage {
  #host;
  #home = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-openclaw-"));
  #provider;
  #fleet;
  #writer;
  #agentDirs;
  #played = 0;

  /**
   * @param {object} host with `openclaw`, the variant, and `original`, the release as it is
   * @param {"patched" | "unpatched"} [first] in a mixed fleet, the half that agent 0 is of
   */
  static async open(host, { processes, latency, first }) {
    const stage = new Stage();
    stage.#host = host;
    stage.#provider = await startProvider({ latency });
    const place = { ...host, home: stage.#home, url: stage.#provider.url };
    const numbers = Array.from({ length: processes }, (_, at) => at);
    stage.#agentDirs = numbers.map((at) => join(stage.#home, "state", "agents", `agent-${at + 1}`, "agent"));
    stage.#writer = await Fleet.start(place, [host.original]);
    const isOurs = (at) => first === undefined || (at % 2 === 0) === (first === "patched");
    stage.#fleet = await Fleet.start(
      place,
      numbers.map((at) => (isOurs(at) ? host.openclaw : host.original)),
    );
    // What a release loads when it first refreshes is loaded.
    await stage.play({ fault: {} });
    return stage;
  }

  async close() {
    await this.#fleet?.kill();
    await this.#writer?.kill();
    this.#provider.close();
    rmSync(this.#home, { recursive: true, force: true, maxRetries: 10 });
  }

  /** @param {object} row one of {@link ROWS} */
  async play(row) {
    await this.#fleet.revive();
    const tag = `${++this.#played}`;
    // A login of its own for each row.
    const profileId = `${this.#host.release.provider}:row-${tag}`;
    const grant = this.#provider.grant(tag, row.fault);
    const { workers } = this.#fleet;
    const agentDirs = this.#agentDirs;
    const ask = (at) => workers[at].tell("ask", { profileId, agentDir: agentDirs[at] });
    const everyone = workers.map((_, at) => at);
    const copies = row.hasCopies ? agentDirs : [];
    // An agent has long been at work when its token expires.
    await this.#logIn(profileId, grant, copies, 3_600_000);
    const early = await Promise.all(everyone.map(ask));
    const wrong = early.find(({ apiKey }) => apiKey !== grant.access);
    if (wrong) throw new Error(`not served before expiry: ${wrong.error ?? wrong.apiKey}`);
    await this.#logIn(profileId, grant, copies, -60_000);
    const { events } = this.#provider;
    events.once("call", (at) => row.fault.kills && void workers[at].kill());
    const { first, last } = await askAll(everyone, ask, row, events);
    events.removeAllListeners("call");
    const isFresh = (answer) => grant.calls > 0 && Boolean(answer.apiKey) && answer.apiKey === grant.access;
    const living = everyone.filter((at) => !workers[at].isDead);
    const next = await Promise.all(living.map(ask));
    return {
      calls: grant.calls,
      reused: grant.reused,
      living: living.length,
      served: living.filter((at) => isFresh(first[at])).length,
      next: next.filter(isFresh).length,
      last,
      errors: [...first, ...next].filter((answer) => !answer.isDead && !isFresh(answer)).map(({ error }) => error),
    };
  }

  /** The main agent's login, and copies in these stores, written by the release itself; it lives `ms` from now. */
  async #logIn(profileId, grant, copies, ms) {
    const credential = {
      type: "oauth",
      provider: this.#host.release.provider,
      ...grant.tokens(0),
      expires: Date.now() + ms,
      accountId: "account",
    };
    const how = { profileId, agentDirs: [null, ...copies], credential };
    const { error } = await this.#writer.workers[0].tell("write", how);
    if (error) throw new Error(error);
  }
}

/** All at once, or everyone else when the first one's call has reached the provider. */
async function askAll(everyone, ask, { first }, events) {
  const begun = performance.now();
  const answers = [];
  let last;
  const settle = async (at) => {
    answers[at] = await ask(at);
    if (!answers[at].isDead) last = performance.now() - begun;
  };
  if (first === undefined) await Promise.all(everyone.map(settle));
  else {
    const called = new Promise((resolve) => events.once("call", resolve));
    const settled = settle(everyone[0]);
    await called;
    await Promise.all([settled, ...everyone.slice(1).map(settle)]);
  }
  return { first: answers, last };
}
