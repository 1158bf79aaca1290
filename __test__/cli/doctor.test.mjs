/** Every finding of `doctor`, provoked by what causes it; and that it repairs file modes and nothing else. */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { withOAuthProfileLock, withOAuthRefreshLock } from "oauth-refresh-lock";
import { expect, test } from "vitest";
import { lockPathOn } from "../support/calls.mjs";
import { answer, createHost, expired, IMPATIENT, PROFILE, PROVIDER, usable } from "../support/host.mjs";
import { memoryStore } from "../support/host-stores.mjs";
import { cli, cliJson, on, widest } from "./cli.mjs";

/** What is found, without words. */
function found(host, ...options) {
  const { status, findings } = cliJson(["doctor", ...on(host), ...options]);
  for (const { meaning, advice } of findings) for (const text of [meaning, advice]) expect(text).toMatch(/\.$/);
  return { status, findings: findings.map(({ level, code, path }) => ({ level, code, path })) };
}

const only = (level, code, path) => ({ status: level === "error" ? 1 : 0, findings: [{ level, code, path }] });

const fail = (host, fields) => {
  const refresh = () => Promise.reject(Object.assign(new Error("failed"), fields));
  return withOAuthRefreshLock(PROVIDER, PROFILE, refresh, host.as("main", IMPATIENT)).catch(() => {});
};

test("a state directory in which all is well has no findings", async () => {
  const host = createHost({ main: expired(), sub: expired() });
  await withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), host.as("main"));
  expect(found(host)).toEqual({ status: 0, findings: [] });
  expect(cli(["doctor", ...on(host)])).toEqual({
    stdout: `ok ${host.stateDir}: nothing is in the way.\n`,
    stderr: "",
    status: 0,
  });
});

test("no state directory", () => {
  const host = createHost();
  const stateDir = join(host.root, "none");
  expect(found({ stateDir })).toEqual(only("warning", "no_state_directory", stateDir));
});

test("modes that let others look are repaired by --fix, and nothing else is touched", async () => {
  const host = createHost({ main: expired() });
  await withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), host.as("main"));
  const well = host.tree();
  const loose = [
    [host.agentDir("main"), 0o755],
    [host.storePath("main"), 0o644],
    [dirname(lockPathOn(host)), 0o750],
    [lockPathOn(host), 0o640],
  ];
  for (const [path, mode] of loose) chmodSync(path, mode);
  const before = host.tree();
  const expected = loose.map(([path]) => ({ level: "warning", code: "mode", path }));
  expect(found(host)).toEqual({ status: 0, findings: expected });
  expect(host.tree()).toEqual(before);
  expect(cliJson(["doctor", ...on(host), "--fix"]).findings.map(({ fixed }) => fixed)).toEqual(
    loose.map(() => "repaired"),
  );
  expect(host.tree()).toEqual(well);
  expect(found(host)).toEqual({ status: 0, findings: [] });
});

test("nothing is repaired by way of a symbolic link", () => {
  const host = createHost({ main: usable() });
  const elsewhere = join(host.root, "elsewhere");
  renameSync(host.storePath("main"), elsewhere);
  symlinkSync(elsewhere, host.storePath("main"));
  expect(found(host)).toEqual({ status: 0, findings: [] });
  chmodSync(elsewhere, 0o644);
  expect(found(host, "--fix")).toEqual(only("warning", "mode", host.storePath("main")));
  expect(statSync(elsewhere).mode & 0o777).toBe(0o644);
});

test.runIf(process.geteuid() === 0)("nothing of another user's is repaired, by root either", () => {
  const host = createHost({ main: usable() });
  spawnSync("chown", ["12345", host.storePath("main")]);
  chmodSync(host.storePath("main"), 0o644);
  expect(found(host, "--fix")).toEqual(only("error", "store_unreadable", host.storePath("main")));
  expect(statSync(host.storePath("main")).mode & 0o777).toBe(0o644);
});

test("another kind of file in the place of a store", () => {
  const host = createHost({ main: usable() });
  for (const text of ['"text"', "7", "null", "[]", '{"profiles":[]}', '{"profiles":"text"}']) {
    host.seed("main", text);
    expect(found(host), text).toEqual(only("error", "store_invalid", host.storePath("main")));
  }
  host.seed("main", "{}");
  expect(found(host)).toEqual({ status: 0, findings: [] });
  rmSync(host.storePath("main"));
  spawnSync("mkfifo", ["-m", "600", host.storePath("main")]);
  expect(found(host)).toEqual(only("error", "store_unreadable", host.storePath("main")));
});

