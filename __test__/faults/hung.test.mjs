/** Owners that are not stopped and yet get nowhere: blocked, hung, or holding the lock for something else. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { outcome, tokensOf } from "./support/aftermath.mjs";
import { readJournal } from "./support/journal.mjs";
import { outlive, terms } from "./support/outlive.mjs";
import { createStuckLane, STUCK_MS } from "./support/stuck.mjs";
import { world } from "./support/world.mjs";

/** Long enough for a waiter to do what it should not. */
const SHORT_MS = 500;

let lane;
beforeAll(async () => {
  lane = await createStuckLane();
});
afterAll(async () => {
  await lane?.close();
});
beforeEach(() => lane.renew());

/** A host, and what somebody lingers for there. */
function createHost() {
  const host = lane.host();
  const until = join(host.stateDir, "go-on");
  return { host, until, goOn: () => writeFileSync(until, "") };
}

describe("an owner that is alive and gets nowhere", () => {
  test.each([
    { what: "keeps its event loop busy while it decides", at: "acquired", manner: "busy" },
    { what: "keeps its event loop busy before it asks the provider", at: "called", manner: "busy", sends: true },
    { what: "keeps its event loop busy with the answer", at: "answered", manner: "busy" },
    { what: "hangs before it asks the provider, and ignores its signal", at: "called", manner: "deaf", sends: true },
    { what: "hangs with the answer, and ignores its signal", at: "answered", manner: "deaf" },
  ])("$what", async ({ what, at, manner, sends }) => {
    for (const options of [{}, { uncertain: "fail" }, { inTime: true }]) {
      await lane.renew();
      const { host, until, goOn: wake } = createHost();
      const owner = lane.startOwner();
      const id = owner.ask(world.ask(host, "one", undefined, { linger: { at, until, manner } }));
      void owner.finish();
      await owner.heard(at);
      while (readJournal(world.lockPath(host))?.state !== "dispatched") await delay(1);
      await outlive(lane, { host, owner, id, caller: "one", label: what, wake, sends }, options);
      host.remove();
    }
  });

  test("does not keep others of its own process waiting", async () => {
    const { host, until, goOn: wake } = createHost();
    const owner = lane.startOwner();
    const linger = { at: "called", until, manner: "deaf" };
    const hung = owner.ask(world.ask(host, "one", { callTimeoutMs: 100 }, { linger }));
    await owner.heard("called", hung);
    const others = ["two", "main", "one"].map((name) => owner.ask(world.ask(host, name)));
    expect((await owner.heard("settled", hung)).error).toMatchObject({ code: "refresh_call_timeout" });
    // Three behind it in line, and the first of them for the lock.
    await owner.until(() => owner.tells.filter(({ told }) => told === "waiting").length === 4);
    expect(terms(host)).toEqual([]);
    lane.clock.advance(STUCK_MS);
    const answers = await Promise.all(others.map((id) => owner.heard("settled", id)));
    for (const answer of answers) expect(tokensOf(answer), answer.error?.shown).toEqual(tokensOf(answers[0]));
    expect(terms(host)).toContain("key.t1");
    expect(world.answersTo(host.old.refresh)).toEqual(["refreshed"]);
    const bytes = host.bytes();
    wake();
    await owner.finish();
    expect(owner.tells.filter(({ told, id }) => told === "settled" && id === hung)).toHaveLength(1);
    // What a refresh function does of which nobody knows, nobody can keep it from.
    expect(world.answersTo(host.old.refresh)).toEqual(["refreshed", "invalid_grant"]);
    expect(host.bytes()).toEqual(bytes);
    host.remove();
  });

  test("is taken over from again and again, each time by one", async () => {
    const { host } = createHost();
    // Each stops with the lock, before it has put anything on record.
    const chain = ["one", "two", "main", "one"].map((name) => ({
      name,
      owner: lane.startOwner({ fault: "write-journal#1:stop" }),
    }));
    const owners = new Set();
    const next = () =>
      chain.filter(({ owner }) => !owners.has(owner)).map(({ owner }) => owner.hasStopped().then(() => owner));
    for (const { name, owner } of chain) {
      owner.ask(world.ask(host, name));
      if (owners.size > 0) await owner.until(() => owner.first("waiting"));
      else if (await owner.hasStopped()) owners.add(owner);
    }
    while (owners.size < chain.length) {
      expect(terms(host)).toHaveLength(owners.size - 1);
      lane.clock.advance(STUCK_MS);
      owners.add(await Promise.race(next()));
    }
    const asked = lane.ask(host);
    expect(await asked.settledOrWaiting()).toBe(0);
    lane.clock.advance(STUCK_MS);
    const answers = await asked.answers();
    for (const answer of answers) expect(tokensOf(answer), answer.error?.shown).toEqual(tokensOf(answers[0]));
    expect(terms(host)).toEqual(["key.t1", "key.t2", "key.t3", "key.t4"]);
    expect(world.answersTo(host.old.refresh)).toEqual(["refreshed"]);
    await Promise.all(chain.map(({ owner }) => owner.kill()));
    host.remove();
  });
});

describe("a waiter whose time is over", () => {
  test.each([
    { state: "dispatched", fault: "sync-journal#2:stop" },
    { state: "received", fault: "rename#1:stop" },
  ])("is told who holds the key, since when, and that it is $state", async ({ state, fault }) => {
    const { host } = createHost();
    const lockPath = world.lockPath(host);
    const owner = lane.startOwner({ fault });
    const id = owner.ask(world.ask(host, "one"));
    void owner.finish();
    expect(await owner.hasStopped()).toBe(true);
    expect(readJournal(lockPath).state).toBe(state);
    const asked = lane.ask(host, { timeoutMs: SHORT_MS });
    expect(await asked.settledOrWaiting()).toBe(0);
    lane.clock.advance(STUCK_MS - 60_000);
    for (const { error } of await asked.answers()) {
      expect(error).toMatchObject({ code: "file_lock_timeout", path: lockPath, holder: { pid: owner.pid, state } });
      expect(error.holder.heldMs).toBeGreaterThanOrEqual(STUCK_MS - 60_000);
      expect(error.holder.heldMs).toBeLessThan(STUCK_MS);
      expect(error.message).toMatch(new RegExp(`held by process ${owner.pid} for 1[2-7]\\d\\.\\d s: .*${state}`));
    }
    expect(terms(host)).toEqual([]);
    owner.goOn();
    await owner.ended;
    expect(outcome(owner.first("settled", id))).toBe("refreshed");
    const next = await lane.call(host, "one");
    expect(outcome(next)).toBe("fresh");
    expect(world.answersTo(host.old.refresh)).toEqual(["refreshed"]);
    host.remove();
  });
});
