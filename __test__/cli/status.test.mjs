/** `status`, `watch` and `path`, on keys that are held, waited for and refreshed by real processes. */
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { withOAuthProfileLock, withOAuthRefreshLock } from "oauth-refresh-lock";
import { expect, onTestFinished, test } from "vitest";
import { askingElsewhere } from "../support/agents.mjs";
import { listen, lockPathOn } from "../support/calls.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER, STORE_FILE, storeText, usable } from "../support/host.mjs";
import { memoryStore } from "../support/host-stores.mjs";
import { copyPackage } from "../support/package-copy.mjs";
import { cli, cliJson, on, startCli, widest } from "./cli.mjs";

test("an empty state directory has nothing to show, and is left as it is", () => {
  const host = createHost();
  const before = host.tree();
  expect(cliJson(["status", ...on(host)])).toEqual({ status: 0, stateDir: host.stateDir, keys: [], problems: [] });
  expect(cli(["status", ...on(host)])).toEqual({
    stdout: `No OAuth logins and no locks in ${host.stateDir}.\n`,
    stderr: "",
    status: 0,
  });
  expect(host.tree()).toEqual(before);
});

test("a state directory that is named by nothing, as by a variable that is not set, is refused", () => {
  for (const args of [["status"], ["doctor", "--fix"], ["path", "acme", "acme:owner"]]) {
    const { stdout, stderr, status } = cli([...args, "--state-dir", ""]);
    expect({ stdout, status }).toEqual({ stdout: "", status: 2 });
    expect(stderr).toMatch(/A directory is needed/);
  }
});

test("names that would play tricks on a terminal are shown without", () => {
  const host = createHost();
  const evil = "a\u001b[31m\u202eb\u200bc";
  host.seed("main", JSON.stringify({ version: 1, profiles: { [evil]: { ...usable(), provider: "acme" } } }));
  for (const args of [["status"], ["doctor"]]) {
    const { stdout } = cli([...args, ...on(host)]);
    expect(stdout).not.toBe("");
    expect(stdout.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  }
  const { stdout, stderr } = cli(["status", "--state-dir", join(host.root, evil)]);
  expect((stdout + stderr).replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
});

test("a login is named, with the latest expiry of its agents and its next refresh", () => {
  const host = createHost();
  const [sooner, later] = [usable(), usable({ expires: Date.now() + 2 * 3_600_000 })];
  host.seed("main", sooner);
  host.seed("sub", later);
  expect(cliJson(["status", ...on(host)]).keys).toEqual([
    {
      provider: PROVIDER,
      profileId: PROFILE,
      lockPath: lockPathOn(host),
      agents: 2,
      hosts: [],
      expires: later.expires,
      nextRefresh: later.expires - 300_000,
      lock: null,
      lastRefresh: "none yet",
    },
  ]);
  const { stdout } = cli(["status", ...on(host)]);
  expect(stdout).toMatch(/^acme:owner .* none yet +in 1 h +in 1 h$/m);
});

test("a holder and its waiters are shown while it asks the provider, and what came of it afterwards", async () => {
  const host = createHost({ main: expired() });
  const [owner, theirs] = await askingElsewhere({ options: host.as("main") });
  const log = listen();
  const ours = withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), host.as("main"));
  await log.seen({ type: "waiting" });

  const [during] = cliJson(["status", ...on(host)]).keys;
  expect(during).toMatchObject({ profileId: PROFILE, lastRefresh: "asking now", lock: { holder: { pid: owner.pid } } });
  const { stdout } = cli(["status", ...on(host)]);
  expect(stdout).toMatch(new RegExp(`^acme:owner +${owner.pid} .* asking now .* now due$`, "m"));
  expect(widest(stdout)).toBeLessThanOrEqual(80);

  const fields = answer();
  theirs.answer(fields);
  await ours;
  const [afterwards] = cliJson(["status", ...on(host)]).keys;
  expect(afterwards).toMatchObject({ lastRefresh: expect.stringMatching(/^done .* ago$/), expires: fields.expires });
  expect(afterwards.lock.holder).toBeNull();
});

test("a grant that is dead is to be logged in again, and a login that no store names goes by its journal, or its lock", async () => {
  const host = createHost({ main: expired() });
  const refuse = () => Promise.reject(Object.assign(new Error("refused"), { error: "invalid_grant" }));
  await withOAuthRefreshLock(PROVIDER, PROFILE, refuse, host.as("main")).catch(() => {});
  expect(cliJson(["status", ...on(host)]).keys).toMatchObject([{ profileId: PROFILE, lastRefresh: "log in again" }]);
  host.seed("main", '{"version":1,"profiles":{}}');
  expect(cliJson(["status", ...on(host)]).keys).toMatchObject([{ provider: null, profileId: PROFILE, agents: 0 }]);
  await withOAuthProfileLock(PROVIDER, "acme:no journal", () => {}, { stateDir: host.stateDir });
  const { stdout } = cli(["status", ...on(host)]);
  expect(stdout).toMatch(/^acme:owner /m);
  expect(stdout).toMatch(/^sha256-[0-9a-f]{8}… /m);
});