test("another kind of file in the place of the lock directory", () => {
  const host = createHost();
  const directory = dirname(lockPathOn(host));
  mkdirSync(dirname(directory), { mode: 0o700 });
  writeFileSync(directory, "");
  expect(found(host)).toEqual(only("error", "lock_unavailable", directory));
  rmSync(directory);
  symlinkSync(join(host.root, "elsewhere"), directory);
  expect(found(host)).toEqual(only("error", "lock_unavailable", directory));
});

test("stores of the SQLite era", () => {
  const host = createHost({ main: usable() });
  const files = [join(host.agentDir("main"), "openclaw-agent.sqlite"), join(host.stateDir, "state", "openclaw.sqlite")];
  for (const path of files) mkdirSync(dirname(path), { recursive: true });
  writeFileSync(files[1], "");
  // The library goes by the name, whatever is behind it.
  symlinkSync(join(host.root, "nowhere"), files[0]);
  expect(found(host)).toEqual({
    status: 0,
    findings: files.map((path) => ({ level: "warning", code: "sqlite_store", path })),
  });
});

test("stores of the SQLite era are no obstacle to a caller that is given the host's own", async () => {
  const host = createHost();
  const path = join(host.agentDir("main"), "openclaw-agent.sqlite");
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeFileSync(path, "", { mode: 0o600 });
  const lockPath = join(host.stateDir, "locks", "oauth-refresh", `lock-${"a".repeat(32)}`);
  const options = { stateDir: host.stateDir, lockPath, store: memoryStore("shared", expired()) };
  await withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), options);
  expect(found(host)).toEqual({ status: 0, findings: [] });
});

test("a credential that waits for a host's store, by name, and what to do if there is none any more", async () => {
  const host = createHost();
  const store = memoryStore("gone", expired());
  store.compareAndSwap.mockRejectedValueOnce(new Error("full"));
  const options = { stateDir: host.stateDir, store };
  const { notSaved } = await withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), options);
  expect(notSaved.code).toBe("store_unwritable");
  const { findings } = cliJson(["doctor", ...on(host)]);
  expect(findings).toMatchObject([{ level: "error", code: "receipt_unsaved", path: lockPathOn(host) }]);
  expect(findings[0].meaning).toContain(`${PROFILE} wait`);
  expect(findings[0].meaning).toContain("host:gone");
  expect(findings[0].advice).toContain("an empty store");
  // As it says.
  const nothing = memoryStore("gone");
  expect(await withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), { ...options, store: nothing })).toBeNull();
  expect(found(host)).toEqual({ status: 0, findings: [] });
});

test("a store that is damaged, and no word of what is in it", () => {
  const host = createHost({ main: usable() });
  const text = host.store("main").slice(0, -20);
  writeFileSync(host.storePath("main"), text);
  expect(found(host)).toEqual(only("error", "store_invalid", host.storePath("main")));
  const { stdout, stderr } = cli(["doctor", ...on(host)]);
  expect(stdout + stderr).not.toContain("bystander");
});

test.each([
  ["a number in seconds", Math.floor(Date.now() / 1000) + 3600],
  ["text", "soon"],
  ["null", null],
  ["missing", undefined],
])("an expiry that is %s", (_, expires) => {
  const host = createHost({ main: expired({ expires }) });
  expect(found(host)).toEqual(only("warning", "expiry", host.storePath("main")));
});

test("clocks: a store from the future, and an expiry that is none", () => {
  const host = createHost({ main: usable({ expires: Date.now() * 1000 }) });
  const path = host.storePath("main");
  const { atimeMs } = statSync(path);
  utimesSync(path, atimeMs / 1000, Date.now() / 1000 + 7200);
  expect(found(host)).toEqual({
    status: 0,
    findings: [
      { level: "warning", code: "clock", path },
      { level: "warning", code: "expiry", path },
    ],
  });
});

test("clocks: lock files and journals from the future are told once", async () => {
  const host = createHost({ main: expired() });
  await withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), host.as("main"));
  utimesSync(lockPathOn(host), 0, Date.now() / 1000 + 7200);
  utimesSync(`${lockPathOn(host)}.journal`, 0, Date.now() / 1000 + 9200);
  expect(found(host)).toEqual(only("warning", "clock", `${lockPathOn(host)}.journal`));
});

test("a file that a death has left beside a store, closed to others by --fix", () => {
  const host = createHost({ main: usable() });
  const [sidecar, temporary] = [".lock", ".oauth-refresh-lock.tmp"].map((suffix) => host.storePath("main") + suffix);
  // No process has this id.
  writeFileSync(sidecar, JSON.stringify({ pid: 2 ** 22 + 1, createdAt: new Date().toISOString() }));
  writeFileSync(temporary, host.store("main"), { mode: 0o644 });
  const debris = [sidecar, temporary].map((path) => ({ level: "warning", code: "debris", path }));
  expect(found(host, "--fix").findings).toEqual([...debris, { level: "warning", code: "mode", path: temporary }]);
  expect(statSync(temporary).mode & 0o777).toBe(0o600);
  expect(found(host).findings).toEqual(debris);
});

