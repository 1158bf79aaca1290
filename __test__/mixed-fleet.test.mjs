/** Ours and OpenClaw's own lock on one key, in one host's fleet half way through an upgrade. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { withOAuthProfileLock } from "../index.mjs";
import { canFetchNode, nodeBinary, packageDir } from "../scripts/fetch.mjs";
import { heldElsewhere, holdLock, startAgent } from "./support/agents.mjs";
import {
  answering,
  BOTH_CALLS,
  expectFree,
  listen,
  lockOn,
  lockPathOn,
  refreshAs,
  stopClock,
  typedRejection,
  unwanted,
} from "./support/calls.mjs";
import { deferred } from "./support/events.mjs";
import { createPlace, judged, play, startFleet, startIdle } from "./support/fleet/fleet.mjs";
import { FS_SAFE } from "./support/fleet/fs-safe.mjs";
import { judge, Witness } from "./support/fleet/witness.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER } from "./support/host.mjs";
import { owner, SIDECARS, sped } from "./support/openclaw-lock.mjs";
import { copyPackage } from "./support/package-copy.mjs";
import { startWorker } from "./support/workers.mjs";

const PROCESSES = 20;
const ROUNDS = 4;
/** Theirs wait 5 to 500 ms between two tries instead of 100 to 10,000; 20 tries have to do all the same. */
const SPEED = 20;
/** So many more take the lock and die, while the fleet wants it. */
const DEATHS = 60;

const isNewEnough = Number(process.versions.node.split(".")[0]) >= FS_SAFE.node;
const canRunFsSafe = isNewEnough || canFetchNode;
const why = canRunFsSafe
  ? ""
  : ` (skipped: needs Node ${FS_SAFE.node} or newer, which is fetched for Linux on x64 only)`;

let fleet;
let fsSafe;
beforeAll(async () => {
  if (canRunFsSafe) fsSafe = packageDir(FS_SAFE.name, FS_SAFE.version);
  const theirNode = isNewEnough || !canFetchNode ? process.execPath : nodeBinary(24);
  fleet = await startFleet({ ours: PROCESSES, theirs: PROCESSES, theirNode });
});
afterAll(() => fleet?.end());

async function leftByOursAlone(host) {
  const dir = join(host.root, "alone");
  await lockOn(host, () => {}, { lockPath: join(dir, "key") });
  const left = readdirSync(dir).sort();
  expect(left.filter((name) => /\.(lock|reclaim|tmp)$/.test(name))).toEqual([]);
  return left;
}

describe(`${PROCESSES} processes of ours and ${PROCESSES} of theirs`, () => {
  const fleets = [["fs-safe"], ["April"], ["May"], ["fs-safe", "April", "May"]];
  const cases = fleets.flatMap((kinds) => ["releases it", "dies, and others after it"].map((end) => [kinds, end]));

  for (const [kinds, end] of cases) {
    const needsFsSafe = kinds.includes("fs-safe");
    const name = `by the rules of ${kinds.join(", ")} exclude each other once the holder ${end}`;
    test.skipIf(needsFsSafe && !canRunFsSafe)(needsFsSafe ? name + why : name, async () => {
      const host = createHost();
      const deaths = end === "releases it" ? 0 : DEATHS;
      const common = { timeoutMs: 60_000, speed: SPEED, rounds: ROUNDS, holdMs: 3, fsSafe };
      const played = await play(fleet, { dir: host.root, kinds, deaths, ...common });
      const { holds, atFirst, failed, left, overlaps, notExcused, bare, inside, rates, mostTries, died } = played;
      console.log(`${kinds.join("+")}: ${JSON.stringify({ died, holds, ...rates, mostTries })}`);

      expect(atFirst).toEqual(atFirst.map(() => "found it taken"));
      expect({ failed, notExcused, bare, inside }).toEqual({ failed: [], notExcused: [], bare: [], inside: [] });
      if (deaths > 0) expect(died).toBeGreaterThan(0);
      expect(holds).toBe(2 * PROCESSES * ROUNDS);
      // Nobody's live lock is removed there, so there is nothing to excuse.
      const isNobodyRobbed = kinds.join() === "fs-safe";
      if (isNobodyRobbed) expect(overlaps).toEqual([]);
      // What ours leaves when it is alone, and nothing of theirs. With its lock the last of ours may have been robbed of its file.
      const robbed = isNobodyRobbed ? [] : ["key.sidecar"];
      expect([...new Set([...left, ...robbed])].sort()).toEqual(await leftByOursAlone(host));
    });
  }
});

