/** What `doctor` and `status` say of refresh tokens: of those that stores hold now, and of no others. */
import { rmSync } from "node:fs";
import { withOAuthRefreshLock } from "oauth-refresh-lock";
import { expect, test } from "vitest";
import { askingElsewhere } from "../support/agents.mjs";
import { lockPathOn, rejection } from "../support/calls.mjs";
import { answer, createHost, expired, IMPATIENT, PROFILE, PROVIDER, usable } from "../support/host.mjs";
import { memoryStore } from "../support/host-stores.mjs";
import { cliJson, on } from "./cli.mjs";

/** What the doctor finds, and how the last refresh ended. */
function look(host) {
  const found = cliJson(["doctor", ...on(host)]).findings.map(({ level, code }) => `${level} ${code}`);
  return { found, last: cliJson(["status", ...on(host)]).keys[0].lastRefresh };
}

const DONE = expect.stringMatching(/^done /);
const refresh = (host, agent, options) =>
  withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), {
    ...host.as(agent),
    mainAgentDir: host.agentDir("main"),
    ...options,
  });
const fail = (host, fields, options) => {
  const failing = () => Promise.reject(Object.assign(new Error("failed"), fields));
  return rejection(withOAuthRefreshLock(PROVIDER, PROFILE, failing, { ...host.as("main", IMPATIENT), ...options }));
};

test("a backup that was put back: nothing is left of what came after it, and refreshing fails as told", async () => {
  const host = createHost({ main: expired() });
  const backup = host.store("main");
  await refresh(host, "main");
  host.seed("main", backup);
  expect(look(host).found).toEqual(["error spent_generation"]);
  expect(await rejection(refresh(host, "main"))).toMatchObject({ code: "refresh_token_spent" });
  expect(look(host).found).toEqual(["error spent_generation"]);
  host.seed("main", usable());
  expect(look(host).found).toEqual([]);
});

test.each(["sub", "main"])(
  "a backup that was put back, while another store has what came after it (%s refreshed): the next call brings that",
  async (refreshing) => {
    const login = expired();
    const host = createHost({ main: login, sub: login });
    const backup = host.store("main");
    await refresh(host, refreshing);
    // If that was main, this one adopts, and is in no journal.
    await refresh(host, "sub");
    host.seed("main", backup);
    expect(look(host).found).toEqual(["warning spent_generation"]);
    expect(await refresh(host, "main")).toMatchObject({ outcome: expect.not.stringMatching("refreshed") });
    expect(look(host).found).toEqual([]);
  },
);

test("the copy of an agent that has not called since is nothing to tell", async () => {
  const login = expired();
  const host = createHost({ main: login, sub: login });
  await refresh(host, "main");
  expect(look(host)).toEqual({ found: [], last: DONE });
});

test.each([
  ["a refusal", { error: "invalid_grant" }, "error grant_dead", "log in again"],
  ["a pause", { status: 503, headers: { "retry-after": "600" } }, "warning refresh_backoff", "failed, later"],
  ["no answer", { code: "ECONNRESET" }, "warning refresh_uncertain", "unknown"],
])("%s counts as long as a store holds the refresh token that it is about", async (_, fields, found, last) => {
  const host = createHost({ main: expired() });
  await fail(host, fields);
  expect(look(host)).toEqual({ found: [found], last });
  host.seed("main", usable());
  expect(look(host)).toEqual({ found: [], last: "none yet" });
  await refresh(host, "main", { forceRefresh: true });
  expect(look(host)).toEqual({ found: [], last: DONE });
});

test("a refusal in a host's store, which can't be looked at, is told", async () => {
  const host = createHost();
  const store = memoryStore("keychain", expired());
  await fail(host, { error: "invalid_grant" }, { agentDir: undefined, store });
  expect(look(host)).toEqual({ found: ["error grant_dead"], last: "log in again" });
});

test("status tells every name of a login what a call under one of them learned of the refresh token", async () => {
  const login = expired();
  const profiles = { [PROFILE]: login, "acme:alias": login, "acme:untried": login };
  const host = createHost({ main: JSON.stringify({ version: 1, profiles }) });
  await fail(host, { error: "invalid_grant" });
  expect(await rejection(withOAuthRefreshLock(PROVIDER, "acme:alias", answer, host.as("main")))).toMatchObject({
    code: "grant_dead",
  });
  const { keys } = cliJson(["status", ...on(host)]);
  // A name without a lock was not tried yet.
  expect(Object.fromEntries(keys.map(({ profileId, lastRefresh }) => [profileId, lastRefresh]))).toEqual({
    [PROFILE]: "log in again",
    "acme:alias": "log in again",
    "acme:untried": "none yet",
  });
});

test("the next refresh is when a call would refresh: the margin is a fifth of the life of a token that lives shorter", async () => {
  const host = createHost({ main: expired() });
  const expires = Date.now() + 600_000;
  await withOAuthRefreshLock(PROVIDER, PROFILE, () => answer({ expires }), host.as("main"));
  const [{ nextRefresh }] = cliJson(["status", ...on(host)]).keys;
  expect(expires - nextRefresh).toBeGreaterThan(100_000);
  expect(expires - nextRefresh).toBeLessThanOrEqual(120_000);
});

test("a call that was cut off is told when its owner is gone, and is no error however often it is repeated", async () => {
  const host = createHost({ main: expired() });
  const [owner] = await askingElsewhere({ options: host.as("main") });
  expect(look(host)).toEqual({ found: [], last: "asking now" });
  await owner.kill();
  // Its lock file is no lock of OpenClaw's, and told once.
  expect(look(host)).toEqual({ found: ["warning refresh_uncertain", "warning debris"], last: "cut off" });
  expect(cliJson(["status", ...on(host)]).keys[0].lock).toMatchObject({
    foreign: null,
    debris: [`${lockPathOn(host)}.lock`],
  });
  rmSync(`${lockPathOn(host)}.lock`);
  expect(look(host).found).toEqual(["warning refresh_uncertain"]);
  await fail(host, { code: "ECONNRESET" });
  expect(await fail(host, {}, { timeoutMs: 1_000 })).toMatchObject({ code: "refresh_uncertain" });
  expect(look(host)).toEqual({ found: ["warning refresh_uncertain"], last: "unknown" });
});

test("a superseded answer is not shown as waiting, and an answer on its way is not shown as unsaved", async () => {
  const host = createHost({ main: expired({ accountId: "main's" }), sub: expired() });
  const login = () => {
    host.seed("sub", usable());
    return answer();
  };
  await withOAuthRefreshLock(PROVIDER, PROFILE, login, { ...host.as("sub"), mainAgentDir: host.agentDir("main") });
  const [{ lock }] = cliJson(["status", ...on(host)]).keys;
  expect(lock).toMatchObject({ waitingCredentials: 1, waitingFor: [] });
  expect(look(host).found).toEqual([]);

  const held = createHost({ main: expired(), sub: expired() });
  const blocked = () => {
    held.block("sub");
    return answer();
  };
  await withOAuthRefreshLock(PROVIDER, PROFILE, blocked, { ...held.as("sub"), mainAgentDir: held.agentDir("main") });
  expect(look(held).found).toContain("error receipt_unsaved");
  const [owner] = await askingElsewhere({ options: { ...held.as("main"), forceRefresh: true } });
  expect(look(held).found).not.toContain("error receipt_unsaved");
  await owner.kill();
});