test("a grant that is dead", async () => {
  const host = createHost({ main: expired() });
  await fail(host, { error: "invalid_grant" });
  expect(found(host)).toEqual(only("error", "grant_dead", lockPathOn(host)));
});

test("a pause that the provider asked for", async () => {
  const host = createHost({ main: expired() });
  await fail(host, { status: 503, headers: { "retry-after": "600" } });
  const { findings } = found(host);
  expect(findings).toContainEqual({ level: "warning", code: "refresh_backoff", path: lockPathOn(host) });
});

test("a credential that no store can take", async () => {
  const host = createHost({ main: expired(), sub: expired() });
  const refresh = () => {
    host.block("main");
    return answer();
  };
  const result = await withOAuthRefreshLock(PROVIDER, PROFILE, refresh, {
    ...host.as("sub"),
    mainAgentDir: host.agentDir("main"),
  }).catch((error) => error);
  const { findings } = cliJson(["doctor", ...on(host)]);
  expect(findings, String(result)).toContainEqual(
    expect.objectContaining({ level: "error", code: "receipt_unsaved", path: lockPathOn(host) }),
  );
  expect(findings.map(({ meaning }) => meaning).join()).toContain(host.storePath("sub"));
});

test("OpenClaw's own lock: of a living process, and of a dead one", async () => {
  const host = createHost({ main: expired() });
  await withOAuthProfileLock(PROVIDER, PROFILE, () => {}, { stateDir: host.stateDir });
  const write = (pid) => {
    const lock = JSON.stringify({ pid, createdAt: new Date().toISOString() }, null, 2);
    writeFileSync(`${lockPathOn(host)}.lock`, lock, { mode: 0o644 });
  };
  write(process.pid);
  expect(found(host)).toEqual(only("warning", "foreign_lock", lockPathOn(host)));
  // No process has this id.
  write(2 ** 22 + 1);
  expect(found(host)).toEqual(only("warning", "debris", lockPathOn(host)));
});

test.each([
  ["a refresh", 180_000, "The next caller takes over"],
  ["withOAuthProfileLock", undefined, "No process takes over"],
])("an owner that is stuck, by %s", async (_, staleAfter, advice) => {
  const host = createHost();
  await withOAuthProfileLock(
    PROVIDER,
    PROFILE,
    () => {
      // Its record, as it would be after an hour; or as one from another PID namespace.
      const { staleAfter: _, ...holder } = JSON.parse(readFileSync(lockPathOn(host), "utf8"));
      const sign = (fields) => {
        const record = JSON.stringify({ ...holder, bootMs: holder.bootMs - 3_600_000, staleAfter, ...fields });
        writeFileSync(lockPathOn(host), `${record.padEnd(255)}\n`);
      };
      const stuck = () => cliJson(["doctor", ...on(host)]).findings.filter(({ code }) => code === "stuck");
      sign({});
      expect(stuck()).toMatchObject([{ level: "warning", path: lockPathOn(host) }]);
      expect(stuck()[0].advice).toContain(advice);
      expect(stuck()[0].meaning).not.toContain("PID namespace");
      if (process.platform !== "linux") return;
      sign({ pidNamespace: 1 });
      expect(stuck()[0].meaning).toContain("of another PID namespace");
      expect(cli(["status", ...on(host)]).stdout).toMatch(new RegExp(` ${process.pid}\\* `));
    },
    { stateDir: host.stateDir },
  );
});

test("a journal that can't be read", async () => {
  const host = createHost({ main: expired() });
  await withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), host.as("main"));
  const journal = `${lockPathOn(host)}.journal`;
  rmSync(journal);
  mkdirSync(journal);
  const { status, findings } = found(host);
  expect({ status, findings }).toEqual({
    status: 1,
    findings: [{ level: "error", code: expect.stringMatching(/^journal_/), path: lockPathOn(host) }],
  });
});

test("it is readable at 80 columns, and colours nothing that is no terminal", async () => {
  const host = createHost({ main: expired() });
  await fail(host, { error: "invalid_grant" });
  const { stdout, status } = cli(["doctor", ...on(host)]);
  expect(status).toBe(1);
  expect(stdout).not.toContain("\u001b");
  const words = stdout.split("\n").filter((line) => !line.includes(host.root));
  expect(widest(words.join("\n"))).toBeLessThanOrEqual(80);
  expect(stdout).toContain("Log in again");
});
