// A fleet of one variant, alone or beside the release as it is, with its provider and home, on which rows are played.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { Fleet } from "./fleet.mjs";
import { startProvider } from "./provider.mjs";
import { workerBundle } from "./worker-bundle.mjs";

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

  /** @param {object} host `release`, `node`, `openclaw`, the variant, and `original`, the release as it is */
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
    await this.#provider.close();
    rmSync(this.#home, { recursive: true, force: true, maxRetries: 10 });
  }

  async play(row) {
    await this.#fleet.revive();
    const login = await this.#newLogin(row);
    const { grant, profileId } = login;
    const { workers } = this.#fleet;
    const everyone = workers.map((_, at) => at);
    const ask = (at, how = {}) => {
      const by = (isAsItIs(row.fleet, at) && row.theirs) || row.by || "ask";
      const agentDir = row.inOneStore && by === "askStorage" ? this.#agentDirs[0] : this.#agentDirs[at];
      return workers[row.inOne ? 0 : at].tell(by, { profileId, agentDir, ...how });
    };
    // An agent has long been at work when its token expires.
    await this.#logIn(login, HOUR_MS);
    if (!login.copies.every((directory) => isIn(directory, grant.tokens(0).refresh)))
      throw new Error("an agent's store has no copy of the login");
    const early = await Promise.all(everyone.map((at) => ask(at)));
    const wrong = early.find(({ apiKey }) => apiKey !== grant.newest.access);
    if (wrong) throw new Error(`not served before expiry: ${wrong.error ?? wrong.apiKey}`);
    if (!row.forced) await this.#logIn(login, -60_000);
    if (row.isOff) await this.#switch("off");
    const { events } = this.#provider;
    let meanwhile;
    let frozen;
    events.once("call", (at) => {
      if (row.fault.kills) workers[at].kill();
      if (row.fault.freezes) {
        frozen = at;
        workers[at].pause();
        if (row.fault.freezes < Infinity) setTimeout(() => workers[at].goOn(), row.fault.freezes);
      }
      if (row.meanwhile && !row.afterwards) meanwhile = this.#operate(row.meanwhile, login);
    });
    let waiting = everyone.length;
    const askFirst = async (at) => {
      const answer = await ask(at, { forceRefresh: row.forced });
      waiting -= 1;
      if (waiting === 1 && frozen !== undefined) workers[frozen].goOn();
      return { ...answer, isLate: at === frozen };
    };
    const { first, last } = await askAll(everyone, askFirst, row, events);
    events.removeAllListeners("call");
    if (row.meanwhile && row.afterwards) meanwhile = this.#operate(row.meanwhile, login);
    const operated = await meanwhile;
    if (row.isOff) await this.#switch();
    const living = everyone.filter((at) => !workers[at].isDead);
    const isFresh = ({ apiKey }) => (operated ?? login).isServed(apiKey);
    const wasFresh = row.afterwards ? ({ apiKey }) => login.isServed(apiKey) : isFresh;
    const next = await Promise.all(living.map((at) => ask(at)));
    const later = operated && (await this.#nextLogin(login, (at) => ask(at)));
    return {
      calls: grant.calls,
      reused: grant.reused,
      living: living.length,
      served: living.filter((at) => wasFresh(first[at])).length,
      next: next.filter(isFresh).length,
      last,
      operated: operated?.ms,
      later,
      errors: [...first.filter((answer) => !wasFresh(answer)), ...next.filter((answer) => !isFresh(answer))]
        .filter(({ isDead }) => !isDead)
        .map(({ error }) => error),
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
    return { ms, isServed: (apiKey) => (grant ? apiKey === grant.newest.access : apiKey == null) };
  }

  /** How many are served when there is another login, and that has expired too: nothing of the one before is in the way. */
  async #nextLogin(login, ask) {
    const grant = this.#provider.grant(`${login.tag}.later`, {});
    await this.#logIn({ ...login, grant }, -60_000);
    const answers = await Promise.all(this.#fleet.workers.map((_, at) => ask(at)));
    return answers.filter(({ apiKey }) => apiKey != null && apiKey === grant.fresh).length;
  }

  /** A login of its own for each row, so that none sees what another has left. */
  async #newLogin({ fault, hasCopies, inOneStore, by, theirs, login }) {
    const tag = `${++this.#played}`;
    const grant = this.#provider.grant(tag, fault);
    const { provider } = this.#host.release;
    const copies = hasCopies ? this.#agentDirs : inOneStore ? [this.#agentDirs[0]] : [];
    // AuthStorage knows no other profile.
    const isDefault = (by ?? theirs) !== undefined;
    const profileId = `${provider}:${isDefault ? "default" : `row-${tag}`}`;
    if (isDefault) await this.#tellWriter("write", { profileId, agentDirs: [...this.#agentDirs, null] });
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
    // Copies first: a release keeps no copy of what the main agent's store has already.
    await this.#tellWriter("write", { profileId, agentDirs: [...copies, null], credential });
  }

  async #tellWriter(order, how) {
    const answer = await this.#writer.workers[0].tell(order, how);
    if (answer.error) throw new Error(answer.error);
    return answer;
  }
}

/** Whether a file there has this text. */
const isIn = (directory, text) =>
  readdirSync(directory).some((name) => readFileSync(join(directory, name)).includes(text));

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
  if (isInBundle(fleet, at))
    return { openclaw: workerBundle(original, fleet === "rebuilt worker first"), hasNoAddon: true };
  return { openclaw: isAsItIs(fleet, at) ? original : openclaw };
}

/** Whether process number `at` of a fleet runs a worker's single file. */
function isInBundle(fleet, at) {
  if (fleet === "worker later") return at % 2 === 1;
  return (fleet === "worker first" || fleet === "rebuilt worker first") && at % 2 === 0;
}

/** Whether process number `at` of a fleet runs the release as it is. */
function isAsItIs(fleet, at) {
  if (fleet === "one unpatched") return at === 0;
  if (fleet === "one unpatched later") return at === 1;
  return (fleet === "patched first" && at % 2 === 1) || (fleet === "unpatched first" && at % 2 === 0);
}

/** All at once; in a mixed fleet, everyone else when the first one's call has reached the provider. */
async function askAll(everyone, ask, { fleet, atOnce = fleet === "all", afterwards }, events) {
  const begun = performance.now();
  const answers = [];
  let last;
  const settle = async (at) => {
    answers[at] = await ask(at);
    if (!answers[at].isDead && !answers[at].isLate) last = performance.now() - begun;
  };
  if (atOnce) await Promise.all(everyone.map(settle));
  else {
    const called = new Promise((resolve) => events.once("call", resolve));
    const settled = settle(everyone[0]);
    // Who fails before it asks asks nobody.
    await (afterwards ? settled : Promise.race([called, settled]));
    await Promise.all([settled, ...everyone.slice(1).map(settle)]);
  }
  return { first: answers, last };
}
