// What happens to a fleet whose shared login has just expired, and how many it serves.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { startFleet } from "./fleet.mjs";
import { accessToken, startProvider } from "./provider.mjs";

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

/**
 * @param {object} host with `openclaw`, the variant, and `original`, the release as it is
 * @param {object} row one of {@link ROWS}
 */
export async function play(host, row, { processes, latency }) {
  const home = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-openclaw-"));
  const provider = await startProvider({ latency, fault: row.fault });
  const place = { ...host, home, url: provider.url };
  const agentDirs = Array.from({ length: processes }, (_, at) =>
    join(home, "state", "agents", `agent-${at + 1}`, "agent"),
  );
  let fleet;
  try {
    const login = (ms) => writeStores(place, row.hasCopies ? agentDirs : [], ms);
    // An agent has long been at work when its token expires.
    await login(3_600_000);
    fleet = await startFleet(
      place,
      agentDirs.map((_, at) => packageOf(host, row, at)),
    );
    const ask = (at) => fleet.workers[at].tell("ask", { agentDir: agentDirs[at] });
    const everyone = agentDirs.map((_, at) => at);
    const early = await Promise.all(everyone.map(ask));
    const wrong = early.find(({ apiKey }) => apiKey !== accessToken("old"));
    if (wrong) throw new Error(`not served before expiry: ${wrong.error ?? wrong.apiKey}`);
    await login(-60_000);
    provider.events.once("call", (at) => row.fault.kills && void fleet.workers[at].kill());
    const { first, last } = await askAll(everyone, ask, row, provider);
    const isFresh = ({ apiKey }) => Boolean(apiKey) && apiKey === provider.stats.access;
    const living = everyone.filter((at) => !fleet.workers[at].isDead);
    const next = await Promise.all(living.map(ask));
    const { calls, reused } = provider.stats;
    return {
      calls,
      reused,
      living: living.length,
      served: living.filter((at) => isFresh(first[at])).length,
      next: next.filter(isFresh).length,
      last,
      errors: [...first, ...next].filter((answer) => !answer.isDead && !isFresh(answer)).map(({ error }) => error),
    };
  } finally {
    await fleet?.kill();
    provider.close();
    rmSync(home, { recursive: true, force: true, maxRetries: 10 });
  }
}

/** Half of a mixed fleet runs the release as it is; agent 0 asks first. */
function packageOf({ openclaw, original }, { first }, at) {
  if (first === undefined) return openclaw;
  return (at % 2 === 0) === (first === "patched") ? openclaw : original;
}

/** All at once, or everyone else when the first one's call has reached the provider. */
async function askAll(everyone, ask, { first }, provider) {
  const begun = performance.now();
  const answers = [];
  const settle = async (at) => {
    answers[at] = await ask(at);
    if (!answers[at].isDead) answers.last = performance.now() - begun;
  };
  if (first === undefined) await Promise.all(everyone.map(settle));
  else {
    const called = new Promise((resolve) => provider.events.once("call", resolve));
    const settled = settle(everyone[0]);
    await called;
    await Promise.all([settled, ...everyone.slice(1).map(settle)]);
  }
  return { first: answers, last: answers.last };
}

/** The main agent's login, and copies in these stores, written by the release itself; it lives `ms` from now. */
async function writeStores(host, agentDirs, ms) {
  const credential = {
    type: "oauth",
    provider: host.release.provider,
    access: accessToken("old"),
    refresh: "r0",
    expires: Date.now() + ms,
    accountId: "account",
  };
  const writer = await startFleet(host, [host.original]);
  const { error } = await writer.workers[0].tell("write", { agentDirs: [null, ...agentDirs], credential });
  await writer.kill();
  if (error) throw new Error(error);
}
