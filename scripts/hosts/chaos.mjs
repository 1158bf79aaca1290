/**
 * Whatever goes wrong by chance: processes are killed and stopped, hosts are cut off, the engine is killed and comes back. What has to
 * hold after each round is checked; a round can be played again by its seed, as far as machines repeat themselves.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { readJournal } from "../../__test__/faults/support/journal.mjs";
import { rowOf, startEngine } from "../../__test__/hosts/support/engines.mjs";
import { startProvider } from "../../__test__/hosts/support/provider.mjs";
import { isOnDisk, World } from "../../__test__/hosts/support/world.mjs";

const HOSTS = 3;
const CALLS = 12;
/** Within so many milliseconds all calls begin. */
const BEGIN_MS = 500;
const PATIENCE_MS = 30_000;
const adapter = { timeoutMs: 800 };
/** What a living agent may be told if it gets no token. */
const ERRORS = ["coordinator_unavailable", "refresh_uncertain", "grant_dead", "invalid_grant", "file_lock_timeout"];

/** Mulberry32. */
function randomOf(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** What happens in a round, and when. */
function planOf(random) {
  const some = (limit) => Math.floor(random() * limit);
  const steps = [];
  const at = (ms, what, more) => steps.push({ ms, what, pick: random(), ...more });
  for (let call = 0; call < CALLS; call += 1) at(random() * BEGIN_MS, "call", { host: some(HOSTS) });
  for (let kills = some(4); kills > 0; kills -= 1) at(50 + random() * BEGIN_MS * 1.5, "kill");
  for (let stops = some(4); stops > 0; stops -= 1)
    at(50 + random() * BEGIN_MS * 1.5, "stop", { forMs: random() * 1_200 });
  if (random() < 0.5) {
    const how = ["cut", "sever", "down"][some(3)];
    at(random() * BEGIN_MS, "cut", { host: some(HOSTS), how, forMs: random() * 1_500 });
  }
  if (random() < Number(process.env.CHAOS_RESTARTS ?? 0.15)) at(random() * BEGIN_MS, "restart");
  const [beforeMs, afterMs] = [0, 0].map(() => [0, 20, 120][some(3)]);
  return { steps: steps.sort((one, other) => one.ms - other.ms), beforeMs, afterMs, isTwice: random() < 0.4 };
}

const doing = {
  async call(round, { host }) {
    round.calls.push(await round.world.call(round.hosts[host], { adapter, options: { timeoutMs: PATIENCE_MS } }));
  },
  kill(round, { pick }) {
    const live = round.calls.filter(({ isOver, agent }) => !isOver && agent.isAlive);
    const victim = live[Math.floor(pick * live.length)];
    if (!victim) return;
    round.counts.kills += 1;
    round.killed.add(victim.agent.pid);
    void victim.agent.kill();
  },
  async stop(round, { pick, forMs }) {
    const live = round.calls.filter(({ isOver, agent }) => !isOver && agent.isAlive);
    const agent = live[Math.floor(pick * live.length)]?.agent;
    if (!agent) return;
    round.counts.stops += 1;
    agent.pause();
    await sleep(forMs);
    agent.goOn();
  },
  async cut(round, { host, how, forMs }) {
    const { link } = round.hosts[host];
    round.counts.cuts += 1;
    if (how === "sever") link.sever();
    else if (how === "down") link.cut(link.down);
    else link.cut();
    await sleep(forMs);
    link.heal();
  },
  async restart(round) {
    round.counts.restarts += 1;
    await round.world.engine.kill();
    await round.world.engine.start();
  },
};

async function play(world, random, counts) {
  const plan = planOf(random);
  const grant = Object.assign(world.provider.login(), { beforeMs: plan.beforeMs, afterMs: plan.afterMs });
  const hosts = await world.hosts(HOSTS, grant, { linked: true });
  const round = { world, hosts, counts, calls: [], killed: new Set() };
  const began = performance.now();
  const under = [];
  for (const step of plan.steps) {
    await sleep(Math.max(0, began + step.ms - performance.now()));
    under.push(doing[step.what](round, step));
  }
  await Promise.all(under);
  const answers = await world.answers(round.calls);
  const last = await world.ends(hosts, 1, { adapter, options: { timeoutMs: PATIENCE_MS } });
  const faults = [...faultsOf(round, grant, answers), ...faultsAtLast(grant, last)];
  if (plan.isTwice && !grant.isRevoked) {
    const { calls } = grant;
    // Not by a store that was made to expire: a journal may still have something to bring into it.
    const options = { timeoutMs: PATIENCE_MS, rejectedAccess: grant.newest.access };
    const again = await world.ends(hosts, 2, { adapter, options });
    if (grant.calls !== calls + 1) faults.push(`the next rotation took ${grant.calls - calls} calls`);
    faults.push(...faultsAtLast(grant, again));
  }
  count(counts, grant, answers);
  if (faults.length > 0) faults.push(...(await evidenceOf(round, grant, answers)));
  for (const host of hosts) host.remove();
  return faults;
}

/** What helps to understand it. */
async function evidenceOf({ world, hosts, killed }, grant, answers) {
  const rows = (await world.engine.rows()).map(({ key, value }) => [key, JSON.parse(value)]);
  const names = grant.presented.map(({ token }) => rowOf(token)).concat(rowOf(grant.newest.refresh));
  const ours = rows.filter(([key]) => names.includes(key)).map(([key, { state, claim }]) => ({ key, state, claim }));
  const journals = hosts.map(({ stateDir }) => {
    const names = readdirSync(stateDir, { recursive: true }).filter((name) => name.endsWith(".journal"));
    return names.map((name) => {
      const { state, own_claims, ownClaims, answered, claim } = readJournal(join(stateDir, name.slice(0, -8))) ?? {};
      const told = answered?.map(({ row, is_told, isTold }) => ({ row, isTold: is_told ?? isTold }));
      return { name: name.slice(-30), state, claim: claim && "claim", ownClaims: own_claims ?? ownClaims, told };
    });
  });
  return [
    `killed: ${[...killed]}`,
    `presented: ${JSON.stringify(grant.presented)}`,
    `rows: ${JSON.stringify(ours)}`,
    ...journals.map((journal) => `journal: ${JSON.stringify(journal)}`),
    `answers: ${JSON.stringify(answers.map(({ outcome, error, died, notShared }) => [outcome ?? error ?? died, notShared?.code]))}`,
  ];
}

/** What must not be. */
function faultsOf({ hosts, killed }, grant, answers) {
  const faults = [];
  for (const [index, { token }] of grant.presented.entries()) {
    const first = grant.presented.find((earlier) => earlier.token === token && earlier.gave);
    if (!first || grant.presented.indexOf(first) >= index) continue;
    // The one loss that no program prevents: the answer was in a process that is gone, and nowhere else.
    if (!killed.has(first.by)) faults.push(`${token} was sent twice, and who sent it first was not killed`);
    if (hosts.some((host) => isOnDisk(`"${first.gave}"`, host)))
      faults.push(`${token} was sent twice, and its successor is on a disk`);
  }
  for (const { error, died, access, message } of answers) {
    if (access || died === "SIGKILL" || ERRORS.includes(error)) continue;
    faults.push(`an agent got ${error ?? died}: ${message}`);
  }
  return faults;
}

/** After all that, everyone has the same newest token, or knows that the login is lost. */
function faultsAtLast(grant, answers) {
  const isGood = ({ access, error }) =>
    grant.isRevoked ? ["grant_dead", "invalid_grant"].includes(error) : access === grant.newest.access;
  return answers.filter((answer) => !isGood(answer)).map((answer) => `at last an agent has ${JSON.stringify(answer)}`);
}

function count(counts, grant, answers) {
  counts.rounds += 1;
  counts.calls += grant.calls;
  counts.healed += grant.isRevoked ? 0 : 1;
  counts.reused += grant.reused > 0 ? 1 : 0;
  for (const { access, died } of answers) counts[access ? "served" : died ? "died" : "refused"] += 1;
}

/** @returns {Promise<boolean>} whether all was as it has to be */
export async function chaos({ engine, rounds, seed = Date.now() % 1_000_000_000 }) {
  const names = [
    "rounds",
    "calls",
    "healed",
    "reused",
    "served",
    "refused",
    "died",
    "kills",
    "stops",
    "cuts",
    "restarts",
  ];
  const counts = Object.fromEntries([...names, "faulty"].map((name) => [name, 0]));
  // Engines end when this process exits; by a signal alone it would not.
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(130));
  const world = new World(await startEngine(engine), await startProvider(), {});
  console.log(`chaos on ${engine}: ${rounds} rounds from seed ${seed}`);
  for (let round = 0; round < rounds; round += 1) {
    const faults = await play(world, randomOf(seed + round), counts);
    if (faults.length > 0) {
      counts.faulty += 1;
      const again = `npm run hosts -- --chaos 1 --seed ${seed + round} --engine ${engine}`;
      console.error(`${[`FAILED: round ${round}; to play it again: ${again}`, ...faults].join("\n  ")}`);
    }
    if ((round + 1) % 50 === 0) console.log(`${engine}: ${JSON.stringify(counts)}`);
  }
  await world.close();
  console.log(`${engine}: ${JSON.stringify(counts)}`);
  return counts.faulty === 0;
}
