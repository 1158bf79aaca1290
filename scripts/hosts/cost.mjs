/**
 * What a coordinator costs: a call with one, beside a call without and two plain commits of the engine, in turns on the same machine.
 * `node scripts/hosts/cost.mjs [ROUNDS]`
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { startEngine } from "../../__test__/hosts/support/engines.mjs";
import lock from "../../index.js";
import etcd from "../../lib/coordinators/etcd.js";
import postgres from "../../lib/coordinators/postgres.js";
import { missing } from "./engines.mjs";

const rounds = Number(process.argv[2] ?? 300);
const WARM = 20;

const median = (values) => values.sort((one, other) => one - other)[values.length >> 1];

/** A host whose login is refreshed by a function that answers at once. */
function host(coordinator) {
  const stateDir = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-cost-"));
  const agentDir = join(stateDir, "agents", "main", "agent");
  const file = join(agentDir, "auth-profiles.json");
  mkdirSync(agentDir, { recursive: true, mode: 0o700 });
  const name = `${process.pid}-${Math.random()}`;
  let generation = 0;
  const tokens = () => ({ access: `a-${name}-${generation}`, refresh: `r-${name}-${generation}` });
  return {
    async call() {
      const profile = { type: "oauth", provider: "acme", ...tokens(), expires: 1 };
      writeFileSync(file, JSON.stringify({ version: 1, profiles: { "acme:main": profile } }), { mode: 0o600 });
      const refresh = async () => {
        generation += 1;
        return { ...tokens(), expires: Date.now() + 3_600_000 };
      };
      const began = performance.now();
      await lock.withOAuthRefreshLock("acme", "acme:main", refresh, {
        stateDir,
        agentDir,
        mainAgentDir: agentDir,
        coordinator,
      });
      return performance.now() - began;
    },
    remove: () => rmSync(stateDir, { recursive: true }),
  };
}

async function measure(name) {
  const engine = await startEngine(name);
  const pool = engine.address().postgres && new pg.Pool({ connectionString: engine.address().postgres, max: 3 });
  const coordinator = pool ? postgres.postgresCoordinator(pool) : etcd.etcdCoordinator(engine.address().etcd);
  const plain = pool
    ? (key) => pool.query("INSERT INTO oauth_refresh_lock (key, rev, value) VALUES ($1, 1, 'x')", [key])
    : (key) => engine.put(key, "x");
  // The two steps of the section, timed within the call.
  let stepsMs = 0;
  const timed = {
    name,
    load: (key) => coordinator.load(key),
    async compareAndSwap(...step) {
      const began = performance.now();
      try {
        return await coordinator.compareAndSwap(...step);
      } finally {
        stepsMs += performance.now() - began;
      }
    },
    changed: (...wait) => coordinator.changed(...wait),
  };
  const [shared, alone] = [host(timed), host(undefined)];
  const spans = { shared: [], alone: [], steps: [], commits: [] };
  for (let round = -WARM; round < rounds; round += 1) {
    stepsMs = 0;
    const found = { shared: await shared.call(), steps: stepsMs, alone: await alone.call() };
    const began = performance.now();
    await plain(`plain-${round}-1`);
    await plain(`plain-${round}-2`);
    found.commits = performance.now() - began;
    if (round >= 0) for (const [what, ms] of Object.entries(found)) spans[what].push(ms);
  }
  const {
    shared: withMs,
    alone: withoutMs,
    steps,
    commits,
  } = Object.fromEntries(Object.entries(spans).map(([what, values]) => [what, median(values)]));
  const figure = (value) => value.toFixed(2);
  console.log(
    `${name}, p50 of ${rounds}: two plain commits ${figure(commits)} ms; claim and commit ${figure(steps)} ms ` +
      `(${figure(steps / commits)} x); a call with it ${figure(withMs)} ms, without ${figure(withoutMs)} ms; ` +
      `added ${figure(withMs - withoutMs)} ms (${figure((withMs - withoutMs) / commits)} x two commits)`,
  );
  shared.remove();
  alone.remove();
  await pool?.end();
  await engine.remove();
}

for (const name of ["postgres", "etcd"]) {
  const why = missing(name);
  if (why) console.error(`NOT MEASURED: ${why}`);
  else await measure(name);
}