test.skipIf(!canRunFsSafe)(`fs-safe that was about to reclaim does not come in beside ours${why}`, async () => {
  const host = createHost();
  const place = createPlace(host.root);
  const dead = await startIdle();
  await dead.kill();
  const sidecar = `${place.lockPath}.lock`;
  writeFileSync(sidecar, SIDECARS["fs-safe"]({ ...owner(dead.pid), starttime: 1 }), { mode: 0o600 });
  const once = { ...place, rounds: 1, holdMs: 0, lockOptions: sped(SPEED), fsSafe, pauses: true };
  const theirs = fleet.theirs[0].play({ kind: "fs-safe", ...once });
  await theirs.reclaiming;

  const ours = async () => {
    const witness = new Witness({ kind: "ours", ...place });
    witness.enter();
    theirs.goOn();
    await Promise.race([theirs.taken, theirs.done]);
    expect(JSON.parse(readFileSync(sidecar, "utf8"))).toMatchObject({ pid: process.pid });
    witness.leave();
  };
  await lockOn(host, ours, { lockPath: place.lockPath, timeoutMs: 1_000 });
  const { error } = await theirs.done;
  // It may find that somebody has removed its guard, which it takes for an error.
  if (error) expect(error).toMatchObject({ code: "ENOENT", message: expect.stringContaining(".lock.reclaim") });
  expect(judged(place)).toMatchObject({ overlaps: [], bare: [], inside: [], holds: error ? 1 : 2 });
  expect(existsSync(sidecar)).toBe(false);
});

describe("the witness", () => {
  const ours = { kind: "ours", pid: 1 };
  const theirs = { kind: "April", pid: 2 };
  const enter = (who, sidecar = `${who.pid} at noon`) => ({ did: "enter", ...who, sidecar });
  const leave = (who) => ({ did: "leave", ...who });
  const removed = (who, sidecar) => ({ did: "removed", ...who, sidecar });
  const third = { kind: "April", pid: 3 };

  test("sees nothing in turns", () => {
    const lines = [enter(ours), leave(ours), enter(theirs), leave(theirs), removed(theirs, "2 at noon"), enter(ours)];
    expect(judge(lines)).toMatchObject({ holds: 3, overlaps: [], notExcused: [], bare: [], inside: [1] });
  });

  test.each([
    ["theirs beside ours", [enter(ours), enter(theirs)]],
    ["ours beside theirs", [enter(theirs), enter(ours)]],
    ["theirs beside theirs", [enter(theirs), enter(third)]],
    ["ours beside ours", [enter(ours), enter({ ...ours, pid: 3 })]],
    ["ours beside ours, robbed", [enter(ours), removed(theirs, "1 at noon"), enter({ ...ours, pid: 3 })]],
    ["theirs beside ours that gave up its own sidecar", [enter(ours, null), enter(theirs)]],
    ["theirs beside ours whose earlier sidecar was removed", [removed(theirs, "1 at ten"), enter(ours), enter(theirs)]],
    ["theirs beside ours whose sidecar it released", [enter(theirs), removed(theirs, "2 at noon"), enter(ours)]],
  ])("does not excuse %s", (_, lines) => {
    const { overlaps, notExcused } = judge(lines);
    expect(overlaps).toHaveLength(1);
    expect(notExcused).toEqual(overlaps);
  });

  test.each([
    ["theirs beside ours", [enter(ours), removed(third, "1 at noon"), enter(theirs)]],
    ["theirs beside ours, told late", [enter(ours), enter(theirs), removed(third, "1 at noon")]],
    ["ours beside theirs", [enter(theirs), removed(third, "2 at noon"), enter(ours)]],
    ["ours that came in without", [removed(third, "1 at noon"), enter(ours, null), enter(theirs)]],
    ["theirs that lost its own before it was written", [removed(third, ""), enter(theirs, null), enter(ours)]],
    ["theirs that lost its own before it came in", [removed(third, ""), enter(ours), enter(theirs, null)]],
  ])("excuses %s after a robbery", (_, lines) => {
    const { overlaps, notExcused } = judge(lines);
    expect(overlaps).toHaveLength(1);
    expect(notExcused).toEqual([]);
  });

  test("tells which of ours holds the lock without a sidecar of its own", () => {
    expect(judge([enter(ours, null)]).bare).toEqual([1]);
    expect(judge([removed(third, ""), enter(ours, null)]).bare).toEqual([1]);
    expect(judge([enter(ours, null), removed(third, "1 at noon")]).bare).toEqual([]);
    expect(judge([enter(theirs, null)]).bare).toEqual([]);
  });
});

