/** Claims of a host that asks the provider by itself. */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, onTestFinished, test } from "vitest";
import { awaitOAuthRefreshClaim, holdOAuthRefreshClaim } from "../index.mjs";
import { listen, lockPathOn, typedRejection } from "./support/calls.mjs";
import { CHANNEL } from "./support/events.mjs";
import { createHost, expired, PROFILE, PROVIDER } from "./support/host.mjs";
import { startProgram } from "./support/programs.mjs";

const KEY = [PROVIDER, PROFILE];
const KILLED = { code: null, signal: "SIGKILL" };

/** A claim on one credential, and processes that hold it or wait for it. */
function createClaim(options = {}) {
  const host = createHost();
  const where = { lockPath: lockPathOn(host), claimId: "claim-1" };
  const credential = expired();
  const record = { ...where, generation: "generation-1", credential, ...options };
  const start = (ask, given) => startProgram("claimant", { ask, key: KEY, options: given });
  return {
    host,
    where,
    credential,
    hold: (more) => holdOAuthRefreshClaim(...KEY, { ...record, ...more }),
    wait: (more) => awaitOAuthRefreshClaim(...KEY, { ...where, ...more }),
    async owner() {
      const owner = start("hold", record);
      await owner.told({ type: "held" });
      return owner;
    },
    waiter: () => start("wait", where),
    async waiters(count) {
      const waiters = Array.from({ length: count }, this.waiter);
      await Promise.all(waiters.map((waiter) => waiter.told({ type: "waiting" })));
      return waiters;
    },
    files: () => readdirSync(dirname(where.lockPath)).filter((name) => name.includes("claim")),
  };
}

test("twenty waiters for an owner that is killed are told so, with the credential, and one at a time has it", async () => {
  const claim = createClaim();
  const owner = await claim.owner();
  const waiters = await claim.waiters(20);
  owner.kill("SIGKILL");
  expect(await owner.exited).toEqual(KILLED);
  const left = new Set(waiters);
  while (left.size > 0) {
    const first = await Promise.race([...left].map((waiter) => waiter.told({ type: "ownerDead" }).then(() => waiter)));
    const told = [...left].filter(({ log }) => log.matching({ type: "ownerDead" }).length > 0);
    expect(told).toEqual([first]);
    expect(first.log.matching({ type: "ownerDead" })).toEqual([
      { type: "ownerDead", credential: claim.credential, mayProbe: true },
    ]);
    left.delete(first);
    // By its death, too.
    if (left.size % 2 === 0) first.kill("SIGKILL");
    else first.say("release");
  }
});

test("once one has settled what a killed owner left, the others are told that it is settled, and nothing is left", async () => {
  const claim = createClaim();
  const owner = await claim.owner();
  const waiters = await claim.waiters(5);
  owner.kill("SIGKILL");
  const first = await Promise.race(waiters.map((waiter) => waiter.told({ type: "ownerDead" }).then(() => waiter)));
  first.say("settle");
  const others = waiters.filter((waiter) => waiter !== first);
  await Promise.all(others.map((waiter) => waiter.told({ type: "settled" })));
  expect(waiters.flatMap(({ log }) => log.matching({ type: "ownerDead" }))).toHaveLength(1);
  expect(claim.files()).toEqual([]);
});

test("twenty waiters for an owner that settles are told so, and no secret is left", async () => {
  const claim = createClaim();
  const owner = await claim.owner();
  const waiters = await claim.waiters(20);
  owner.say("settle");
  await Promise.all(waiters.map((waiter) => waiter.told({ type: "settled" })));
  await owner.told({ type: "settle" });
  expect(claim.files()).toEqual([]);
  expect(await claim.wait()).toEqual({ state: "unknown" });
});

test("an owner that holds a claim can end, and a later caller is told that it is gone", async () => {
  const claim = createClaim({ uncertain: "fail" });
  const owner = await claim.owner();
  owner.say("leave");
  expect(await owner.exited).toEqual({ code: 0, signal: null });
  const found = await claim.wait();
  expect(found).toMatchObject({ state: "ownerDead", credential: claim.credential, mayProbe: false });
  await found.settle();
  await found.settle();
});

