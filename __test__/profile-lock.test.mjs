import { execFile } from "node:child_process";
import { existsSync, symlinkSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { promisify } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { withOAuthProfileLock } from "../index.mjs";
import { heldElsewhere, startAgent } from "./support/agents.mjs";
import {
  BOTH_CALLS,
  expectFree,
  listen,
  lockOn,
  lockPathOn,
  rejection,
  typedRejection,
  unwanted,
} from "./support/calls.mjs";
import { deferred } from "./support/events.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER, usable } from "./support/host.mjs";

test("in OpenClaw's own form it is the same lock, in the state directory that its environment names", async () => {
  const host = createHost();
  const [held, released, order] = [deferred(), deferred(), []];
  const operation = async () => {
    order.push("theirs");
    held.resolve();
    await released.promise;
    return "done";
  };
  const key = { provider: PROVIDER, profileId: PROFILE };
  const theirs = withOAuthProfileLock(key, operation, { env: { OPENCLAW_STATE_DIR: host.stateDir } });
  await held.promise;
  const log = listen();
  const ours = lockOn(host, () => order.push("ours"));
  await log.seen({ type: "waiting" });
  released.resolve();
  expect(await theirs).toBe("done");
  await ours;
  expect(order).toEqual(["theirs", "ours"]);
});

test("a key, options or an environment that can't be is refused in that form too", async () => {
  const key = { provider: PROVIDER, profileId: PROFILE };
  for (const [given, what] of [
    [[{}, unwanted()], /^provider must be a string, not undefined$/],
    [[{ provider: PROVIDER }, unwanted()], /^profileId must be a string, not undefined$/],
    [[key], /^fn must be a function, not undefined$/],
    [[key, unwanted(), 5], /^options must be an object, not number$/],
    [[key, unwanted(), { env: "no" }], /^options.env must be an object, not string$/],
  ]) {
    const { message } = await typedRejection(withOAuthProfileLock(...given), "invalid_argument");
    expect(message).toMatch(what);
  }
});

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

test("the lock is held as long as its function has not returned, also if no code refers to its promise", async () => {
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

describe("a nested call for the same key", () => {
  const nestings = BOTH_CALLS.flatMap(([outerName, outside]) =>
    BOTH_CALLS.map(([innerName, inside]) => [innerName, outerName, inside, outside]),
  );

  test.each(nestings)("is refused: %s in %s", async (_, __, inside, outside) => {
    const host = createHost({ main: expired() });
    const fn = unwanted();
    const inner = deferred();
    const fields = answer();
    const result = outside(host, async () => {
      // From deep inside, too.
      await readFile(import.meta.filename);
      await new Promise((resolve) => setTimeout(resolve, 0));
      inner.resolve(await rejection(inside(host, fn)));
      return fields;
    });
    const error = await inner.promise;
    expect(await result).toBeTruthy();
    await typedRejection(Promise.reject(error), "nested_call");
    expect(error.path).toBe(lockPathOn(host));
    expect(fn).not.toHaveBeenCalled();
    await expectFree(host);
  });

  test.each([
    [
      "a path that is not normalised",
      ({ stateDir }) => ({ lockPath: join(stateDir, "x") }),
      ({ stateDir }) => ({ lockPath: `${stateDir}/./y/../x` }),
    ],
    [
      "a link to the state directory",
      () => ({}),
      (host) => {
        symlinkSync(host.stateDir, join(host.root, "link"));
        return { stateDir: join(host.root, "link") };
      },
    ],
  ])("is refused by whatever name: %s", async (_, outside, inside) => {
    const host = createHost();
    const fn = unwanted();
    const result = await lockOn(
      host,
      () => rejection(lockOn(host, fn, { ...inside(host), timeoutMs: 1_000 })),
      outside(host),
    );
    await typedRejection(Promise.reject(result), "nested_call");
    expect(fn).not.toHaveBeenCalled();
  });

  test("is refused through another key", async () => {
    const host = createHost();
    const other = (fn) => withOAuthProfileLock(PROVIDER, "acme:other", fn, { stateDir: host.stateDir });
    const error = await lockOn(host, () => other(() => rejection(lockOn(host, unwanted()))));
    await typedRejection(Promise.reject(error), "nested_call");
  });

  test("is refused to a caller that had to queue", async () => {
    const host = createHost();
    const release = deferred();
    const first = lockOn(host, () => release.promise);
    const queued = lockOn(host, () => rejection(lockOn(host, unwanted())));
    release.resolve();
    await first;
    await typedRejection(Promise.reject(await queued), "nested_call");
  });

  test("is allowed for another key", async () => {
    const host = createHost({ main: expired() });
    const other = () => withOAuthProfileLock(PROVIDER, "acme:other", () => "inner", { stateDir: host.stateDir });
    expect(await lockOn(host, other)).toBe("inner");
  });

  test("is allowed to what outlives the function", async () => {
    const host = createHost();
    const over = deferred();
    let later;
    await lockOn(host, () => {
      later = over.promise.then(() => lockOn(host, () => "later"));
    });
    over.resolve();
    expect(await later).toBe("later");
  });
});

describe("a call that is refused", () => {
  test("has no other refused that is looking for its state directory at the same time", async () => {
    const host = createHost();
    vi.stubEnv("OPENCLAW_STATE_DIR", undefined);
    vi.stubEnv("OPENCLAW_HOME", host.root);
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });
    const [key, other] = ["acme:one", "acme:other"].map((profileId) => [PROVIDER, profileId]);
    const results = await withOAuthProfileLock(...key, () =>
      Promise.allSettled([withOAuthProfileLock(...key, unwanted()), withOAuthProfileLock(...other, () => "done")]),
    );
    expect(results).toMatchObject([{ reason: { code: "nested_call" } }, { value: "done" }]);
  });
});

test("what finds nested calls is off while nobody holds a lock: on older Nodes it slows down every promise of the process", async () => {
  const host = createHost({ main: expired() });
  const script = `
    import { executionAsyncId } from "node:async_hooks";
    import { withOAuthRefreshLock } from ${JSON.stringify(new URL("../index.mjs", import.meta.url).href)};
    const [key, options, fields] = ${JSON.stringify([[PROVIDER, PROFILE], host.as("main"), answer()])};
    // A promise has an id of its own only while its life is watched.
    const idOfPromise = async () => (await null, executionAsyncId());
    const before = await idOfPromise();
    await withOAuthRefreshLock(...key, async () => fields, options);
    console.log(before === await idOfPromise());
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", script]);
  expect(stdout).toBe("true\n");
});