describe("across processes", () => {
  test("one at most is inside, and all have their turn", async () => {
    const host = createHost();
    const agents = await Promise.all(Array.from({ length: 4 }, () => startAgent()));
    const request = { options: { stateDir: host.stateDir } };
    const first = await holdLock(agents[0], request);
    const others = agents.slice(1).map((agent) => agent.lock(request));
    await Promise.all(agents.slice(1).map(({ log }) => log.seen({ type: "waiting" })));
    const inside = () => others.filter(({ calls }) => calls.length > 0).length;
    expect(inside()).toBe(0);
    await first.release();
    const left = new Set(others);
    for (let turn = 1; turn <= others.length; turn++) {
      const next = await Promise.race([...left].map((call) => call.called.then(() => call)));
      expect(inside()).toBe(turn);
      left.delete(next);
      next.answer();
      await next.settled;
    }
  });

  test("an owner's death frees the lock", async () => {
    const host = createHost();
    const { agent } = await heldElsewhere(host);
    const log = listen();
    const next = lockOn(host, () => "mine");
    await log.seen({ type: "waiting" });
    await agent.kill();
    expect(await next).toBe("mine");
  });

  test.each(BOTH_CALLS)("a wait of %s that runs out names the holder of the lock", async (_, call) => {
    const host = createHost({ main: expired() });
    const before = host.store("main");
    const { agent, release } = await heldElsewhere(host);
    const log = listen();
    const pass = stopClock();
    const fn = unwanted();
    const failed = typedRejection(call(host, fn, { timeoutMs: 20 }), "file_lock_timeout");
    await log.seen({ type: "waiting" });
    pass(20);
    const error = await failed;
    const base = lockPathOn(host);
    expect({ path: error.path, lockPath: error.lockPath }).toEqual({ path: base, lockPath: `${base}.lock` });
    expect(error.holder).toEqual({ pid: agent.pid, heldMs: expect.any(Number) });
    expect(error.holder.heldMs).toBeGreaterThanOrEqual(0);
    expect(error.message).toContain(base);
    expect(error.message).toContain(`${agent.pid}`);
    await release();
    await expectFree(host);
    expect(fn).not.toHaveBeenCalled();
    expect(host.store("main")).toBe(before);
  });

  test("a wait in this process's own line runs out all the same", async () => {
    const host = createHost({ main: expired() });
    const log = listen();
    const release = deferred();
    const first = lockOn(host, () => release.promise);
    await log.seen({ type: "acquired" });
    const fn = unwanted();
    for (const [, call] of BOTH_CALLS) {
      const error = await typedRejection(call(host, fn, { timeoutMs: 20 }), "file_lock_timeout");
      expect(error.lockPath).toBe(`${lockPathOn(host)}.lock`);
      expect(error.holder.pid).toBe(process.pid);
    }
    release.resolve();
    await first;
    await expectFree(host);
    expect(fn).not.toHaveBeenCalled();
  });

  test("waiting takes no thread of Node's own pool", async () => {
    const host = createHost();
    const log = listen();
    const keys = Array.from({ length: 64 }, (_, number) => ({ lockPath: join(host.root, "locks", `${number}`) }));
    const agent = await startAgent();
    const holds = await Promise.all(keys.map((options) => holdLock(agent, { options })));
    const waits = keys.map((options) => lockOn(host, () => "mine", options));
    await log.seen({ type: "waiting" }, keys.length);
    // Would never come back: there are four threads.
    expect(await readFile(import.meta.filename, "utf8")).toContain("waiting takes no thread");
    await Promise.all(holds.map(({ release }) => release()));
    expect(await Promise.all(waits)).toEqual(keys.map(() => "mine"));
  });
});

