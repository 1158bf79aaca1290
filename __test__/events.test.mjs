import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setImmediate } from "node:timers/promises";
import {
  inspectOAuthRefreshLocks,
  resolveOAuthRefreshLockPath,
  withOAuthProfileLock,
  withOAuthRefreshLock,
} from "oauth-refresh-lock";
import { describe, expect, test } from "vitest";
import { askingElsewhere, holdLock, startAgent } from "./support/agents.mjs";
import { answering, listen, refreshAs, rejection, stopClock, typedRejection, unwanted } from "./support/calls.mjs";
import { answer, createHost, expired, IMPATIENT, PROFILE, PROVIDER } from "./support/host.mjs";
import { toldBy } from "./support/secrets.mjs";

describe("events", () => {
  test("tell what happened to which key, for whom and when, and no token", async () => {
    const host = createHost({ main: expired(), sub: expired() });
    const log = listen();
    const from = performance.timeOrigin + performance.now();
    await refreshAs(host, "sub", answering());
    const until = performance.timeOrigin + performance.now();
    const subject = {
      provider: PROVIDER,
      profileId: PROFILE,
      lockPath: resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir: host.stateDir }),
      agentDir: host.agentDir("sub"),
      at: expect.any(Number),
    };
    expect(log.events).toEqual([
      { ...subject, type: "acquired" },
      { ...subject, type: "dispatched" },
      { ...subject, type: "refreshed" },
      { ...subject, type: "mirrored", reason: "incoming-fresher" },
    ]);
    const times = log.events.map(({ at }) => at);
    expect([from, ...times, until]).toEqual([from, ...times, until].sort((one, other) => one - other));
    expect(toldBy(new Error(JSON.stringify(log.events)))).toEqual([]);
  });
});

describe("a call that fails says so on the channel, with its code", () => {
  test("a result that is no credential", async () => {
    const host = createHost({ main: expired() });
    const log = listen();
    await rejection(refreshAs(host, "main", async () => ({})));
    expect(log.types()).toEqual(["acquired", "dispatched", "failed"]);
    expect(log.matching({ code: "invalid_refresh_result" })).toHaveLength(1);
  });

  test("a store that cannot be read", async () => {
    const host = createHost({ main: "" });
    const log = listen();
    await rejection(refreshAs(host, "main", unwanted()));
    expect(log.types()).toEqual(["failed"]);
    expect(log.matching({ code: "store_invalid" })).toHaveLength(1);
  });

  test.each([
    ["a wait that ran out", "file_lock_timeout", {}, (pass) => pass(5_000)],
    ["a caller that left", "caller_aborted", { signal: true }, (_, controller) => controller.abort()],
  ])("%s", async (_, code, { signal }, end) => {
    const host = createHost({ main: expired() });
    const lock = await holdLock(await startAgent(), { options: { stateDir: host.stateDir } });
    const log = listen();
    const pass = stopClock();
    const controller = new AbortController();
    const options = { timeoutMs: 5_000, ...(signal && { signal: controller.signal }) };
    const failed = typedRejection(refreshAs(host, "main", unwanted(), options), code);
    await log.seen({ type: "waiting" });
    end(pass, controller);
    await failed;
    await lock.release();
    expect(log.types()).toEqual(["waiting", "failed"]);
    expect(log.events[1].code).toBe(code);
  });
});

const isLinux = process.platform === "linux";
const pathOn = (host) => resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir: host.stateDir });
const lookAt = (host) => inspectOAuthRefreshLocks({ stateDir: host.stateDir });

test("a state directory without locks has nothing to show, and nothing is made", async () => {
  const host = createHost();
  const before = host.tree();
  expect(await lookAt(host)).toEqual([]);
  expect(host.tree()).toEqual(before);
});

test("a key shows its holder, its progress and its waiters, and tells no secret", async () => {
  const host = createHost({ main: expired() });
  const [owner, theirs] = await askingElsewhere({ options: host.as("main") });
  const log = listen();
  const ours = withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), host.as("main"));
  await log.seen({ type: "waiting" });

  const [key, ...others] = await lookAt(host);
  expect(others).toEqual([]);
  expect(key).toMatchObject({
    lockPath: pathOn(host),
    term: 0,
    holder: { pid: owner.pid, since: expect.any(Number) },
    state: "dispatched",
    lastClaim: { pid: owner.pid, at: expect.any(Number) },
    failures: [],
    waitingCredentials: 0,
    foreign: null,
    problem: null,
    debris: [],
  });
  expect(key.holder.heldMs).toBeGreaterThan(0);
  if (process.platform === "linux") {
    expect(key.holder.command).toEqual(expect.any(String));
    expect(key.holder.startTime).toBeGreaterThan(0);
    expect(key.holder.pidNamespace).toBeGreaterThan(0);
  }
  const fields = answer();
  theirs.answer(fields);
  await ours;
  const settled = await lookAt(host);
  expect(settled).toMatchObject([
    { holder: null, state: "committed", waiters: process.platform === "linux" ? 0 : null },
  ]);
  const told = JSON.stringify([key, settled]);
  for (const secret of [fields.access, fields.refresh]) expect(told).not.toContain(secret);
});

