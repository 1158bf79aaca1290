/** Processes that come to their end in the middle of a call. */

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, onTestFinished, test } from "vitest";
import { heldElsewhere, startAgent } from "./support/agents.mjs";
import { answering, expectFree, listen, lockOn, refreshAs } from "./support/calls.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER } from "./support/host.mjs";
import { startProgram } from "./support/programs.mjs";
import { COUNTED, NOT_COUNTED, openIn } from "./support/resources.mjs";

const ENDS = {
  SIGTERM: { code: null, signal: "SIGTERM" },
  "SIGTERM that it handles": { code: 3, signal: null },
  "process.exit": { code: 3, signal: null },
  "an uncaught exception": { code: 1, signal: null },
  "an unhandled rejection": { code: 1, signal: null },
};
/** So many turns of the event loop after its answer a process ends. By the last of them all is saved, mostly. */
const TURNS = [0, 10, 40];

/** A process that will end; see ends.mjs. */
function startEnding(host, how, work) {
  const call = { ask: "refresh", key: [PROVIDER, PROFILE], options: host.as("main") };
  return startProgram("ends", { how, ...call, ...work }, { stderr: "ignore" });
}

/** Has it end while a call of ours waits behind it. */
async function endBefore(host, how, work) {
  const ending = startEnding(host, how, work);
  await ending.told({ type: work.at });
  const log = listen();
  const refresh = answering();
  const next = work.ask === "lock" ? lockOn(host, () => "mine") : refreshAs(host, "main", refresh);
  await log.seen({ type: "waiting" });
  ending.say("now");
  expect(await ending.exited).toEqual(ENDS[how]);
  return { log, refresh, next };
}

describe.each(["its main thread", "a worker thread"])("a process that calls from %s and ends by", (from) => {
  const thread = from === "a worker thread";

  describe.each(Object.keys(ENDS))("%s", (how) => {
    test("while it waits leaves the others in line", async () => {
      const host = createHost({ main: expired() });
      const { release } = await heldElsewhere(host);
      const { log, refresh, next } = await endBefore(host, how, { at: "waiting", thread });
      expect(log.types()).toEqual(["waiting"]);
      await release();
      expect((await next).outcome).toBe("refreshed");
      expect(refresh).toHaveBeenCalledTimes(1);
    });

    test("while it asks lets the next ask once more, with the same token", async () => {
      const old = expired();
      const host = createHost({ main: old });
      const { refresh, next } = await endBefore(host, how, { at: "inside", thread });
      expect((await next).outcome).toBe("refreshed");
      expect(refresh.mock.calls.map(([{ refresh }]) => refresh)).toEqual([old.refresh]);
    });

    test("in withOAuthProfileLock frees the lock", async () => {
      const host = createHost();
      const { next } = await endBefore(host, how, { at: "inside", ask: "lock", thread });
      expect(await next).toBe("mine");
    });
  });

  test.each(Object.entries(ENDS))(
    "%s, at any moment after the answer, loses or keeps it as a whole",
    async (how, end) => {
      for (const turns of TURNS) {
        const fields = answer();
        const host = createHost({ main: expired() });
        const ending = startEnding(host, how, { at: "answered", turns, fields, thread });
        expect(await ending.exited).toEqual(end);
        const refresh = answering();
        const { credential } = await refreshAs(host, "main", refresh);
        const kept = credential.access === fields.access;
        expect(credential).toMatchObject(kept ? fields : await refresh.mock.results[0].value);
        expect(refresh).toHaveBeenCalledTimes(kept ? 0 : 1);
        await expectFree(host);
      }
    },
  );
});