describe("peers in one process", () => {
  test("a worker thread is one", async () => {
    const host = createHost({ main: expired() });
    const worker = startWorker(host);
    await worker.told("inside");
    const log = listen();
    const error = await typedRejection(lockOn(host, unwanted(), { timeoutMs: 20 }), "file_lock_timeout");
    expect(error.holder.pid).toBe(process.pid);
    const fields = answer();
    const refreshed = refreshAs(host, "main", answering(fields));
    await log.seen({ type: "waiting", agentDir: host.agentDir("main") });
    worker.letGo();
    expect((await refreshed).credential).toMatchObject(fields);
  });

  test("worker threads wait for this one and for each other", async () => {
    const host = createHost();
    const release = deferred();
    const log = listen();
    const mine = lockOn(host, () => release.promise);
    await log.seen({ type: "acquired" });
    const [one, two] = [startWorker(host), startWorker(host)];
    await Promise.all([one.told("waiting"), two.told("waiting")]);
    let inside = 0;
    for (const worker of [one, two]) {
      void worker.told("inside").then(() => {
        inside += 1;
      });
    }
    release.resolve();
    await mine;
    const first = await Promise.race([one, two].map((worker) => worker.told("inside").then(() => worker)));
    const last = first === one ? two : one;
    const behind = lockOn(host, () => inside);
    expect(inside).toBe(1);
    first.letGo();
    await last.told("inside");
    last.letGo();
    expect(await behind).toBe(2);
  });

  test.each(["lock", "refresh"])("a worker thread that is ended inside its %s frees the lock", async (ask) => {
    const host = createHost({ main: expired() });
    const worker = startWorker(host, ask);
    await worker.told("inside");
    const log = listen();
    const waiting = lockOn(host, () => "mine");
    await log.seen({ type: "waiting" });
    await worker.end();
    expect(await waiting).toBe("mine");
  });

  test("import and require are one package, with one line", async () => {
    const host = createHost();
    const required = createRequire(import.meta.url)("../index.js");
    const order = [];
    await Promise.all([
      required.withOAuthProfileLock(PROVIDER, PROFILE, async () => order.push(1), { stateDir: host.stateDir }),
      withOAuthProfileLock(PROVIDER, PROFILE, async () => order.push(2), { stateDir: host.stateDir }),
      required.withOAuthProfileLock(PROVIDER, PROFILE, async () => order.push(3), { stateDir: host.stateDir }),
    ]);
    expect(order).toEqual([1, 2, 3]);
  });

  test("another copy of the package is one", async () => {
    const host = createHost();
    const copy = await import(pathToFileURL(join(copyPackage(), "index.mjs")).href);
    expect(copy.withOAuthProfileLock).not.toBe(withOAuthProfileLock);
    const log = listen();
    const release = deferred();
    const first = lockOn(host, () => release.promise);
    await log.seen({ type: "acquired" });
    const fn = vi.fn(() => "its");
    const second = copy.withOAuthProfileLock(PROVIDER, PROFILE, fn, { stateDir: host.stateDir });
    await log.seen({ type: "waiting" });
    expect(fn).not.toHaveBeenCalled();
    release.resolve();
    await first;
    expect(await second).toBe("its");
  });
});
