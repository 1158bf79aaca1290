// A fleet of one variant, alone or beside the release as it is, with its provider and home, on which rows are played.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { Fleet } from "./fleet.mjs";
import { startProvider } from "./provider.mjs";

/** The login that a command-line tool of that provider's has as well, since 2026.9 the only one. */
const CLI = { provider: "minimax-portal", profileId: "minimax-portal:minimax-cli", file: ".minimax/oauth_creds.json" };
const HOUR_MS = 3_600_000;

export class Stage {
  #host;
  #home = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-openclaw-"));
  #provider;
  #fleet;
  #writer;
  #operator;
  #agentDirs;
  #played = 0;

  /**
   * @param {object} host `release`, `node`, `openclaw`, the variant, and `original`, the release as it is
   * @param {{ processes: number, latency: number, fleet: import("./rows.mjs").Row["fleet"] }} how
   */
  static async open(host, { processes, latency, fleet }) {
    const stage = new Stage();
    stage.#host = host;
    stage.#provider = await startProvider({ latency });
    const place = { ...host, home: stage.#home, url: stage.#provider.url };
    const numbers = Array.from({ length: processes }, (_, at) => at);
    stage.#agentDirs = numbers.map((at) => join(stage.#home, "state", "agents", `agent-${at + 1}`, "agent"));
    stage.#writer = await Fleet.start(place, [{ openclaw: host.original }]);
    stage.#operator = await Fleet.start(place, [{ openclaw: host.openclaw }]);
    stage.#fleet = await Fleet.start(
      place,
      numbers.map((at) => member(host, fleet, at)),
    );
    // What a release loads when it first refreshes is loaded.
    await stage.play({ fault: {}, fleet });
    return stage;
  }

