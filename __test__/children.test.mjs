/**
 * Children that are started in the middle of a call: they have nothing of ours.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, onTestFinished, test } from "vitest";
import { heldElsewhere } from "./support/agents.mjs";
import { lockOn, refreshAs } from "./support/calls.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER } from "./support/host.mjs";
import { listen } from "./support/listen.mjs";
import { startProgram } from "./support/programs.mjs";
import { answering } from "./support/refresh-functions.mjs";
import { COUNTED, NOT_COUNTED, openIn } from "./support/resources.mjs";

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