test("control characters of a name don't reach the terminal, and long names keep the table within 80 columns", () => {
  const host = createHost();
  const nasty = `acme:\u001b[31m${"long".repeat(40)}`;
  host.seed("main", JSON.stringify({ version: 1, profiles: { [nasty]: usable(), "not a profile": null } }));
  const { stdout } = cli(["status", ...on(host)]);
  expect(stdout).not.toContain("\u001b");
  expect(stdout).toContain("acme:\uFFFD[31mlong");
  expect(widest(stdout)).toBeLessThanOrEqual(80);
});

test("watch tells each change as a line of JSON, and ends well when it is interrupted", async () => {
  const host = createHost({ main: expired() });
  const watching = startCli(["watch", ...on(host), "--json", "--interval", "50"]);
  onTestFinished(() => void watching.kill("SIGKILL"));
  const exited = once(watching, "exit");
  const lines = createInterface({ input: watching.stdout })[Symbol.asyncIterator]();
  const next = async () => JSON.parse((await lines.next()).value);
  expect((await next()).keys).toMatchObject([{ profileId: PROFILE, lock: null }]);
  const [owner, theirs] = await askingElsewhere({ options: host.as("main") });
  let seen = await next();
  while (seen.keys[0].lastRefresh !== "asking now") seen = await next();
  expect(seen).toMatchObject({ at: expect.any(Number), keys: [{ lock: { holder: { pid: owner.pid } } }] });
  theirs.answer(answer());
  while (!seen.keys[0].lastRefresh.startsWith("done")) seen = await next();
  watching.kill("SIGINT");
  expect(await exited).toEqual([0, null]);
});

test("watch says nothing more while a pause of the provider's runs out", async () => {
  const host = createHost({ main: expired() });
  const later = Object.assign(new Error("later"), { status: 503, headers: { "retry-after": "600" } });
  await withOAuthRefreshLock(PROVIDER, PROFILE, () => Promise.reject(later), host.as("main")).catch(() => {});
  const watching = startCli(["watch", ...on(host), "--json", "--interval", "50"]);
  onTestFinished(() => void watching.kill("SIGKILL"));
  const lines = createInterface({ input: watching.stdout })[Symbol.asyncIterator]();
  const next = async () => JSON.parse((await lines.next()).value).keys[0];
  expect(await next()).toMatchObject({ lastRefresh: "failed, later", agents: 1 });
  // Many looks later something changes.
  await pause(600);
  host.seed("sub", expired());
  expect(await next()).toMatchObject({ agents: 2 });
});

test("path prints where the lock lies", () => {
  const host = createHost();
  expect(cli(["path", PROVIDER, PROFILE, ...on(host)])).toEqual({
    stdout: `${lockPathOn(host)}\n`,
    stderr: "",
    status: 0,
  });
  expect(cliJson(["path", PROVIDER, PROFILE, ...on(host)])).toEqual({
    status: 0,
    provider: PROVIDER,
    profileId: PROFILE,
    lockPath: lockPathOn(host),
  });
  expect(cli(["path", PROVIDER, PROFILE], { OPENCLAW_STATE_DIR: host.stateDir }).stdout).toBe(`${lockPathOn(host)}\n`);
});

test.each([
  ["no command", []],
  ["an unknown command", ["refresh"]],
  ["an unknown option", ["status", "--verbose"]],
  ["a missing argument", ["path", "acme"]],
  ["a number out of range", ["storm", "--processes", "0"]],
  ["no number", ["watch", "--interval", "often"]],
])("%s is a usage error", (_, args) => {
  const { stdout, stderr, status } = cli(args);
  expect({ stdout, status }).toEqual({ stdout: "", status: 2 });
  expect(stderr).not.toBe("");
});

