import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { heldElsewhere, startAgent } from "./support/agents.mjs";
import { lockOn, lockPathOn } from "./support/calls.mjs";
import { deferred } from "./support/events.mjs";
import { createHost, usable } from "./support/host.mjs";
import { listen } from "./support/listen.mjs";
import { rejection } from "./support/rejections.mjs";

describe("the function's result and errors pass through withOAuthProfileLock untouched", () => {
  const failures = [
    new TypeError("an error"),
    Object.freeze(new Error("a frozen error")),
    Object.assign(new Error("with a code"), { code: "file_lock_timeout" }),
    "text",
    "",
    0,
    null,
    undefined,
    false,
    Symbol("a symbol"),
    { code: "nested_call" },
    Object.create(null),
  ];

  test("every result", async () => {
    const host = createHost();
    const results = [undefined, null, 0, "", false, Symbol("s"), {}, [], () => {}, new Error("as a value"), 1n];
    for (const result of results) {
      expect(await lockOn(host, () => result)).toBe(result);
      expect(await lockOn(host, async () => result)).toBe(result);
    }
  });

  test("every error, and every other thing that is thrown", async () => {
    const host = createHost();
    for (const failure of failures) {
      const throwing = () => {
        throw failure;
      };
      expect(await rejection(lockOn(host, throwing))).toBe(failure);
      expect(await rejection(lockOn(host, () => Promise.reject(failure)))).toBe(failure);
    }
  });

  test("the function gets no arguments, and is called once", async () => {
    const host = createHost();
    const fn = vi.fn(() => "done");
    expect(await lockOn(host, fn)).toBe("done");
    expect(fn.mock.calls).toEqual([[]]);
  });

  test("it touches no store", async () => {
    const host = createHost({ main: usable() });
    const before = host.tree({ locks: false });
    await lockOn(host, () => {});
    expect(host.tree({ locks: false })).toEqual(before);
  });

  test("a given lock path is the one that is locked", async () => {
    const host = createHost();
    const given = join(host.root, "locks of the host", "refresh");
    const { release } = await heldElsewhere(host, { lockPath: given });
    const log = listen();
    const waiting = lockOn(host, () => "mine", { lockPath: given });
    await log.seen({ type: "waiting", lockPath: given });
    await release();
    expect(await waiting).toBe("mine");
    expect(existsSync(lockPathOn(host))).toBe(false);
  });
});

test("the lock is held as long as its function has not returned, also if nobody refers to its promise", async () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc");
  const host = createHost();
  const inside = new Promise((resolve) => {
    void lockOn(host, () => {
      resolve();
      return new Promise(() => {});
    });
  });
  await inside;
  for (let turns = 0; turns < 3; turns++) {
    await turn();
    collectGarbage();
  }
  const other = await startAgent();
  const { called } = other.lock({ options: { stateDir: host.stateDir } });
  await Promise.race([called, other.log.seen({ type: "waiting" })]);
  expect(other.log.types()).toEqual(["waiting"]);
});

test("a caller whose turn comes while it is found out whom it waited for is not told that its time is up", async () => {
  const { NativeLock } = createRequire(import.meta.url)("../lib/native.js").native();
  const host = createHost();
  const [first, second] = [deferred(), deferred()];
  vi.spyOn(NativeLock.prototype, "timedOut").mockImplementation(async () => {
    first.resolve();
    await second.promise;
    return { error: { code: "file_lock_timeout", message: "held" } };
  });
  onTestFinished(() => {
    vi.restoreAllMocks();
  });
  void lockOn(host, () => first.promise);
  const result = lockOn(
    host,
    () => {
      second.resolve();
      return "done";
    },
    { timeoutMs: 1 },
  );
  expect(await result).toBe("done");
});
