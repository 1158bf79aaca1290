import { readdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { inspectOAuthRefreshLocks, resolveOAuthRefreshLockPath, withOAuthRefreshLock } from "oauth-refresh-lock";
import { expect, test } from "vitest";
import { startAgent } from "./support/agents.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER } from "./support/host.mjs";
import { listen } from "./support/listen.mjs";
import { rejection } from "./support/rejections.mjs";

const pathOn = (host) => resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir: host.stateDir });
const lookAt = (host) => inspectOAuthRefreshLocks({ stateDir: host.stateDir });

test("a state directory without locks has nothing to show, and nothing is made", async () => {
  const host = createHost();
  const before = host.tree();
  expect(await lookAt(host)).toEqual([]);
  expect(host.tree()).toEqual(before);
});

test("a key shows who holds it, how far it is and who waits, and tells no secret", async () => {
  const host = createHost({ main: expired() });
  const owner = await startAgent();
  const theirs = owner.refresh({ options: host.as("main") });
  await theirs.called;
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
    rejection(withOAuthRefreshLock(PROVIDER, PROFILE, () => Promise.reject(error), host.as("main")));
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

test("bad options are refused", async () => {
  for (const options of [1, null, { stateDir: "relative" }, { stateDir: 1 }]) {
    expect(await rejection(inspectOAuthRefreshLocks(options))).toMatchObject({ code: "invalid_argument" });
  }
});
