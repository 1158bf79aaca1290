/** What `status` and `doctor` say of a place where a login can't be used, or is used although that is not obvious. */
import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { resolveOAuthRefreshLockPath, withOAuthRefreshLock } from "oauth-refresh-lock";
import { describe, expect, onTestFinished, test } from "vitest";
import { unwanted } from "../support/calls.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER, storeText, usable } from "../support/host.mjs";
import { cli, cliJson, MAIN, on } from "./cli.mjs";

const SOMEBODY = 54_321;
const isRoot = process.getuid?.() === 0;
const has = (...command) => spawnSync(command[0], [...command.slice(1), "true"]).status === 0;
const asSomebody = ["setpriv", "--clear-groups", "--reuid", `${SOMEBODY}`, "--regid", `${SOMEBODY}`];
const alone = ["unshare", "--pid", "--fork", "--mount-proc", ...asSomebody];
const apart = ["unshare", "--mount"];

const findings = (host, env = {}) => cliJson(["doctor", ...on(host)], env).findings;
const short = (found) => found.map(({ level, code, path }) => [level, code, path]);

/** What `doctor` finds when it is run through another program. */
function through(program, host, env = {}) {
  const [command, ...args] = [...program, process.execPath, MAIN, "doctor", "--json", ...on(host)];
  const { stdout, stderr } = spawnSync(command, args, { encoding: "utf8", env: { PATH: process.env.PATH, ...env } });
  if (stdout === "") throw new Error(stderr);
  return JSON.parse(stdout).findings;
}

describe("profiles that are meant for logins and are none", () => {
  const profiles = {
    "acme:typeless": { provider: "acme", access: "a", refresh: "r" },
    "acme:nobody's": { type: "oauth", access: "a", refresh: "r", expires: 0 },
    "acme:key": { type: "api_key", provider: "acme", key: "k" },
  };

  test("are named by status as by doctor, alone and beside a login", () => {
    const host = createHost();
    for (const [others, head] of [
      [{}, `No usable OAuth logins and no locks in ${host.stateDir}.`],
      [{ [PROFILE]: usable() }, "LOGIN "],
    ]) {
      host.seed("main", JSON.stringify({ version: 1, profiles: { ...profiles, ...others } }));
      const { stdout, stderr, status } = cli(["status", ...on(host)]);
      expect(stdout.startsWith(head)).toBe(true);
      const lines = ["The profile acme:nobody's has no `provider`; ", "The profile acme:typeless has no `type`; "];
      expect(stderr.trim().split("\n")).toEqual(lines.map((line) => expect.stringContaining(`error: ${line}`)));
      expect(status).toBe(1);
      const told = { code: "store_invalid", path: host.storePath("main") };
      expect(cliJson(["status", ...on(host)]).problems).toEqual(
        lines.map((line) => ({ ...told, message: expect.stringContaining(line) })),
      );
      const meanings = findings(host).map(({ meaning }) => meaning);
      expect(meanings).toEqual(lines.map((line) => expect.stringContaining(line)));
    }
  });
});

test("an expiry in seconds is no date in the table", () => {
  const host = createHost({ main: usable({ expires: Math.floor(Date.now() / 1000) }) });
  expect(cli(["status", ...on(host)]).stdout).toMatch(/ expired +now due$/m);
});

test("a file beside the agents is no agent", () => {
  const host = createHost({ main: usable() });
  writeFileSync(join(host.stateDir, "agents", ".DS_Store"), "");
  expect(findings(host)).toEqual([]);
  expect(cliJson(["status", ...on(host)]).problems).toEqual([]);
});

test("a store that is a link to nothing is a warning, and gives no login", async () => {
  const host = createHost({ main: usable() });
  const elsewhere = join(host.root, "not mounted");
  renameSync(host.storePath("main"), elsewhere);
  symlinkSync(elsewhere, host.storePath("main"));
  expect(findings(host)).toEqual([]);
  rmSync(elsewhere);
  expect(await withOAuthRefreshLock(PROVIDER, PROFILE, unwanted(), host.as("main"))).toBeNull();
  expect(short(findings(host))).toEqual([["warning", "dangling_link", host.storePath("main")]]);
});

test("a store with two names gives the new tokens to its own alone, and doctor says so", async () => {
  const host = createHost({ main: expired() });
  const backup = join(host.root, "backup");
  linkSync(host.storePath("main"), backup);
  const before = readFileSync(backup, "utf8");
  expect(short(findings(host))).toEqual([["info", "hard_link", host.storePath("main")]]);
  const { stdout, status } = cli(["doctor", ...on(host)]);
  expect(stdout.split("\n").at(-2)).toBe(`ok ${host.stateDir}: nothing is in the way.`);
  expect(status).toBe(0);
  const { outcome } = await withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), host.as("main"));
  expect(outcome).toBe("refreshed");
  expect(readFileSync(backup, "utf8")).toBe(before);
  expect(findings(host)).toEqual([]);
});

test("a directory in the place of a store is told as what Docker makes of a missing file", async () => {
  const host = createHost({ main: expired() });
  rmSync(host.storePath("main"));
  mkdirSync(host.storePath("main"), { mode: 0o700 });
  const told = /it is a directory; remove it: Docker makes one if the file to mount is missing/;
  await expect(withOAuthRefreshLock(PROVIDER, PROFILE, unwanted(), host.as("main"))).rejects.toMatchObject({
    code: "store_unreadable",
    path: host.storePath("main"),
    message: expect.stringMatching(told),
  });
  const [{ meaning, advice }, ...others] = findings(host);
  expect(meaning).toMatch(told);
  expect([advice, others]).toEqual(["Correct that: until then its agent has no logins.", []]);
});