test("a key that can't be looked at is told in one line, beside those that can", () => {
  const host = createHost({ main: usable(), torn: "{" });
  mkdirSync(join(host.stateDir, "locks"));
  writeFileSync(join(host.stateDir, "locks", "oauth-refresh"), "");
  const { stdout, stderr, status } = cli(["status", ...on(host)]);
  expect(status).toBe(1);
  expect(stdout).toMatch(/^acme:owner .* none yet/m);
  expect(stderr).toMatch(/^error: .*oauth-refresh\nerror: .*torn.*\n$/);
  const codes = cliJson(["status", ...on(host)]).problems.map(({ code, path }) => [code, path]);
  expect(codes).toEqual([
    ["lock_unavailable", join(host.stateDir, "locks", "oauth-refresh")],
    ["store_invalid", host.storePath("torn")],
  ]);
});

test("with --json an error is JSON too, a usage error as well, with the same exit code", () => {
  const usage = { error: { code: "usage", message: expect.stringContaining("--verbose"), path: null } };
  expect(cliJson(["status", "--verbose"])).toEqual({ status: 2, ...usage });
  const { stdout, stderr, status } = cli(["doctor", "--json", "--state-dir"]);
  expect(JSON.parse(stdout)).toEqual({ error: { code: "usage", message: expect.any(String), path: null } });
  expect({ status, isTold: stderr !== "" }).toEqual({ status: 2, isTold: true });
});

test.each([["status"], ["storm"]])("%s without an addon says so, as JSON too", (command) => {
  const copy = copyPackage({ addon: false });
  for (const name of [
    "commander",
    "cli-table3",
    "string-width",
    "emoji-regex",
    "is-fullwidth-code-point",
    "strip-ansi",
    "ansi-regex",
  ])
    symlinkSync(join(import.meta.dirname, "..", "..", "node_modules", name), join(copy, "..", name));
  const main = join(copy, "cli", "main.mjs");
  const { stdout, stderr, status } = spawnSync(process.execPath, [main, command, "--json"], { encoding: "utf8" });
  const path = expect.stringContaining(copy);
  expect(JSON.parse(stdout).error).toEqual({ code: "addon_unavailable", message: expect.any(String), path });
  expect(stderr).toMatch(/^error: no native addon .*\n$/);
  expect(status).toBe(1);
});

test("agents' stores are found where the library has them, each once", async () => {
  const host = createHost({ main: usable() });
  const elsewhere = join(host.root, "elsewhere");
  mkdirSync(elsewhere, { mode: 0o700 });
  // Newer than main's, so that it is refreshed and main's is not adopted.
  const login = usable({ expires: Date.now() + 9 * 3_600_000 });
  writeFileSync(join(elsewhere, STORE_FILE), storeText(login), { mode: 0o600 });
  const agents = (env, args = on(host)) => cliJson(["status", ...args], env).keys.map(({ agents }) => agents);
  expect(agents({})).toEqual([1]);
  // With the main agent elsewhere, nobody uses agents/main/agent.
  const HOME = host.root;
  expect(agents({ HOME, OPENCLAW_AGENT_DIR: "~/elsewhere" })).toEqual([1]);
  expect(agents({ HOME, OPENCLAW_AGENT_DIR: "undefined", PI_CODING_AGENT_DIR: " ~/elsewhere " })).toEqual([1]);
  expect(agents({ HOME, OPENCLAW_AGENT_DIR: host.agentDir("main") })).toEqual([1]);
  expect(agents({ HOME, OPENCLAW_AGENT_DIR: "~/elsewhere" }, ["--state-dir", join(host.root, "none")])).toEqual([1]);
  // An agent elsewhere is known by what its refreshes left in the journal, as a host's store is.
  await withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), { ...host.as("main"), forceRefresh: true });
  const options = { stateDir: host.stateDir, agentDir: elsewhere, mainAgentDir: host.agentDir("main") };
  await withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), { ...options, forceRefresh: true });
  expect(agents({})).toEqual([2]);
  const store = memoryStore("keychain", expired());
  await withOAuthRefreshLock(PROVIDER, "acme:hosted", () => answer(), { stateDir: host.stateDir, store });
  expect(cliJson(["status", ...on(host)]).keys).toMatchObject([{ hosts: [] }, { hosts: ["host:keychain"] }]);
  expect(cli(["status", ...on(host)]).stdout).toMatch(/^acme:hosted host:key/m);
});

test("a lock that OpenClaw named is seen, with its owner", async () => {
  const host = createHost({ main: expired() });
  const path = join(dirname(lockPathOn(host)), `lock-${"a".repeat(32)}`);
  await withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), { ...host.as("main"), lockPath: path });
  expect(cliJson(["status", ...on(host)]).keys).toMatchObject([{ profileId: PROFILE, lockPath: path, lock: {} }]);
});

test.each(["--help", "--version"])("%s is no error", (option) => {
  const { stdout, stderr, status } = cli([option]);
  expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
  expect(widest(stdout)).toBeLessThanOrEqual(110);
});
