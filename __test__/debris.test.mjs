/**
 * What OpenClaw's own lock, or anybody, may have left where ours puts its sidecar. A caller waits for none of it, or gets one
 * error that names it.
 */
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { startAgent } from "./support/agents.mjs";
import {
  answering,
  expectFree,
  listen,
  lockOn,
  lockPathOn,
  refreshAs,
  stopClock,
  typedRejection,
} from "./support/calls.mjs";
import { startIdle } from "./support/fleet/fleet.mjs";
import { createHost, expired, HOUR } from "./support/host.mjs";
import { owner, SIDECARS, startTime } from "./support/openclaw-lock.mjs";
import { copyPackage } from "./support/package-copy.mjs";

/** Even on a busy machine enough for a call that waits for nobody; a lock file that is taken for somebody's is waited for three times as long. */
const AT_ONCE_MS = 10_000;
/** What a caller spends on something that may stay in its way. */
const PATIENCE_MS = 1_000;
const NOBODY = 65534;
const isRoot = process.getuid?.() === 0;
const notRoot = isRoot ? "" : " (skipped: only root can give files away)";
const GENERATIONS = Object.keys(SIDECARS);
const ago = (ms) => new Date(Date.now() - ms);
const ahead = (ms) => ago(-ms);

let dead;
let alive;
beforeAll(async () => {
  const idle = await startIdle();
  dead = { pid: idle.pid, starttime: startTime(idle.pid) };
  await idle.kill();
  alive = await startIdle();
});
afterAll(() => alive?.kill());

/** What a process of that generation writes; the first two say nothing of when it was started. */
function sidecarOf(generation, { pid, starttime }, createdAt) {
  const fields = owner(pid, createdAt);
  return SIDECARS[generation](generation === "fs-safe" ? { ...fields, starttime } : fields);
}

const file = (text, options) => (path) => writeFileSync(path, text(), { mode: 0o600, ...options });
const ofDead = (createdAt) => () => sidecarOf("fs-safe", dead, createdAt);
const aged = (make, date) => (path) => {
  make(path);
  utimesSync(path, date, date);
};
const both = (one, other) => (path) => {
  one(path);
  other(path);
};
const guard = (path) => mkdirSync(`${path}.reclaim`);
const oldGuard = (path) => aged(mkdirSync, ago(HOUR))(`${path}.reclaim`);

/** Leftovers that nobody owns any more: whoever comes goes on. */
const LEFT = [
  ...GENERATIONS.map((generation) => [
    `a dead process's, of ${generation}`,
    file(() => sidecarOf(generation, dead), { mode: 0o644 }),
  ]),
  ["that of a process whose id was given away", file(() => sidecarOf("fs-safe", { pid: alive.pid, starttime: 1 }))],
  ["an empty one", file(() => "")],
  ["a guard beside a dead process's", both(file(ofDead()), guard)],
];

/** More of the same, for the key's lock. */
const LEFT_ALSO = [
  ...GENERATIONS.flatMap((generation) => [
    [`a dead process's, of ${generation}, an hour old`, file(() => sidecarOf(generation, dead, ago(HOUR)))],
    [`a dead process's, of ${generation}, made in an hour`, file(() => sidecarOf(generation, dead, ahead(HOUR)))],
  ]),
  ["that of a process whose id was given away, by April's rules", file(() => sidecarOf("April", alive, ago(HOUR)))],
  ["one last written in an hour", aged(file(ofDead()), ahead(HOUR))],
  ["one last written in 1970", aged(file(ofDead()), new Date(0))],
  [
    "an empty one, an hour old",
    aged(
      file(() => ""),
      ago(HOUR),
    ),
  ],
  ["garbage", file(() => "\0\xff{not json")],
  [
    "garbage, made in an hour",
    aged(
      file(() => "\0\xff{not json"),
      ahead(HOUR),
    ),
  ],
  ["JSON that says nothing", file(() => "null")],
  ["half of a sidecar", file(() => ofDead()().slice(0, 20))],
  ["a guard beside a dead process's, an hour old", both(file(ofDead()), oldGuard)],
];

