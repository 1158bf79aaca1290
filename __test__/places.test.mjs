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
import { MAIN } from "./cli/cli.mjs";
import { startAgent } from "./support/agents.mjs";
import { lockPathOn } from "./support/calls.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER, storeText } from "./support/host.mjs";

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
  const seeds = [...RECIPES.matchAll(/oauth-refresh-lock (login add .*?) < answer\.json/gs)].map(([, seed]) => seed);

  test("there are two recipes for a first login from standard input", () => {
    expect(seeds.length).toBe(2);
  });

  test.each(seeds)("puts a first login where it is refreshed: %#", (seed) => {
    const host = volume(0o777);
    rmSync(join(host.stateDir, "agents"), { recursive: true });
    const here = seed.replaceAll("/var/lib/acme", host.stateDir).replace("acme:me", PROFILE);
    const [program, ...args] = [...alone, process.execPath, MAIN, ...here.split(/[\s\\]+/)];
    const env = { ...process.env, OPENCLAW_STATE_DIR: host.stateDir };
    const input = JSON.stringify({ refresh_token: expired().refresh });
    expect(spawnSync(program, args, { input, env }).status).toBe(0);
    expect(statSync(host.storePath("main")).mode & 0o777).toBe(0o600);
    expect(calls({ options: everything(host), through: alone })).toEqual(WELL);
  });
});

/**
 * Agents of several PID namespaces, as containers are, with one state directory. Each looks dead to the others, or like
 * one of their own processes.
 */

const AGENTS = 4;

/** A namespace of its own for each, which ends with it. */
const asUser = process.getuid?.() === 0 ? [] : ["--user", "--map-root-user"];
const ELSEWHERE = ["unshare", ...asUser, "--fork", "--kill-child=SIGKILL", "--pid", "--mount-proc"];

const [program, ...given] = ELSEWHERE;
const { status, error, stderr } = spawnSync(program, [...given, "true"], { encoding: "utf8" });
const whyNot = status === 0 ? "" : ` (skipped: no PID namespaces here: ${error?.message ?? stderr?.trim()})`;
if (whyNot) console.warn(whyNot);

const startHere = () => startAgent();
const startElsewhere = () => startAgent({ through: ELSEWHERE });

/** Has an owner ask the provider, while agents of this namespace and of others, each a process 1, wait for it. */
async function contend(startOwner) {
  const names = ["main", ...Array.from({ length: 2 * AGENTS }, (_, number) => `agent-${number + 1}`)];
  const old = expired();
  const host = createHost(Object.fromEntries(names.map((name) => [name, old])));
  const owner = await startOwner();
  const call = owner.refresh({ options: host.as("main") });
  expect(await call.called).toEqual(old);
  const starts = Array.from({ length: 2 * AGENTS }, (_, number) => (number % 2 ? startHere() : startElsewhere()));
  const agents = await Promise.all(starts);
  const calls = agents.map((agent, at) => agent.refresh({ options: host.as(names[at + 1]) }));
  await Promise.all(agents.map(({ log }) => log.seen({ type: "waiting" })));
  expect(calls.flatMap((one) => one.calls)).toEqual([]);
  const expectServed = async (fields, outcomes) => {
    for (const { result, error } of (await Promise.all(outcomes)).flat()) {
      expect(error).toBeUndefined();
      expect(result.credential).toMatchObject(fields);
    }
    for (const name of names) expect(host.store(name), name).toBe(storeText({ ...old, ...fields }));
  };
  return { host, owner, call, agents, calls, old, expectServed };
}

const cases = [
  ["this namespace", startHere],
  ["another namespace", startElsewhere],
];

test.skipIf(whyNot).each(cases)(`one provider call for all of them, by an owner of %s${whyNot}`, async (_, start) => {
  const { host, owner, call, calls, expectServed } = await contend(start);
  const { pid } = JSON.parse(readFileSync(`${lockPathOn(host)}.lock`, "utf8"));
  expect(pid).toBe(start === startHere ? owner.pid : 1);
  const fields = answer();
  call.answer(fields);
  const settled = [call, ...calls].map((one) => one.settled);
  await expectServed(fields, settled);
  expect(calls.flatMap((one) => one.calls)).toEqual([]);
});

test.skipIf(whyNot).each(cases)(
  `the death of an owner of %s lets them go on, and ask once${whyNot}`,
  async (_, start) => {
    const { owner, agents, calls, old, expectServed } = await contend(start);
    await owner.kill();
    const next = await Promise.race(calls.map((one) => one.called.then(() => one)));
    const fields = answer();
    next.answer(fields);
    await expectServed(
      fields,
      calls.map((one) => one.settled),
    );
    expect(calls.flatMap((one) => one.calls)).toEqual([old]);
    const reclaimed = agents.flatMap(({ log }) => log.matching({ type: "reclaimed" }));
    expect(reclaimed).toHaveLength(1);
  },
);

/** Starts two whose process ids and start times, to a hundredth of a second, are the same. */
async function startTwins() {
  const born = new Map();
  for (;;) {
    const crowd = await Promise.all(Array.from({ length: AGENTS }, startElsewhere));
    for (const agent of crowd) {
      const child = readFileSync(`/proc/${agent.pid}/task/${agent.pid}/children`, "utf8").trim();
      // The command stands in parentheses, and may hold anything.
      const [, fields] = /\) ([^)]*)$/.exec(readFileSync(`/proc/${child}/stat`, "utf8"));
      const startTime = fields.split(" ")[19];
      if (born.has(startTime)) return [born.get(startTime), agent];
      born.set(startTime, agent);
    }
  }
}

test.skipIf(whyNot)(`nor does an owner's death stop its twin${whyNot}`, async () => {
  const [owner, twin] = await startTwins();
  const host = createHost({ main: expired(), twin: expired() });
  const call = owner.refresh({ options: host.as("main") });
  await call.called;
  const { pid, starttime } = JSON.parse(readFileSync(`${lockPathOn(host)}.lock`, "utf8"));
  const next = twin.refresh({ options: host.as("twin") });
  await twin.log.seen({ type: "waiting" });
  await owner.kill();
  await next.called;
  expect(JSON.parse(readFileSync(`${lockPathOn(host)}.lock`, "utf8"))).toMatchObject({ pid, starttime });
  const fields = answer();
  next.answer(fields);
  const [{ result }] = await next.settled;
  expect(result.credential).toMatchObject(fields);
});

test.skipIf(whyNot)(
  `who looks from within a namespace sees an owner outside, and says what can't be told${whyNot}`,
  async () => {
    const host = createHost({ main: expired() });
    const owner = await startHere();
    const call = owner.refresh({ options: host.as("main") });
    await call.called;
    const waiter = await startHere();
    const waiting = waiter.refresh({ options: host.as("main") });
    await waiter.log.seen({ type: "waiting" });
    const code = `
    import { inspectOAuthRefreshLocks } from ${JSON.stringify(new URL("../index.mjs", import.meta.url).href)};
    console.log(JSON.stringify(await inspectOAuthRefreshLocks({ stateDir: process.argv[1] })));`;
    const look = (through) => {
      const [command, ...args] = [...through, process.execPath, "--input-type=module", "-e", code, host.stateDir];
      return JSON.parse(spawnSync(command, args, { encoding: "utf8" }).stdout);
    };
    const pid = owner.pid;
    expect(look(ELSEWHERE)).toMatchObject([{ holder: { pid, isElsewhere: true, command: null }, waiters: null }]);
    expect(look([])).toMatchObject([{ holder: { pid, isElsewhere: false } }]);
    call.answer(answer());
    await Promise.all([call.settled, waiting.settled]);
  },
);
