/** Worker threads that die in the middle of a refresh, in a process in which nobody else has the addon. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { heldElsewhere } from "./support/agents.mjs";
import { answering, lockOn, refreshAs } from "./support/calls.mjs";
import { deferred } from "./support/events.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER } from "./support/host.mjs";
import { startProgram } from "./support/programs.mjs";
import { Random } from "./support/random.mjs";
import { COUNTED, NOT_COUNTED, takeStock } from "./support/resources.mjs";

const DEATHS = Number(process.env.DEATHS ?? 1_000);
/** When they die; `granted`: while they wait, and just then the lock is freed. */
const MOMENTS = ["calling", "waiting", "granted", "asking", "answered"];
/** So many live side by side, each with a host of its own. When all have died, there is no worker thread left. */
const LANES = 4;
/** So often they die at each moment before what their process has is counted. */
const WARM_UP = 2;
/** So many turns of the event loop they live on, at most. By then most have saved their answer. */
const MAX_TURNS = 60;
const WAITERS = 64;
/** For what a process has once while anybody waits in it. */
const SLACK = 2;
/** A lock that is not freed is told by that. */
const PATIENCE_MS = 30_000;

/** A process whose worker threads die; see deaths.mjs. */
function startDeaths() {
  const program = startProgram("deaths", {});
  let lives = 0;
  return {
    pid: program.pid,
    /** Begins a life. `died` resolves to how often its refresh function was called. */
    live(host, life) {
      lives += 1;
      const id = lives;
      program.say("live", { id, key: [PROVIDER, PROFILE], options: host.as("main"), ...life });
      return {
        told: (type) => program.told({ type, id }),
        died: program.told({ type: "died", id }).then(() => program.log.matching({ type: "died", id })[0].calls),
      };
    },
  };
}

/** Holds the host's lock in this process. */
async function hold(host) {
  const [inside, release] = [deferred(), deferred()];
  const held = lockOn(host, () => {
    inside.resolve();
    return release.promise;
  });
  await inside.promise;
  return () => {
    release.resolve();
    return held;
  };
}

/** A worker thread dies at this moment, and the next caller goes on. */
async function dieAndGoOn(deaths, host, life) {
  const { at } = life;
  const old = expired();
  const fields = answer();
  host.seed("main", old);
  const release = ["waiting", "granted"].includes(at) ? await hold(host) : () => {};
  const dying = deaths.live(host, { ...life, at: at === "granted" ? "waiting" : at, fields });
  if (at === "granted") {
    await dying.told("waiting");
    await release();
  }
  const calls = await dying.died;
  if (at === "waiting") expect(calls).toBe(0);
  if (at === "asking" || at === "answered") expect(calls).toBe(1);
  await release();

  const refresh = answering();
  const { credential } = await refreshAs(host, "main", refresh, { timeoutMs: PATIENCE_MS });
  // The answer is kept as a whole, or else the same token is sent once more.
  const kept = at === "answered" && credential.access === fields.access;
  expect(refresh.mock.calls.map(([{ refresh }]) => refresh)).toEqual(kept ? [] : [old.refresh]);
  expect(credential).toEqual({ ...old, ...(kept ? fields : await refresh.mock.results[0].value) });
  expect(await lockOn(host, () => "free", { timeoutMs: PATIENCE_MS })).toBe("free");
}

const sideBySide = (deaths, hosts, lifeOf) => Promise.all(hosts.map((host) => dieAndGoOn(deaths, host, lifeOf())));

describe("worker threads that die in the middle of a refresh", () => {
  test(`by terminate(), ${DEATHS} times, leave nothing behind`, { timeout: 600_000 }, async ({ skip }) => {
    const deaths = startDeaths();
    const random = new Random(17);
    const hosts = Array.from({ length: LANES }, () => createHost());
    const dieAt = (at) => sideBySide(deaths, hosts, () => ({ how: "terminate", at, turns: random.below(MAX_TURNS) }));
    for (let round = 0; round < WARM_UP; round++) for (const at of MOMENTS) await dieAt(at);
    const expectGrowth = takeStock(deaths.pid);
    for (let batch = 0; batch < DEATHS / LANES; batch++) await dieAt(MOMENTS[batch % MOMENTS.length]);
    await expectGrowth({ threads: 0, descriptors: 0 });
    skip(!COUNTED, NOT_COUNTED);
  });

  test.each(["process.exit", "an uncaught exception"])("by %s leave nothing in the way", async (how) => {
    const deaths = startDeaths();
    const hosts = Array.from({ length: LANES }, () => createHost());
    for (const at of MOMENTS) await sideBySide(deaths, hosts, () => ({ how, at }));
  });

  test("before the provider is asked cost nothing, however often", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const deaths = startDeaths();
    // More often than a call may be repeated of which nobody knows whether it was made.
    for (const epoch of [1, 2]) expect(await deaths.live(host, { at: "decided", epoch }).died).toBe(0);
    const refresh = answering();
    const { outcome } = await refreshAs(host, "main", refresh, { timeoutMs: PATIENCE_MS });
    expect([outcome, refresh.mock.calls.map(([{ refresh }]) => refresh)]).toEqual(["refreshed", [old.refresh]]);
  });

  test("while they wait for the lock put nothing on record", async () => {
    const host = createHost({ main: expired() });
    const { release } = await heldElsewhere(host);
    expect(await startDeaths().live(host, { how: "terminate", at: "waiting" }).died).toBe(0);
    await release();
    expect(await lockOn(host, () => "free", { timeoutMs: PATIENCE_MS })).toBe("free");
    expect(
      readdirSync(join(host.stateDir, "locks", "oauth-refresh")).filter((name) => name.includes(".journal")),
    ).toEqual([]);
  });

  test(`while ${WAITERS} wait for one key leave the living in line`, async ({ skip }) => {
    const host = createHost({ main: expired() });
    const deaths = startDeaths();
    await dieAndGoOn(deaths, host, { how: "terminate", at: "asking" });
    host.seed("main", expired());
    const expectGrowth = takeStock(deaths.pid);
    const { release } = await heldElsewhere(host);
    for (let left = WAITERS; left > 0; left -= LANES) {
      const lives = Array.from({ length: LANES }, () => deaths.live(host, { how: "terminate", at: "waiting" }));
      expect(await Promise.all(lives.map(({ died }) => died))).toEqual(lives.map(() => 0));
    }
    await expectGrowth({ threads: 1 + SLACK, descriptors: 1 + SLACK });
    const fields = answer();
    const living = deaths.live(host, { at: "settled", fields });
    await living.told("waiting");
    await release();
    expect(await living.died).toBe(1);
    expect(await refreshAs(host, "main", answering())).toMatchObject({ outcome: "fresh", credential: fields });
    await expectGrowth({ threads: 0, descriptors: 0 });
    skip(!COUNTED, NOT_COUNTED);
  });
});