/** What stands in nobody's way and may stay. */
const ASIDE = [
  ["a guard alone", guard],
  ["a guard alone, an hour old", oldGuard],
];

const elsewhere = (path, name) => join(dirname(path), "..", "..", "..", name);
const linkTo = (name, write) => (path) => {
  const target = elsewhere(path, name);
  write?.(target);
  symlinkSync(target, path);
};

/** What is no lock file of anybody's: it may be refused. */
const STRANGE = [
  ["a directory", (path) => mkdirSync(path)],
  ["a directory with something in it", (path) => mkdirSync(join(path, "something"), { recursive: true })],
  ["a dangling link", linkTo("nowhere")],
  [
    "a link to a file elsewhere",
    linkTo(
      "precious",
      file(() => "bytes"),
    ),
  ],
  ["a link to a dead process's sidecar elsewhere", linkTo("precious", file(ofDead()))],
  [
    "a link to a directory elsewhere",
    linkTo("precious", (path) => mkdirSync(join(path, "in it"), { recursive: true })),
  ],
  ["a link to itself", (path) => symlinkSync(path, path)],
  ["a megabyte", file(() => "x".repeat(1 << 20))],
  ["a guard that is a file beside a dead process's", both(file(ofDead()), (path) => file(() => "")(`${path}.reclaim`))],
];

const refresh = (host, timeoutMs = AT_ONCE_MS) => refreshAs(host, "main", answering(), { timeoutMs });
const PLACES = [
  {
    what: "withOAuthProfileLock at its key's lock",
    at: (host) => `${lockPathOn(host)}.lock`,
    call: (host, timeoutMs = AT_ONCE_MS) => lockOn(host, () => ({ outcome: "refreshed" }), { timeoutMs }),
    left: [...LEFT, ...LEFT_ALSO],
  },
  {
    what: "withOAuthRefreshLock at its key's lock",
    at: (host) => `${lockPathOn(host)}.lock`,
    call: refresh,
    left: [...LEFT, ...LEFT_ALSO],
  },
  {
    what: "withOAuthRefreshLock at the store's lock",
    at: (host) => `${host.storePath("main")}.lock`,
    call: refresh,
    left: LEFT,
    code: "store_unwritable",
  },
];

/** A host where this lies about. */
function hostWith(at, make) {
  const host = createHost({ main: expired() });
  const path = at(host);
  mkdirSync(dirname(path), { recursive: true });
  make(path);
  return { host, path };
}

/** What a call has no business with: all but the lock files and the store it refreshes, wherever they lie. */
function others(host) {
  const mine = (path) => join(host.root, path).startsWith(host.storePath("main"));
  return Object.fromEntries(Object.entries(host.tree({ locks: false })).filter(([path]) => !mine(path)));
}

const leftovers = (host) => Object.keys(host.tree()).filter((path) => /\.(lock|reclaim|tmp)$/.test(path));

describe.each(PLACES)("$what", ({ at, call, left, code = "lock_unavailable" }) => {
  test.each(left)("goes on at once: %s", async (_, make) => {
    const { host } = hostWith(at, make);
    const before = others(host);
    const result = await call(host);
    expect(result).toMatchObject({ outcome: "refreshed" });
    expect(result).not.toHaveProperty("notSaved");
    expect(leftovers(host)).toEqual([]);
    expect(others(host)).toEqual(before);
  });

  test.each(ASIDE)("goes on at once: %s", async (_, make) => {
    const { host, path } = hostWith(at, make);
    const before = others(host);
    expect(await call(host)).toMatchObject({ outcome: "refreshed" });
    expect(existsSync(path)).toBe(false);
    expect(others(host)).toEqual(before);
  });

  test.each(STRANGE)("goes on at once, or says what is in the way: %s", async (_, make) => {
    const { host, path } = hostWith(at, make);
    const before = others(host);
    const debris = () => Object.entries(host.tree()).filter(([name]) => join(host.root, name).startsWith(path));
    const found = debris();
    const { error, result } = await call(host, PATIENCE_MS).then(
      (result) => ({ result, error: result.notSaved }),
      (error) => ({ error }),
    );
    if (error) {
      expect(error).toMatchObject({ code, message: expect.stringContaining(path) });
      expect(debris()).toEqual(found);
      // Nothing is lost by it: whoever clears it away goes on.
      for (const there of [path, `${path}.reclaim`]) rmSync(there, { recursive: true, force: true });
      expect(await call(host)).not.toHaveProperty("notSaved");
    } else {
      expect(result).toMatchObject({ outcome: "refreshed" });
    }
    expect(leftovers(host)).toEqual([]);
    expect(others(host)).toEqual(before);
  });

  test.skipIf(!isRoot)(`goes on at once: another user's${notRoot}`, async () => {
    const { host } = hostWith(at, (path) => {
      file(ofDead())(path);
      chownSync(path, NOBODY, NOBODY);
    });
    expect(await call(host)).toMatchObject({ outcome: "refreshed" });
    expect(leftovers(host)).toEqual([]);
  });
});

