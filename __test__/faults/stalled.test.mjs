/** Disks that stand still, and file systems that can't sync a directory. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { Host, PROFILE, PROVIDER } from "./support/host.mjs";
import { faultyPackage } from "./support/package.mjs";

const PROGRAM = join(import.meta.dirname, "support", "stall.mjs");
const LANES_PROGRAM = join(import.meta.dirname, "support", "stall-lanes.mjs");
const WORKER_PROGRAM = join(import.meta.dirname, "support", "stall-worker.mjs");
/** How long a call waits for the disk: as long as it likes. */
const PATIENCE_MS = 50;
/** Nothing takes so long but what never ends. */
const HUNG_MS = 60_000;
const OPERATIONS = 128;
const AT_A_TIME = 16;
/** More files than a lock removes from when it is taken until it is released. */
const REMOVALS = 8;
/** Linux. */
const [EIO, EBADF, EACCES, EINVAL, EOPNOTSUPP] = [5, 9, 13, 22, 95];

let module;
beforeAll(() => {
  module = faultyPackage();
});

/** What stall.mjs tells of its calls with this fault. */
async function run(fault, { isHealthy = false, program = PROGRAM } = {}) {
  const host = new Host({ access: "old access", refresh: "old refresh" });
  onTestFinished(() => host.remove());
  const goOn = join(host.stateDir, "go-on");
  const fields = { access: "new access", refresh: "new refresh", expires: Date.now() + 3_600_000 };
  const key = [PROVIDER, PROFILE];
  const work = { module, key, options: host.options("main"), goOn, fields, timeoutMs: PATIENCE_MS, isHealthy };
  const env = { PATH: process.env.PATH, OAUTH_REFRESH_LOCK_FAULT: fault, OAUTH_REFRESH_LOCK_GO_ON: goOn };
  const options = { env, timeout: HUNG_MS, killSignal: "SIGKILL" };
  const { stdout } = await promisify(execFile)(process.execPath, [program, JSON.stringify(work)], options);
  return { ...JSON.parse(stdout), fields };
}

describe("a disk that stands still", () => {
  test("at any file operation keeps no thread of Node's, no caller past its limit and no lock", async () => {
    const told = new Set();
    // Far more than both calls make; beyond their last one nothing stalls.
    for (let first = 1; first < OPERATIONS; first += AT_A_TIME) {
      const numbers = Array.from({ length: AT_A_TIME }, (_, at) => first + at);
      const runs = await Promise.all(numbers.map((at) => run(`${at}:stall`)));
      for (const [at, { codes, asked, locked, last, fields }] of runs.entries()) {
        const operation = `operation ${numbers[at]}`;
        expect(locked, operation).toBe("done");
        expect(last, operation).toMatchObject({ outcome: "fresh", credential: fields });
        expect(asked, operation).toBe(1);
        for (const code of codes) told.add(code);
      }
    }
    expect([...told].sort()).toEqual(["caller_timeout", "file_lock_timeout"]);
  });
});

describe("a disk that stands still under more agents than threads read for at a time", () => {
  test("keeps none of the others waiting", async () => {
    const [stalled, agents] = [20, 24];
    const host = new Host({ access: "old access", refresh: "old refresh" });
    onTestFinished(() => host.remove());
    const goOn = join(host.stateDir, "go-on");
    const work = { module, stateDir: host.stateDir, provider: PROVIDER, agents, stalled, goOn };
    const fault = `open#1-${stalled}:stall`;
    const env = { PATH: process.env.PATH, OAUTH_REFRESH_LOCK_FAULT: fault, OAUTH_REFRESH_LOCK_GO_ON: goOn };
    const options = { env, timeout: HUNG_MS, killSignal: "SIGKILL" };
    const { stdout } = await promisify(execFile)(process.execPath, [LANES_PROGRAM, JSON.stringify(work)], options);
    expect(JSON.parse(stdout)).toBe(agents);
  });
});

describe("a worker thread that has a lock on a disk that stands still", () => {
  test("can be ended, before the disk goes on", async () => {
    const numbers = Array.from({ length: REMOVALS }, (_, at) => at + 1);
    const runs = await Promise.all(numbers.map((at) => run(`put-back#${at}:stall`, { program: WORKER_PROGRAM })));
    for (const { locked } of runs) expect(locked).toBe("done");
    expect(runs.map(({ reached }) => reached)).toContain("held");
  });
});

describe("a directory that can't be synced", () => {
  test.each([EBADF, EACCES, EINVAL, EOPNOTSUPP])(
    "is one warning, and nothing is called unsaved (errno %i)",
    async (errno) => {
      const { codes, asked, result, last, warnings, fields } = await run(`sync-dir#1-99:${errno}`, { isHealthy: true });
      expect(codes).toEqual([]);
      expect(result).toMatchObject({ outcome: "refreshed", credential: fields });
      expect(result.notSaved).toBeUndefined();
      expect(last.outcome).toBe("fresh");
      expect(asked).toBe(1);
      expect(warnings).toEqual(["directory_not_synced"]);
    },
  );

  test("because its disk fails is an error, before the provider is asked", async () => {
    const { codes, asked, warnings } = await run(`sync-dir#1-99:${EIO}`, { isHealthy: true });
    expect(codes).not.toEqual([]);
    expect(asked).toBe(0);
    expect(warnings).toEqual([]);
  });
});
