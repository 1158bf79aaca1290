/** What those who wait and hold cost the Node process that they are in, and what its event loop costs them. */
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { serve } from "../cli/provider.mjs";
import { withOAuthProfileLock, withOAuthRefreshLock } from "../index.mjs";
import { holdLock, startAgent } from "./support/agents.mjs";
import { listen, unwanted } from "./support/calls.mjs";
import { deferred } from "./support/events.mjs";
import { answer, createHost, expired, PROVIDER, storeText } from "./support/host.mjs";
import { startProgram } from "./support/programs.mjs";
import { COUNTED, NOT_COUNTED, takeStock } from "./support/resources.mjs";

const WAITERS = 64;
const READS = 100;
/** After the first one a process has what it needs once and for all. */
const ROUNDS = 3;
/** For what a process has once while anybody waits in it, such as a thread that watches for all. */
const SLACK = 2;
/** For how long an event loop stands still. `BLOCKED_MS=30000` is more than `npm test` does. */
const BLOCKED_MS = Number(process.env.BLOCKED_MS ?? 2_000);
/** A waiter that took libuv's only thread would leave none for files. */
const ONE_POOL_THREAD = { UV_THREADPOOL_SIZE: "1" };

const nameOf = (key) => `acme:${key}`;
const agentOf = (key) => `agent-${key}`;
/** Each is its own main agent, so that there is no other store for it to find a credential in. */
const optionsOf = (host, key) => host.as(agentOf(key), { mainAgentDir: host.agentDir(agentOf(key)) });
const seed = (host, key) => host.seed(agentOf(key), storeText(expired(), nameOf(key)));

/** So many calls for these keys, of both kinds in turn. */
function callsFor(host, keys, count, thread = 0) {
  return Array.from({ length: count }, (_, number) => ({
    ask: (thread + number) % 2 === 0 ? "refresh" : "lock",
    key: number % keys,
    provider: PROVIDER,
    profileId: nameOf(number % keys),
    options: optionsOf(host, number % keys),
  }));
}

/** Has another process hold these keys' locks; returns what frees them. */
async function hold(host, holder, keys) {
  const profiles = Array.from({ length: keys }, (_, key) => nameOf(key));
  const holds = profiles.map((profileId) => holdLock(holder, { profileId, options: { stateDir: host.stateDir } }));
  const held = await Promise.all(holds);
  return () => Promise.all(held.map(({ release }) => release()));
}

/** All callers had their turn, one at a time, and of those that refresh one per key did so. */
async function expectServed(crowd, keys, { access }) {
  await crowd.told({ type: "settled" }, WAITERS);
  expect(crowd.log.matching({ type: "settled", access })).toHaveLength(WAITERS);
  expect(crowd.log.matching({ type: "called", ask: "refresh" })).toHaveLength(keys);
  expect(crowd.log.matching({ type: "called", ask: "lock" })).toHaveLength(WAITERS / 2);
  expect(crowd.log.types()).not.toContain("together");
}

describe(`${WAITERS} callers that wait for another process`, () => {
  test.for([
    ["in one thread for one key", { threads: 0, keys: 1 }],
    ["in 8 worker threads for one key", { threads: 8, keys: 1 }],
    ["in 4 worker threads for 16 keys", { threads: 4, keys: 16 }],
  ])("%s cost one thread per key, and none of libuv's", async ([_, { threads, keys }], { skip }) => {
    const host = createHost();
    const ofThread = Array.from({ length: threads }, (_, thread) => callsFor(host, keys, WAITERS / threads, thread));
    const calls = threads === 0 ? callsFor(host, keys, WAITERS) : [];
    const crowd = startProgram("crowd", { threads: ofThread, calls }, { env: ONE_POOL_THREAD });
    const holder = await startAgent();
    let expectGrowth = async () => {};
    for (let round = 0; round < ROUNDS; round++) {
      for (let key = 0; key < keys; key++) seed(host, key);
      const release = await hold(host, holder, keys);
      crowd.log.forget();
      const fields = answer();
      crowd.say("go", { fields });
      await crowd.told({ type: "waiting" }, WAITERS);
      crowd.say("read", { count: READS });
      await crowd.told({ type: "read", count: READS });
      await expectGrowth({ threads: keys + SLACK, descriptors: keys + SLACK });
      // They have been waiting all the time.
      expect(crowd.log.types()).toEqual([...Array(WAITERS).fill("waiting"), "read"]);
      await release();
      await expectServed(crowd, keys, fields);
      if (round === 0) expectGrowth = takeStock(crowd.pid);
      else await expectGrowth({ threads: 0, descriptors: 0 });
    }
    crowd.say("leave");
    expect(await crowd.exited).toEqual({ code: 0, signal: null });
    skip(!COUNTED, NOT_COUNTED);
  });
});