describe("a process that has nothing else to do", () => {
  const NOTHING = "having nothing else to do";

  test.each(["refresh", "lock"])("stays while it waits for its turn: %s", async (ask) => {
    const host = createHost({ main: expired() });
    const { release } = await heldElsewhere(host);
    const ending = startEnding(host, NOTHING, { at: "waiting", ask, fields: answer() });
    await ending.told({ type: "waiting" });
    ending.say("now");
    await ending.disconnected;
    // It would have ended by the time that another one has started.
    await startAgent();
    await release();
    expect(await ending.exited).toEqual({ code: 0, signal: null });
  });

  test("stays while it asks, until the call is too old", async () => {
    const host = createHost({ main: expired() });
    const options = host.as("main", { callTimeoutMs: 1_000 });
    const ending = startEnding(host, NOTHING, { at: "inside", options });
    await ending.told({ type: "inside" });
    ending.say("now");
    // As its rejection has it.
    expect(await ending.exited).toEqual({ code: 1, signal: null });
    expect((await refreshAs(host, "main", answering())).outcome).toBe("refreshed");
  });

  test("does not stay for a function in withOAuthProfileLock", async () => {
    const host = createHost();
    const ending = startEnding(host, NOTHING, { at: "inside", ask: "lock" });
    await ending.told({ type: "inside" });
    ending.say("now");
    // Node's own word for an `await` that can never end.
    expect(await ending.exited).toEqual({ code: 13, signal: null });
    await expectFree(host);
  });
});

/** Children that are started in the middle of a call: they have nothing of ours. */

const CHILDREN = 100;

/** A process that starts a child in the middle of a call; see parent.mjs. */
async function startParent(host, work) {
  const parent = startProgram("parent", {
    ask: "refresh",
    key: [PROVIDER, PROFILE],
    options: host.as("main"),
    ...work,
  });
  await parent.told({ type: "started" });
  const [{ pid: child }] = parent.log.matching({ type: "started" });
  let alive = true;
  void parent.outputClosed.then(() => {
    alive = false;
  });
  onTestFinished(async () => {
    parent.kill("SIGKILL");
    if (alive) process.kill(child, "SIGKILL");
    await parent.outputClosed;
  });
  return { parent, child, isChildAlive: () => alive };
}

const expectNothingOpen = (host, pid) => COUNTED && expect(openIn(host.root, pid)).toEqual([]);

describe.for([
  ["spawn", "its main thread"],
  ["spawn", "a worker thread"],
  ["spawn, detached", "its main thread"],
  ["fork", "its main thread"],
  ["fork", "a worker thread"],
])("a child that outlives its parent, by %s from %s,", ([how, from]) => {
  const thread = from === "a worker thread";

  test.for(["refresh", "lock"])("does not keep the lock that its parent held: %s", async (ask, { skip }) => {
    const host = createHost({ main: expired() });
    const { parent, child, isChildAlive } = await startParent(host, { how, at: "inside", ask, thread });
    expectNothingOpen(host, child);
    const log = listen();
    const refresh = answering();
    const next = ask === "refresh" ? refreshAs(host, "main", refresh) : lockOn(host, refresh);
    await log.seen({ type: "waiting" });
    parent.kill("SIGKILL");
    await next;
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(isChildAlive()).toBe(true);
    skip(!COUNTED, NOT_COUNTED);
  });

  test("has no place in the line in which its parent waited", async ({ skip }) => {
    const host = createHost({ main: expired() });
    const { release } = await heldElsewhere(host);
    const { parent, child, isChildAlive } = await startParent(host, { how, at: "waiting", thread });
    expectNothingOpen(host, child);
    parent.kill("SIGKILL");
    await parent.exited;
    await release();
    expect(await lockOn(host, () => "mine")).toBe("mine");
    expect(isChildAlive()).toBe(true);
    skip(!COUNTED, NOT_COUNTED);
  });
});

test.runIf(COUNTED)(`of ${CHILDREN} children that are started while files are written none has one open`, async () => {
  const host = createHost({ main: expired(), sub: expired() });
  let going = true;
  let refreshed = 0;
  const refreshing = (async () => {
    while (going) {
      await refreshAs(host, "sub", async () => answer(), { forceRefresh: true });
      refreshed += 1;
    }
  })();
  for (let left = CHILDREN; left > 0; left -= 4) {
    const listings = Array.from({ length: 4 }, () => promisify(execFile)("ls", ["-l", "/proc/self/fd"]));
    for (const { stdout } of await Promise.all(listings)) {
      expect(stdout).toContain(" 1 -> ");
      expect(stdout).not.toContain(host.root);
    }
  }
  going = false;
  await refreshing;
  expect(refreshed).toBeGreaterThan(1);
});