test("the record is for its owner alone, and its credential is as it was given", async () => {
  const claim = createClaim();
  const held = await claim.hold();
  const name = claim.files().find((file) => file.endsWith(".record"));
  const record = JSON.parse(readFileSync(join(dirname(claim.where.lockPath), name), "utf8"));
  expect(JSON.parse(record.credential)).toEqual(claim.credential);
  await held.settle();
  expect(claim.files()).toEqual([]);
});

test("a claim that is not on record is unknown, and the question makes no file", async () => {
  const claim = createClaim();
  expect(await claim.wait()).toEqual({ state: "unknown" });
  const held = await claim.hold();
  const files = claim.files();
  expect(await claim.wait({ claimId: "claim-2" })).toEqual({ state: "unknown" });
  expect(claim.files()).toEqual(files);
  await held.settle();
});

test("a claim's id is used once", async () => {
  const claim = createClaim();
  const held = await claim.hold();
  await typedRejection(claim.hold(), "invalid_argument");
  await held.release();
  await typedRejection(claim.hold(), "invalid_argument");
});

test("a claim is held though no code refers to it any more", async () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc");
  const claim = createClaim();
  await claim.hold();
  for (let turns = 0; turns < 3; turns++) {
    await turn();
    collectGarbage();
  }
  const waiter = claim.waiter();
  await Promise.race([waiter.told({ type: "waiting" }), waiter.told({ type: "ownerDead" })]);
  expect(waiter.log.types()).toEqual(["waiting"]);
});

test("a waiter can give up, by its signal and by its time", async () => {
  const claim = createClaim();
  const held = await claim.hold();
  const log = listen();
  const controller = new AbortController();
  const waiting = claim.wait({ signal: controller.signal });
  await log.seen({ type: "waiting" });
  controller.abort(new Error("enough"));
  expect((await typedRejection(waiting, "caller_aborted")).cause.message).toBe("enough");
  await typedRejection(claim.wait({ signal: AbortSignal.abort() }), "caller_aborted");
  const error = await typedRejection(claim.wait({ timeoutMs: 1 }), "file_lock_timeout");
  expect(error.holder.pid).toBe(process.pid);
  // Nobody who has given up has it now.
  await held.release();
  const found = await claim.wait();
  expect(found.state).toBe("ownerDead");
  await found.settle();
});

test("a waiter that gives up just when the claim is free does not keep it", async () => {
  const claim = createClaim();
  const held = await claim.hold();
  const controller = new AbortController();
  const giveUp = ({ type }) => type === "acquired" && controller.abort();
  subscribe(CHANNEL, giveUp);
  onTestFinished(() => void unsubscribe(CHANNEL, giveUp));
  // Heard from the start: the lock may come before the word that it was released.
  const refused = typedRejection(claim.wait({ signal: controller.signal }), "caller_aborted");
  await held.release();
  await refused;
  unsubscribe(CHANNEL, giveUp);
  expect((await claim.wait()).state).toBe("ownerDead");
});

test.each([
  ["no claimId", "both", { claimId: undefined }],
  ["a blank claimId", "both", { claimId: " " }],
  ["a relative lockPath", "both", { lockPath: "lock" }],
  ["an unknown option", "both", { claimID: "claim-1" }],
  ["no generation", "hold", { generation: undefined }],
  ["no credential", "hold", { credential: undefined }],
  ["a credential that is text", "hold", { credential: "secret" }],
  ["a credential of another type", "hold", { credential: { type: "api_key", key: "secret" } }],
  ["a credential that JSON can't hold", "hold", { credential: { type: "oauth", expires: 1n } }],
  ["another uncertain", "hold", { uncertain: "maybe" }],
  ["no signal", "wait", { signal: {} }],
  ["no time", "wait", { timeoutMs: 0 }],
])("%s is refused, and nothing is written", async (_, calls, wrong) => {
  const claim = createClaim();
  const before = claim.host.tree();
  if (calls !== "wait") await typedRejection(claim.hold(wrong), "invalid_argument");
  if (calls !== "hold") await typedRejection(claim.wait(wrong), "invalid_argument");
  await typedRejection(holdOAuthRefreshClaim("", PROFILE), "invalid_argument");
  expect(claim.host.tree()).toEqual(before);
});