  async close() {
    await this.#fleet?.kill();
    await this.#writer?.kill();
    await this.#operator?.kill();
    this.#provider.close();
    rmSync(this.#home, { recursive: true, force: true, maxRetries: 10 });
  }

  /** @param {import("./rows.mjs").Row} row */
  async play(row) {
    await this.#fleet.revive();
    const login = await this.#newLogin(row);
    const { grant, profileId } = login;
    const { workers } = this.#fleet;
    const ask = (at, how = {}) =>
      workers[row.inOne ? 0 : at].tell(row.by ?? "ask", { profileId, agentDir: this.#agentDirs[at], ...how });
    const everyone = workers.map((_, at) => at);
    // An agent has long been at work when its token expires.
    await this.#logIn(login, HOUR_MS);
    const early = await Promise.all(everyone.map((at) => ask(at)));
    const wrong = early.find(({ apiKey }) => apiKey !== grant.access);
    if (wrong) throw new Error(`not served before expiry: ${wrong.error ?? wrong.apiKey}`);
    if (!row.forced) await this.#logIn(login, -60_000);
    if (row.isOff) await this.#switch("off");
    const { events } = this.#provider;
    let meanwhile;
    events.once("call", (at) => {
      if (row.fault.kills) workers[at].kill();
      if (row.meanwhile) meanwhile = this.#operate(row.meanwhile, login);
    });
    const { first, last } = await askAll(everyone, (at) => ask(at, { forceRefresh: row.forced }), row, events);
    events.removeAllListeners("call");
    const operated = await meanwhile;
    if (row.isOff) await this.#switch();
    const living = everyone.filter((at) => !workers[at].isDead);
    const isFresh = ({ apiKey }) => (operated ?? login).isServed(apiKey);
    const next = await Promise.all(living.map((at) => ask(at)));
    const later = operated && (await this.#nextLogin(login, (at) => ask(at)));
    return {
      calls: grant.calls,
      reused: grant.reused,
      living: living.length,
      served: living.filter((at) => isFresh(first[at])).length,
      next: next.filter(isFresh).length,
      last,
      operated: operated?.ms,
      later,
      errors: [...first, ...next].filter((answer) => !answer.isDead && !isFresh(answer)).map(({ error }) => error),
    };
  }

  async #switch(to) {
    await Promise.all(this.#fleet.workers.map((worker) => worker.tell("switch", { to })));
  }

  /** Logs in, out or repairs, and tells how long that took, and what agents are served from then on. */
  async #operate(order, login) {
    const grant =
      order === "logout" || order === "repair" ? undefined : this.#provider.grant(`${login.tag}.${order}`, {});
    const credential = grant && credentialOf({ ...login, grant }, HOUR_MS);
    const begun = performance.now();
    const { error } = await this.#operator.workers[0].tell(order, { profileId: login.profileId, credential });
    const ms = performance.now() - begun;
    if (error) throw new Error(`${order}: ${error}`);
    if (order === "repair") return { ms, isServed: login.isServed };
    return { ms, isServed: (apiKey) => (grant ? apiKey === grant.access : apiKey == null) };
  }

  /** How many are served when there is another login, and that has expired too: nothing of the one before is in the way. */
  async #nextLogin(login, ask) {
    const grant = this.#provider.grant(`${login.tag}.later`, {});
    await this.#logIn({ ...login, grant }, -60_000);
    const answers = await Promise.all(this.#fleet.workers.map((_, at) => ask(at)));
    return answers.filter(({ apiKey }) => apiKey != null && apiKey === grant.fresh).length;
  }

  /** A login of its own for each row, so that none sees what another has left. */
  async #newLogin({ fault, hasCopies, by, login }) {
    const tag = `${++this.#played}`;
    const grant = this.#provider.grant(tag, fault);
    const { provider } = this.#host.release;
    const copies = hasCopies ? this.#agentDirs : [];
    // AuthStorage knows no other profile.
    const profileId = `${provider}:${by ? "default" : `row-${tag}`}`;
    const isServed = (apiKey) => apiKey != null && apiKey === grant.fresh;
    const made = { tag, grant, provider, copies, profileId, isServed };
    const cli = join(this.#home, CLI.file);
    rmSync(cli, { force: true });
    if (login === "personal") {
      const connected = await this.#tellWriter("connect", { credential: credentialOf(made, HOUR_MS) });
      return { ...made, profileId: connected.profileId, isPersonal: true };
    }
    if (login !== "cli" && login !== "cli-expired") return made;
    const { access, refresh } = grant.tokens("cli");
    const expires = Date.now() + (login === "cli" ? HOUR_MS : -60_000);
    mkdirSync(join(cli, ".."), { recursive: true });
    writeFileSync(cli, JSON.stringify({ access_token: access, refresh_token: refresh, expiry_date: expires }));
    return { ...made, ...CLI, expected: access, isServed: (apiKey) => apiKey === access };
  }

  /** The main agent's login, and copies of it, written by the release itself; it lives `ms` from now. */
  async #logIn(login, ms) {
    const credential = credentialOf(login, ms);
    if (login.isPersonal) return void (await this.#tellWriter("connect", { credential }));
    const { profileId, copies } = login;
    await this.#tellWriter("write", { profileId, agentDirs: [null, ...copies], credential });
  }

  async #tellWriter(order, how) {
    const answer = await this.#writer.workers[0].tell(order, how);
    if (answer.error) throw new Error(answer.error);
    return answer;
  }
}

const credentialOf = ({ provider, grant, expected }, ms) => ({
  type: "oauth",
  provider,
  ...grant.tokens(0),
  expires: Date.now() + ms,
  // What a command-line tool has names no account.
  ...(expected ? {} : { accountId: "account" }),
});

/** What process number `at` of a fleet runs. */
function member({ openclaw, original }, fleet, at) {
  if (fleet === "no addon") return { openclaw, hasNoAddon: true };
  if (fleet === "half without addon") return { openclaw, hasNoAddon: at % 2 === 0 };
  const isOurs = fleet === "all" || (at % 2 === 0) === (fleet === "patched first");
  return { openclaw: isOurs ? openclaw : original };
}

/** All at once; in a mixed fleet, everyone else when the first one's call has reached the provider. */
async function askAll(everyone, ask, { fleet }, events) {
  const begun = performance.now();
  const answers = [];
  let last;
  const settle = async (at) => {
    answers[at] = await ask(at);
    if (!answers[at].isDead) last = performance.now() - begun;
  };
  if (fleet === "all") await Promise.all(everyone.map(settle));
  else {
    const called = new Promise((resolve) => events.once("call", resolve));
    const settled = settle(everyone[0]);
    await called;
    await Promise.all([settled, ...everyone.slice(1).map(settle)]);
  }
  return { first: answers, last };
}