test("a dead grant and a pause are told", async () => {
  const host = createHost({ main: expired() });
  const fail = (error) =>
    rejection(withOAuthRefreshLock(PROVIDER, PROFILE, () => Promise.reject(error), host.as("main", IMPATIENT)));
  await fail(Object.assign(new Error("slow down"), { status: 429, retryAfterMs: 60_000 }));
  const [paused] = await lookAt(host);
  expect(paused.failures).toMatchObject([{ outcome: "answered_unspent", pid: process.pid }]);
  expect(paused.failures[0].retryAfterMs).toBeGreaterThan(1000);

  host.seed("main", expired());
  await fail(Object.assign(new Error("no"), { error: "invalid_grant" }));
  const [dead] = await lookAt(host);
  expect(dead.failures.at(-1)).toMatchObject({ outcome: "answered_dead", pid: process.pid, retryAfterMs: null });
});

test("another program's lock file and what a death has left are told", async () => {
  const host = createHost({ main: expired() });
  await withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), host.as("main"));
  const path = pathOn(host);
  const put = (pid) => writeFileSync(`${path}.lock`, JSON.stringify({ pid, createdAt: new Date().toISOString() }));
  put(process.pid);
  expect(await lookAt(host)).toMatchObject([{ foreign: { pid: process.pid, alive: true }, debris: [] }]);
  put(2 ** 30);
  expect(await lookAt(host)).toMatchObject([{ foreign: { alive: false }, debris: [`${path}.lock`] }]);
  expect(readdirSync(dirname(path))).toContain(`${path.split("/").at(-1)}.lock`);
});

test("an inspection changes nothing, and inspections don't see each other", async () => {
  const host = createHost({ main: expired() });
  await withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), host.as("main"));
  // A key that was taken over, and never had a lock file of that term.
  writeFileSync(`${pathOn(host)}.t1.journal`, "", { mode: 0o600 });
  rmSync(join(dirname(pathOn(host)), "probe"));
  const before = host.tree();
  const looks = await Promise.all(Array.from({ length: 200 }, () => lookAt(host)));
  for (const keys of looks) expect(keys).toMatchObject([{ term: 1, holder: null, waiters: isLinux ? 0 : null }]);
  expect(host.tree()).toEqual(before);
});

test("looking keeps no owner from its lock, be it one that does not wait", async () => {
  const host = createHost();
  let isDone = false;
  const looking = (async () => {
    while (!isDone) await Promise.all(Array.from({ length: 8 }, () => lookAt(host)));
  })();
  const log = listen();
  const call = () => withOAuthProfileLock(PROVIDER, PROFILE, () => {}, { stateDir: host.stateDir, timeoutMs: 5_000 });
  for (let at = 0; at < 300; at += 1) {
    await call();
    await setImmediate();
  }
  isDone = true;
  await looking;
  if (isLinux) expect(log.events.filter(({ type }) => type === "waiting")).toEqual([]);
});

test("one odd entry is that key's problem", async () => {
  const host = createHost();
  for (const profile of ["a", "b", "c", "d"])
    await withOAuthProfileLock(PROVIDER, profile, () => {}, { stateDir: host.stateDir });
  const [first, second, third, fourth] = (await lookAt(host)).map(({ lockPath }) => lockPath);
  for (const path of [first, second, third]) rmSync(path);
  mkdirSync(first);
  symlinkSync("/nowhere", second);
  spawnSync("mkfifo", [third]);
  const keys = await lookAt(host);
  expect(keys.map(({ lockPath, problem }) => [lockPath, problem?.code])).toEqual([
    [first, "lock_unavailable"],
    [second, "lock_unavailable"],
    [third, "lock_unavailable"],
    [fourth, undefined],
  ]);
});

test("a file that a living owner makes and removes all the time is neither debris nor another program's", async () => {
  const host = createHost();
  let isDone = false;
  const work = (async () => {
    while (!isDone) {
      await withOAuthProfileLock(PROVIDER, PROFILE, () => {}, { stateDir: host.stateDir });
      await setImmediate();
    }
  })();
  for (let at = 0; at < 60; at += 1) {
    for (const key of await lookAt(host)) expect(key).toMatchObject({ foreign: null, debris: [], problem: null });
  }
  isDone = true;
  await work;
});

test("bad options are refused", async () => {
  for (const options of [1, null, { stateDir: "relative" }, { stateDir: 1 }]) {
    expect(await rejection(inspectOAuthRefreshLocks(options))).toMatchObject({ code: "invalid_argument" });
  }
});
