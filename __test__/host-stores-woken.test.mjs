/**
 * Who waits while a peer refreshes a login in a host's store: all look at it at a time once it is there, and none with the lock
 * held.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { withOAuthRefreshLock } from "../index.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER } from "./support/host.mjs";
import { memoryStore } from "./support/host-stores.mjs";
import { listen } from "./support/listen.mjs";
import { startProgram } from "./support/programs.mjs";
import { held, unwanted } from "./support/refresh-functions.mjs";

const CALLERS = 20;
const PROCESSES = 5;

const call = (host, refresh, options) =>
  withOAuthRefreshLock(PROVIDER, PROFILE, refresh, { stateDir: host.stateDir, ...options });

describe(`${CALLERS} callers of one process`, () => {
  /** All of them behind the first one; what its store has loaded once the provider answers, until all are served. */
  async function behindOne(hinder = () => {}) {
    const host = createHost();
    const store = memoryStore("own", expired());
    const log = listen();
    const { refresh, called, answer: reply } = held();
    const calls = [call(host, refresh, { store })];
    await called;
    for (let caller = 1; caller < CALLERS; caller++) calls.push(call(host, unwanted(), { store }));
    await log.seen({ type: "waiting" }, CALLERS - 1);
    // All have looked before they wait.
    while (store.load.mock.calls.length < CALLERS + 1) await new Promise(setImmediate);
    const before = store.load.mock.calls.length;
    hinder(store);
    reply(answer());
    const results = await Promise.allSettled(calls);
    const acquired = log.matching({ type: "acquired" }).length;
    return { store, results, acquired, loads: store.load.mock.calls.length - before };
  }

  test("are served with one load more than the refresh itself takes, and one lock", async () => {
    const { store, results, acquired, loads } = await behindOne();
    const outcomes = results.map(({ value }) => value.outcome).sort();
    expect(outcomes).toEqual([...Array(CALLERS - 1).fill("fresh"), "refreshed"]);
    for (const { value } of results) expect(value.credential).toEqual(store.held);
    // To swap, to read that back, and for all who have waited.
    expect([loads, acquired]).toEqual([3, 1]);
  });

  test("are served by a load of their own if the one that they share fails", async () => {
    const { store, results } = await behindOne((store) => {
      const usual = store.load.getMockImplementation();
      store.load.mockImplementationOnce(usual).mockImplementationOnce(usual).mockRejectedValueOnce(new Error("once"));
    });
    expect(results.map(({ value }) => value?.credential)).toEqual(Array(CALLERS).fill(store.held));
  });
});

test(`${PROCESSES} processes that have waited ask their store at a time, none of them with the lock`, async () => {
  const host = createHost();
  const file = join(host.root, "login.json");
  const old = expired();
  writeFileSync(file, JSON.stringify(old));
  const read = () => JSON.parse(readFileSync(file, "utf8"));
  const store = {
    name: "shared",
    load: read,
    compareAndSwap: (_profileId, expected, next) => {
      if (read().refresh !== expected?.refresh) return false;
      writeFileSync(file, JSON.stringify(next));
      return true;
    },
  };
  const { refresh, called, answer: reply } = held();
  const first = call(host, refresh, { store });
  await called;
  const work = { provider: PROVIDER, profileId: PROFILE, stateDir: host.stateDir, file };
  const others = Array.from({ length: PROCESSES }, () => startProgram("waiting-host", work));
  for (const other of others) {
    await other.told({ type: "waiting" });
    other.say("watch");
    await other.told({ type: "watching" });
  }
  reply(answer());
  const { credential } = await first;
  // Each waits in its load for all others: with the lock held nobody else would get that far.
  await Promise.all(others.map((other) => other.told({ type: "loading" })));
  for (const other of others) other.say("load");
  for (const other of others) {
    await other.told({ type: "done", outcome: "fresh", access: credential.access });
    expect(await other.exited).toEqual({ code: 0, signal: null });
    expect(other.log.matching({ type: "loading" })).toHaveLength(1);
  }
});
