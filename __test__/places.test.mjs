/** Where a process may be that has no home, no working directory, no name, or a volume that is open to everyone. */
import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { createHost, expired, PROFILE, PROVIDER, storeText } from "./support/host.mjs";

/** A user without a name here, as a container's may be. */
const SOMEBODY = 54_321;
const INDEX = pathToFileURL(join(import.meta.dirname, "..", "index.mjs")).href;

const RECIPES = readFileSync(join(import.meta.dirname, "..", "docs", "operations.md"), "utf8");

/** All three calls, in a process of its own; what came of each. `goAway` has its working directory removed first. */
const PROGRAM = `
  const [goAway, options] = JSON.parse(process.argv[1]);
  const { inspectOAuthRefreshLocks, resolveOAuthRefreshLockPath, withOAuthProfileLock, withOAuthRefreshLock } = await import(${JSON.stringify(INDEX)});
  const fs = await import("node:fs");
  if (goAway) {
    fs.mkdirSync(goAway);
    process.chdir(goAway);
    fs.rmdirSync(goAway);
  }
  const { stateDir } = options;
  const told = (error) => error.code + ": " + error.message;
  const tried = async (call) => await (async () => call())().catch(told);
  const refresh = async () => ({ access: "a", refresh: "r", expires: Date.now() + 3_600_000 });
  const results = [
    await tried(async () => (await withOAuthRefreshLock("${PROVIDER}", "${PROFILE}", refresh, options)).outcome),
    await tried(() => withOAuthProfileLock("${PROVIDER}", "${PROFILE}", () => "held", { stateDir })),
    await tried(async () => (await inspectOAuthRefreshLocks({ stateDir })).length),
    await tried(() => typeof resolveOAuthRefreshLockPath("${PROVIDER}", "${PROFILE}", { stateDir })),
  ];
  console.log(JSON.stringify(results));
`;
const WELL = ["refreshed", "held", 1, "string"];

function calls({ options, env = {}, goAway = "", through = [] }) {
  const [program, ...args] = [
    ...through,
    process.execPath,
    "--input-type=module",
    "--eval",
    PROGRAM,
    JSON.stringify([goAway, options]),
  ];
  const { stdout, stderr } = spawnSync(program, args, {
    encoding: "utf8",
    env: { PATH: process.env.PATH, ...env },
    cwd: "/",
  });
  if (stdout === "") throw new Error(stderr);
  return JSON.parse(stdout);
}

const everything = (host) => ({
  stateDir: host.stateDir,
  agentDir: host.agentDir("main"),
  mainAgentDir: host.agentDir("main"),
});

describe("a working directory that is gone", () => {
  test("is not asked for where directories are given, by options or by the environment", () => {
    for (const [options, env] of [
      [everything, () => ({})],
      [({ stateDir }) => ({ stateDir }), () => ({})],
      [() => ({}), (host) => ({ OPENCLAW_STATE_DIR: host.stateDir, OPENCLAW_AGENT_DIR: host.agentDir("main") })],
    ]) {
      const host = createHost({ main: expired() });
      const how = { options: options(host), env: env(host), goAway: join(host.root, "gone") };
      expect(calls(how)).toEqual(WELL);
    }
  });

  test("is named where a variable needs it", () => {
    const host = createHost();
    const says = /^invalid_argument: the working directory is gone/;
    const refused = calls({
      options: {},
      env: { HOME: "/", OPENCLAW_STATE_DIR: "here" },
      goAway: join(host.root, "gone"),
    });
    for (const told of refused) expect(told).toMatch(says);
  });
});

const isRoot = process.getuid?.() === 0;
const has = (...command) => spawnSync(command[0], [...command.slice(1), "true"]).status === 0;
const asSomebody = ["setpriv", "--clear-groups", "--reuid", `${SOMEBODY}`, "--regid", `${SOMEBODY}`];
/** In a PID namespace of its own, as a container's processes are. */
const alone = ["unshare", "--pid", "--fork", "--mount-proc", ...asSomebody];
const canBeSomebody = isRoot && has(...asSomebody);
const canBeAlone = isRoot && has(...alone);

/** A host whose state directory is a volume. */
function volume(mode, owner = 0) {
  const host = createHost();
  chmodSync(host.root, 0o755);
  chownSync(host.stateDir, owner, owner);
  chmodSync(host.stateDir, mode);
  const agentDir = join(host.stateDir, "agents", "main", "agent");
  mkdirSync(agentDir, { recursive: true });
  const store = join(agentDir, "auth-profiles.json");
  writeFileSync(store, storeText(expired()), { mode: 0o600 });
  for (const path of ["agents", "agents/main", "agents/main/agent", "agents/main/agent/auth-profiles.json"])
    chownSync(join(host.stateDir, path), SOMEBODY, SOMEBODY);
  return host;
}