describe("a lock file of another user that can't be read", () => {
  test.skipIf(!isRoot)(`is no obstacle, or named${notRoot}`, async () => {
    const { host, path } = hostWith(PLACES[0].at, file(ofDead()));
    for (const name of Object.keys(host.tree())) {
      if (join(host.root, name) !== path) chownSync(join(host.root, name), NOBODY, NOBODY);
    }
    chownSync(host.root, NOBODY, NOBODY);
    const agent = await startAgent({
      uid: NOBODY,
      script: join(copyPackage({ tests: true }), "__test__", "support", "agent.mjs"),
    });
    const call = agent.lock({ options: { stateDir: host.stateDir, timeoutMs: 1_000 } });
    call.answer();
    const [{ error }] = await call.settled;
    if (error) expect(error).toMatchObject({ code: "lock_unavailable", message: expect.stringContaining(path) });
    else expect(existsSync(path)).toBe(false);
  });
});

describe("the lock file of a living process is no debris", () => {
  const living = GENERATIONS.map((generation) => [
    generation,
    () => sidecarOf(generation, { pid: alive.pid, starttime: startTime(alive.pid) }),
  ]);

  test.each(living)("of %s is waited for, and told of, and left alone", async (_, text) => {
    const { host, path } = hostWith(PLACES[0].at, file(text));
    const { ino } = lstatSync(path);
    const before = readFileSync(path, "utf8");
    const log = listen();
    const pass = stopClock();
    const waiting = typedRejection(
      lockOn(host, () => {}, { timeoutMs: 1_000 }),
      "file_lock_timeout",
    );
    await log.seen({ type: "waiting" });
    pass(1_000);
    const error = await waiting;
    expect(error).toMatchObject({ lockPath: path, holder: { pid: alive.pid } });
    expect(readFileSync(path, "utf8")).toBe(before);
    expect(lstatSync(path).ino).toBe(ino);
    rmSync(path);
    await expectFree(host);
  });

  test.each(living)("of %s is debris once it dies", async (generation) => {
    const holder = await startIdle();
    onTestFinished(() => holder.kill());
    const { pid } = holder;
    const { host, path } = hostWith(
      PLACES[0].at,
      file(() => sidecarOf(generation, { pid, starttime: startTime(pid) })),
    );
    const log = listen();
    const waiting = lockOn(host, () => "mine");
    await log.seen({ type: "waiting" });
    await holder.kill();
    expect(await waiting).toBe("mine");
    expect(existsSync(path)).toBe(false);
  });

  test("is never taken for ours when ours is gone: it stays when we leave", async () => {
    const host = createHost();
    const path = PLACES[0].at(host);
    const text = sidecarOf("fs-safe", { pid: alive.pid, starttime: startTime(alive.pid) });
    await lockOn(host, () => {
      // As a peer of April's time does it: removes ours, and makes its own.
      const theirs = `${path}.theirs`;
      file(() => text)(theirs);
      renameSync(theirs, path);
    });
    expect(readFileSync(path, "utf8")).toBe(text);
    rmSync(path);
    await expectFree(host);
  });
});
