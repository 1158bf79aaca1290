/** Stores that can't be written: before the provider is asked nothing is spent, afterwards nothing is lost. */
import { existsSync, mkdirSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { describe, expect, onTestFinished, test } from "vitest";
import { goOn, outcome, tokensOf } from "./support/aftermath.mjs";
import { Host } from "./support/host.mjs";
import { DIRECTORY, OBSTACLES, READ_ONLY_FILES, REFUSED, smallDisk } from "./support/obstacles.mjs";
import { oneCall } from "./support/processes.mjs";
import { createStuckLane, holderOf, STUCK_MS } from "./support/stuck.mjs";
import { stopTimers, world } from "./support/world.mjs";

const EVERYONE = ["two", "one", "main"];
const SHORT_LIFE_MS = 1000;

async function createHost(options) {
  const host = new Host(await world.provider.obtainGrant(), options);
  onTestFinished(() => host.remove());
  return host;
}

const restarted = async (host, name, options) =>
  (await oneCall({ package: world.module }, world.ask(host, name, options))).settled;

/** The same call in this process, in one that has been there all along, and in a new one. */
async function fromEverywhere(host, name, options) {
  return [
    await world.call(host, name, options),
    await world.neighbour.call(world.ask(host, name, options)),
    await restarted(host, name, options),
  ];
}

/** A refresh during which obstacles are raised at these agents' stores. */
async function refreshInto(host, obstacle, blocked, livesMs) {
  const lower = [];
  let fields;
  const { result, error } = await world.call(host, "one", {}, (answer) => {
    if (livesMs) answer.expires = Date.now() + livesMs;
    fields = answer;
    for (const name of blocked) lower.push(obstacle.raise(host.storePath(name)));
  });
  expect(error).toBeUndefined();
  expect(result.outcome).toBe("refreshed");
  expect(result.credential).toMatchObject(fields);
  return { result, fields, lower: () => lower.map((end) => end()) };
}

/** Nobody has asked again, and the grant lives. */
function expectOneCall(host, fields) {
  expect(world.answersTo(host.old.refresh)).toEqual(["refreshed"]);
  expect(world.answersTo(fields.refresh)).toEqual([]);
  expect(world.provider.isGrantAlive(fields.refresh)).toBe(true);
}

describe.each(OBSTACLES)("after the provider has answered, $name", (obstacle) => {
  test("and no store takes the answer: the journal serves everyone until they do", async () => {
    stopTimers();
    const host = await createHost();
    const { result, fields, lower } = await refreshInto(host, obstacle, ["one", "main"]);
    expect(result.notSaved).toMatchObject({ code: "store_unwritable" });
    expect(result.mirror).toMatchObject({ written: false, reason: "store-error", error: { code: "store_unwritable" } });
    const journal = `${world.lockPath(host)}.journal`;
    for (const name of ["one", "two", "main", "one"]) {
      for (const next of await fromEverywhere(host, name)) {
        expect(outcome(next), next.error?.shown).toBe("recovered");
        expect(next.result.credential).toMatchObject(fields);
        expect(next.result.notSaved).toMatchObject({ code: "store_unwritable" });
      }
    }
    expect(host.faults([host.old])).toEqual([]);
    expect(host.tellers([fields.access, fields.refresh])).toEqual([journal]);
    expect(statSync(journal).mode & 0o777).toBe(0o600);
    expectOneCall(host, fields);

    lower();
    await goOn({ host, fields, label: obstacle.name }, EVERYONE, true);
  });

  test("and the agent's own store does not take the answer: main's does", async () => {
    stopTimers();
    const host = await createHost();
    const { result, fields, lower } = await refreshInto(host, obstacle, ["one"]);
    expect(result.notSaved).toMatchObject({ code: "store_unwritable" });
    expect(result.mirror).toMatchObject({ written: true });
    for (const next of await fromEverywhere(host, "one")) {
      expect(outcome(next), next.error?.shown).toBe("adopted");
      expect(next.result.credential).toMatchObject(fields);
      expect(next.result.notSaved).toMatchObject({ code: "store_unwritable" });
    }
    expect(host.holders(fields)).toEqual(["main"]);
    expectOneCall(host, fields);

    lower();
    await goOn({ host, fields, label: obstacle.name }, EVERYONE, true);
  });

  test("and main's store does not take the answer: the agent's own does, and main's later", async () => {
    stopTimers();
    const host = await createHost();
    const { result, fields, lower } = await refreshInto(host, obstacle, ["main"]);
    expect(result.notSaved).toBeUndefined();
    expect(result.mirror).toMatchObject({ written: false, reason: "store-error" });
    for (const name of ["main", "two"]) {
      for (const next of await fromEverywhere(host, name)) {
        expect(["recovered", "adopted", "fresh"], next.error?.shown).toContain(outcome(next));
        expect(next.result.credential).toMatchObject(fields);
      }
    }
    expectOneCall(host, fields);

    lower();
    await goOn({ host, fields, label: obstacle.name }, ["main", "two", "one"], true);
  });

  test("and the answer expires in the journal: nothing is sent until the stores can be written", async () => {
    stopTimers();
    const host = await createHost();
    const { fields, lower } = await refreshInto(host, obstacle, ["one", "main"], SHORT_LIFE_MS);
    while (Date.now() <= fields.expires) await delay(fields.expires + 1 - Date.now());
    for (const name of ["one", "main"]) {
      for (const next of await fromEverywhere(host, name)) {
        expect(next.error).toMatchObject({ name: "OAuthRefreshLockError", code: "store_unwritable" });
      }
    }
    expectOneCall(host, fields);

    lower();
    const next = await restarted(host, "one");
    expect(outcome(next), next.error?.shown).toBe("refreshed");
    expect(world.answersTo(host.old.refresh)).toEqual(["refreshed"]);
    expect(world.answersTo(fields.refresh)).toEqual(["refreshed"]);
    expect(host.holders(tokensOf(next))).toEqual(["main", "one"]);
    expect(host.tellers([fields.access, fields.refresh, next.result.credential.refresh])).toEqual([]);
  });
});

test("a store that has become a directory is none; when it is back it gets the answer", async () => {
  stopTimers();
  const host = await createHost();
  const { result, fields, lower } = await refreshInto(host, DIRECTORY, ["one", "main"]);
  expect(result.notSaved).toBeDefined();
  for (const next of await fromEverywhere(host, "one")) {
    expect(next.error).toMatchObject({ name: "OAuthRefreshLockError", code: "store_unreadable" });
  }
  expectOneCall(host, fields);
  lower();
  await goOn({ host, fields, label: "directory" }, EVERYONE, true);
});

describe.each(REFUSED)("before the provider is asked, $name", (obstacle) => {
  test.each([
    { whose: "the agent's own store", blocked: "one", caller: "one" },
    { whose: "main's store", blocked: "main", caller: "one" },
    { whose: "main's store, whose profile the agent inherits", blocked: "main", caller: "one", without: ["one"] },
    { whose: "main's own store", blocked: "main", caller: "main" },
  ])("$whose: it is not", async ({ blocked, caller, without }) => {
    stopTimers();
    const host = await createHost({ without });
    const bytes = host.bytes();
    const lower = obstacle.raise(host.storePath(blocked));
    for (const { error } of await fromEverywhere(host, caller)) {
      expect(error).toMatchObject({ name: "OAuthRefreshLockError", code: "store_unwritable" });
      expect(error.message).toContain(host.storePath(blocked));
    }
    expect(world.answersTo(host.old.refresh)).toEqual([]);
    expect(host.bytes()).toEqual(bytes);
    lower();
    await goOn({ host, label: obstacle.name }, EVERYONE, true);
  });
});

describe("a journal that can't be used: the provider is not asked", () => {
  const asDirectory = {
    raise(path) {
      rmSync(path, { force: true });
      mkdirSync(path);
      return () => rmSync(path, { recursive: true });
    },
  };
  const immutable = READ_ONLY_FILES.find(({ name }) => name.includes("immutable"));
  const unwritable = OBSTACLES.find(({ name }) => name.includes("directory"));

  test.each([
    { what: "a directory is in its place", obstacle: asDirectory, code: "journal_unusable" },
    { what: "it is immutable", obstacle: immutable, code: "journal_unusable", used: true },
    {
      what: "the directory of locks may not be written",
      obstacle: unwritable,
      code: /^(journal_unusable|lock_unavailable)$/,
    },
  ])("$what", async ({ obstacle, code, used }) => {
    if (!obstacle) return;
    stopTimers();
    const host = await createHost();
    const journal = `${world.lockPath(host)}.journal`;
    mkdirSync(dirname(journal), { recursive: true, mode: 0o700 });
    if (used) {
      expect(outcome(await world.call(host, "one"))).toBe("refreshed");
      host.put(host.tokens("one"));
    }
    const bytes = host.bytes();
    const lower = obstacle.raise(journal);
    for (const { error } of await fromEverywhere(host, "one")) {
      expect(error).toMatchObject({ name: "OAuthRefreshLockError" });
      expect(error.code).toMatch(code);
    }
    expect(world.answersTo(host.old.refresh)).toEqual([]);
    expect(host.bytes()).toEqual(bytes);
    lower();
    await goOn({ host, label: "journal" }, EVERYONE, true);
  });
});

describe("a full disk", () => {
  async function createSmallHost() {
    const disk = smallDisk();
    return { disk, host: disk && (await createHost({ stateDir: join(disk.dir, "state") })) };
  }

  test("before the provider is asked: it is not", async (context) => {
    const { disk, host } = await createSmallHost();
    context.skip(!disk);
    stopTimers();
    disk.fill();
    for (const { error } of await fromEverywhere(host, "one")) {
      expect(error).toMatchObject({ name: "OAuthRefreshLockError" });
      expect(error.code).toMatch(/^(journal_unusable|lock_unavailable|store_unwritable)$/);
    }
    expect(world.answersTo(host.old.refresh)).toEqual([]);
    disk.free();
    await goOn({ host, label: "full disk" }, EVERYONE, true);
  });

  test("after it has answered: the journal has its space already", async (context) => {
    const { disk, host } = await createSmallHost();
    context.skip(!disk);
    stopTimers();
    let fields;
    const { result } = await world.call(host, "one", {}, (answer) => {
      fields = answer;
      disk.fill();
    });
    expect(result).toMatchObject({ outcome: "refreshed", notSaved: { code: "store_unwritable" } });
    for (const next of await fromEverywhere(host, "one")) {
      expect(outcome(next), next.error?.shown).toBe("recovered");
      expect(next.result.credential).toMatchObject(fields);
    }
    expect(host.faults([host.old])).toEqual([]);
    disk.free();
    await goOn({ host, fields, label: "full disk" }, EVERYONE, true);
  });

  test("on which not even the journal is left: the caller is told, and it is saved when there is space", async (context) => {
    const { disk, host } = await createSmallHost();
    context.skip(!disk);
    const journal = `${world.lockPath(host)}.journal`;
    let fields;
    const { error } = await world.call(host, "one", {}, (answer) => {
      fields = answer;
      expect(disk.punch(journal, statSync(journal).size)).toBe(true);
      disk.fill();
    });
    expect(error).toMatchObject({ name: "OAuthRefreshLockError", code: "receipt_unsaved" });
    // The owner keeps the lock, so nobody else sends the spent token.
    const waiting = await restarted(host, "two", { timeoutMs: 200 });
    expect(waiting.error).toMatchObject({ code: "file_lock_timeout" });
    expectOneCall(host, fields);
    disk.free();
    const next = await world.call(host, "two");
    expect(["recovered", "adopted"], next.error?.shown).toContain(outcome(next));
    await goOn({ host, fields, label: "full disk" }, EVERYONE, true);
  });

  test("for long: who keeps trying to save an answer is not taken for stuck", async (context) => {
    const { disk, host } = await createSmallHost();
    context.skip(!disk);
    const lane = await createStuckLane();
    onTestFinished(() => lane.close());
    const lockPath = world.lockPath(host);
    const journal = `${lockPath}.journal`;
    const held = world.holdAnswer(host.old.refresh);
    const owner = lane.startOwner();
    const id = owner.ask(world.ask(host, "one"));
    void owner.finish();
    await held.rotated;
    expect(disk.punch(journal, statSync(journal).size)).toBe(true);
    disk.fill();
    held.release();
    expect(outcome(await owner.heard("settled", id))).toBe("receipt_unsaved");

    const asked = lane.ask(host);
    expect(await asked.settledOrWaiting()).toBe(0);
    const isTakenOver = () => existsSync(`${lockPath}.t1.journal`);
    for (let rounds = 0; rounds < 3; rounds++) {
      const signed = holderOf(lockPath);
      lane.clock.advance(0.6 * STUCK_MS);
      while (isDeepStrictEqual(holderOf(lockPath), signed) && !isTakenOver()) await delay(1);
    }
    expect(isTakenOver()).toBe(false);
    disk.free();
    for (const answer of await asked.answers()) {
      expect(["recovered", "adopted", "fresh"], answer.error?.shown).toContain(outcome(answer));
    }
    expect(world.answersTo(host.old.refresh)).toEqual(["refreshed"]);
  });
});