/** A token endpoint that answers when told to. */
async function startTokenEndpoint() {
  const asked = deferred();
  let requests = 0;
  const { url: issuer, close } = await serve((_request, response) => {
    requests += 1;
    asked.resolve(async ({ access, refresh }) => {
      const tokens = { token_type: "bearer", access_token: access, refresh_token: refresh, expires_in: 3_600 };
      response.setHeader("content-type", "application/json").end(JSON.stringify(tokens));
      await once(response, "finish");
    });
  });
  onTestFinished(close);
  return {
    client: { issuer, tokenEndpoint: `${issuer}/token`, clientId: "c" },
    /** Resolves to what answers the first request. */
    asked: asked.promise,
    requests: () => requests,
  };
}

async function block(program) {
  program.say("block");
  await program.told({ type: "blocked" });
}

describe(`a process whose event loop stands still for ${BLOCKED_MS} ms`, () => {
  test.each([
    ["within the time limit of its call", undefined],
    ["past the time limit of its call", BLOCKED_MS / 2],
  ])("%s has the answer that came meanwhile", async (_, callTimeoutMs) => {
    const host = createHost();
    seed(host, 0);
    const endpoint = await startTokenEndpoint();
    const options = { ...optionsOf(host, 0), callTimeoutMs };
    const call = { ask: "refresh", key: 0, provider: PROVIDER, profileId: nameOf(0), options, server: endpoint.client };
    const owner = startProgram("crowd", { threads: [], calls: [call] });
    owner.say("go", {});
    const respond = await endpoint.asked;
    await block(owner);
    const log = listen();
    const neighbour = withOAuthRefreshLock(PROVIDER, nameOf(0), unwanted(), optionsOf(host, 0));
    await log.seen({ type: "waiting" });
    const { access, refresh } = answer();
    await respond({ access, refresh });
    await delay(BLOCKED_MS);
    expect(log.types()).toEqual(["waiting"]);
    owner.unblock();
    expect(await neighbour).toMatchObject({ outcome: "fresh", credential: { access, refresh } });
    await owner.told({ type: "settled" });
    expect(owner.log.matching({ type: "settled" })).toEqual([{ type: "settled", outcome: "refreshed", access }]);
    expect(endpoint.requests()).toBe(1);
  });

  test(`keeps the lock that came meanwhile, for its ${WAITERS} callers`, async () => {
    const host = createHost();
    seed(host, 0);
    const release = await hold(host, await startAgent(), 1);
    const crowd = startProgram("crowd", { threads: [], calls: callsFor(host, 1, WAITERS) });
    const fields = answer();
    crowd.say("go", { fields });
    await crowd.told({ type: "waiting" }, WAITERS);
    await block(crowd);
    await release();
    const lock = (timeoutMs) =>
      withOAuthProfileLock(PROVIDER, nameOf(0), () => "mine", { ...optionsOf(host, 0), timeoutMs });
    const holder = () => lock(20).catch((error) => error.holder.pid);
    await expect.poll(holder, { timeout: 20_000 }).toBe(crowd.pid);
    await delay(BLOCKED_MS);
    expect(await holder()).toBe(crowd.pid);
    expect(crowd.log.types()).not.toContain("acquired");
    const log = listen();
    const neighbour = lock();
    await log.seen({ type: "waiting" });
    crowd.unblock();
    await expectServed(crowd, 1, fields);
    expect(await neighbour).toBe("mine");
  });
});