test("a store that a text editor of Windows has saved is told how to save it", async () => {
  const host = createHost({ main: expired() });
  const text = host.store("main");
  for (const [bytes, says] of [
    [Buffer.from(`\ufeff${text}`), /byte order mark; save it as UTF-8 without one/],
    [Buffer.from(`\ufeff${text}`, "utf16le"), /UTF-16.*save it as UTF-8/],
  ]) {
    writeFileSync(host.storePath("main"), bytes);
    await expect(withOAuthRefreshLock(PROVIDER, PROFILE, unwanted(), host.as("main"))).rejects.toMatchObject({
      code: "store_invalid",
      message: expect.stringMatching(says),
    });
    expect(readFileSync(host.storePath("main"))).toEqual(bytes);
  }
});

describe.runIf(isRoot && has(...alone))("a directory that everyone may write to", () => {
  function volume() {
    const host = createHost();
    chmodSync(host.root, 0o755);
    chmodSync(host.stateDir, 0o777);
    const agentDir = join(host.stateDir, "agents", "main", "agent");
    mkdirSync(agentDir, { recursive: true, mode: 0o700 });
    writeFileSync(join(agentDir, "auth-profiles.json"), storeText(usable()), { mode: 0o600 });
    spawnSync("chown", ["-R", `${SOMEBODY}`, join(host.stateDir, "agents")]);
    return host;
  }

  test("is told with the rule by which it is used", () => {
    const host = volume();
    const told = [["info", "open_directory", host.stateDir]];
    const seen = through(alone, host);
    expect(short(seen)).toEqual(told);
    expect(seen[0].meaning).toMatch(/it is root's, and `\/proc` shows no process but/);
    const trusted = through(asSomebody, host, { OAUTH_REFRESH_LOCK_TRUSTED_VOLUME: host.root });
    expect(short(trusted)).toEqual(told);
    expect(trusted[0].meaning).toMatch(/OAUTH_REFRESH_LOCK_TRUSTED_VOLUME names it/);
  });

  test("is told once where all below it is open too, as on a drive without modes", () => {
    const host = volume();
    spawnSync("chmod", ["-R", "777", host.stateDir]);
    const seen = through(asSomebody, host, { OAUTH_REFRESH_LOCK_TRUSTED_VOLUME: host.stateDir });
    expect(short(seen)).toEqual([["info", "open_directory", host.stateDir]]);
  });

  test("is no finding where it is sticky, and an error where no rule passes it", () => {
    const host = volume();
    const stranger = spawn("sleep", ["600"], { uid: SOMEBODY + 1, gid: SOMEBODY + 1, stdio: "ignore" });
    onTestFinished(() => void stranger.kill("SIGKILL"));
    expect(through(asSomebody, host).map(({ code }) => code)).toEqual(["lock_unavailable", "store_unwritable"]);
    chmodSync(host.stateDir, 0o1777);
    expect(through(asSomebody, host)).toEqual([]);
  });
});

describe.runIf(isRoot && has(...apart))("a disk without room for another file", () => {
  test("is an error, be it the state directory's or a store's", () => {
    for (const place of ["", "agents"]) {
      const host = createHost({ main: usable() });
      const mounted = join(host.stateDir, place);
      const prepare = `
        cp -a "$1" "$1.kept" && mount -t tmpfs -o nr_inodes=32,mode=700 none "$1" && cp -a "$1.kept/." "$1" || exit 9
        n=0; while true > "$1/full$n"; do n=$((n + 1)); done 2>/dev/null
        shift; exec "$@"`;
      const seen = through([...apart, "sh", "-c", prepare, "sh", mounted], host);
      const path = place === "" ? host.stateDir : host.agentDir("main");
      expect(short(seen)).toEqual([["error", "disk_full", path]]);
      expect(seen[0].meaning).toMatch(/another file \(`df -i`\)/);
    }
  });
});

/** Sets an attribute until the test ends. */
function pin(path, flag) {
  expect(spawnSync("chattr", [`+${flag}`, path]).status).toBe(0);
  onTestFinished(() => void spawnSync("chattr", [`-${flag}`, path]));
}

/** Whether files here have such attributes. */
function canPin() {
  const directory = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-test-"));
  const { status } = spawnSync("chattr", ["+a", directory]);
  spawnSync("chattr", ["-a", directory]);
  rmdirSync(directory);
  return status === 0;
}

describe.runIf(isRoot && canPin())("a lock directory that keeps what is in it", () => {
  test.each([
    ["append-only", "a"],
    ["immutable", "i"],
  ])("%s, is refused before a lock is made in it", async (what, flag) => {
    const host = createHost({ main: expired() });
    const directory = dirname(resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir: host.stateDir }));
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    pin(directory, flag);
    const before = host.tree();
    const says = new RegExp(`${what}.*(chattr -${flag}|lsattr)`);
    await expect(withOAuthRefreshLock(PROVIDER, PROFILE, unwanted(), host.as("main"))).rejects.toMatchObject({
      code: "lock_unavailable",
      path: directory,
      message: expect.stringMatching(says),
    });
    expect(host.tree()).toEqual(before);
    expect(short(findings(host))).toEqual([["error", "lock_unavailable", directory]]);
  });
});