describe.runIf(canBeSomebody)("a user that is a number and no more", () => {
  test("needs no home where directories are given", () => {
    const host = volume(0o700, SOMEBODY);
    expect(calls({ options: everything(host), through: asSomebody })).toEqual(WELL);
    const env = { OPENCLAW_STATE_DIR: host.stateDir };
    expect(calls({ options: {}, env, through: asSomebody })).toEqual(["fresh", ...WELL.slice(1)]);
  });

  test("is told what is missing where a home is needed", () => {
    for (const told of calls({ options: {}, through: asSomebody }))
      expect(told).toMatch(/^invalid_argument: this user has no home directory.*OPENCLAW_STATE_DIR/);
  });

  test("can say that nobody else gets to a volume that everyone may write to", () => {
    const stranger = spawn("sleep", ["600"], { uid: SOMEBODY + 1, gid: SOMEBODY + 1, stdio: "ignore" });
    onTestFinished(() => void stranger.kill("SIGKILL"));
    const host = volume(0o777);
    const through = asSomebody;
    const refused = calls({ options: everything(host), through });
    for (const told of refused.slice(0, 2)) expect(told).toMatch(/^lock_unavailable: everyone may replace/);
    const other = { OAUTH_REFRESH_LOCK_TRUSTED_VOLUME: "/var/empty" };
    expect(calls({ options: everything(host), through, env: other })).toEqual(refused);
    const trustedVolume = host.stateDir;
    expect(calls({ options: { ...everything(host), trustedVolume }, through })).toEqual(WELL);
    const env = { OAUTH_REFRESH_LOCK_TRUSTED_VOLUME: host.stateDir };
    expect(calls({ options: everything(host), through, env })).toEqual(["fresh", ...WELL.slice(1)]);
    for (const path of ["locks", "locks/oauth-refresh", "locks/auth-store"])
      expect(statSync(join(host.stateDir, path)).mode & 0o777, path).toBe(0o700);
    const relative = calls({ options: everything(host), through, env: { OAUTH_REFRESH_LOCK_TRUSTED_VOLUME: "here" } });
    expect(relative[0]).toBe("invalid_argument: OAUTH_REFRESH_LOCK_TRUSTED_VOLUME must be an absolute path");
  });
});

describe.runIf(canBeAlone)("a container's user who is alone", () => {
  // emptyDir, and the same with fsGroup.
  test.each([0o777, 0o2777])("uses a volume of root's with mode %o", (mode) => {
    const host = volume(mode);
    expect(calls({ options: everything(host), through: alone })).toEqual(WELL);
    expect(statSync(join(host.stateDir, "locks")).mode & 0o7777).toBe(0o700);
  });

  test("copies a login from a read-only Secret, and refreshes the copy", () => {
    // Links into a directory of root's that nobody may write to.
    const host = volume(0o777);
    const secret = join(host.root, "secret");
    mkdirSync(join(secret, "..data"), { recursive: true });
    writeFileSync(join(secret, "..data", "auth-profiles.json"), storeText(expired()), { mode: 0o444 });
    symlinkSync("..data/auth-profiles.json", join(secret, "auth-profiles.json"));
    const store = host.storePath("main");
    rmSync(join(host.stateDir, "agents"), { recursive: true });
    const seed = RECIPES.match(/^ {8}- (umask 077; .*)$/m)[1]
      .replaceAll("/state", host.stateDir)
      .replaceAll("/login", secret);
    const through = [...alone, "sh", "-c", `${seed}; exec "$@"`, "sh"];
    const options = everything(host);
    expect(calls({ options, through })).toEqual(WELL);
    const kept = readFileSync(store, "utf8");
    expect(calls({ options, through })).toEqual(["fresh", ...WELL.slice(1)]);
    expect(readFileSync(store, "utf8")).toBe(kept);
    expect(existsSync(join(secret, "locks"))).toBe(false);
  });

  // Of Compose and of systemd.
  const seeds = [...RECIPES.matchAll(/sh -c '\n(.*?)' < auth-profiles\.json/gs)].map(([, seed]) => seed);

  test("there are two recipes for a first login from standard input", () => {
    expect(seeds.length).toBe(2);
  });

  test.each(seeds)("puts a first login where it is refreshed: %#", (seed) => {
    const host = volume(0o777);
    rmSync(join(host.stateDir, "agents"), { recursive: true });
    const here = seed.replaceAll(/\/var\/lib\/acme|\/state/g, host.stateDir);
    const [program, ...args] = [...alone, "sh", "-c", here];
    expect(spawnSync(program, args, { input: storeText(expired()) }).status).toBe(0);
    expect(statSync(host.storePath("main")).mode & 0o777).toBe(0o600);
    expect(calls({ options: everything(host), through: alone })).toEqual(WELL);
  });
});
