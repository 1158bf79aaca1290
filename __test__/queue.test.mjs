import { AsyncLocalStorage } from "node:async_hooks";
import { mkdirSync, rmdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { withOAuthProfileLock, withOAuthRefreshLock } from "../index.mjs";
import { heldElsewhere } from "./support/agents.mjs";
import { answering, held, listen, lockOn, refreshAs, rejection, typedRejection, unwanted } from "./support/calls.mjs";
import { deferred } from "./support/events.mjs";
import { answer, createHost, expired, HOUR, PROFILE, PROVIDER, storeText } from "./support/host.mjs";

const CALLERS = 10;

describe("in one process", () => {
  test("callers get their turns in the order in which they came", async () => {
    const host = createHost();
    const order = [];
    const calls = Array.from({ length: CALLERS }, (_, number) => lockOn(host, async () => order.push(number)));
    await Promise.all(calls);
    expect(order).toEqual([...Array(CALLERS).keys()]);
  });

  test("refreshes and locks stand in one line", async () => {
    const host = createHost({ main: expired() });
    const order = [];
    const record = (what) => async () => void order.push(what);
    await Promise.all([
      lockOn(host, record("lock 1")),
      refreshAs(host, "main", record("refresh 1")),
      lockOn(host, record("lock 2")),
      refreshAs(host, "main", record("refresh 2")),
    ]);
    expect(order).toEqual(["lock 1", "refresh 1", "lock 2", "refresh 2"]);
  });

  test.each([
    [
      "throws",
      () => {
        throw new Error("thrown");
      },
      "thrown",
    ],
    [
      "rejects",
      async () => {
        throw new Error("rejected");
      },
      "rejected",
    ],
  ])("the lock is released after a function that %s", async (_, fn, message) => {
    const host = createHost({ main: expired() });
    const [one, two, three, four] = [
      lockOn(host, fn),
      lockOn(host, () => 2),
      refreshAs(host, "main", fn),
      lockOn(host, () => 4),
    ];
    expect((await rejection(one)).message).toBe(message);
    expect(await two).toBe(2);
    expect((await rejection(three)).message).toBe(message);
    expect(await four).toBe(4);
    const { agent, release } = await heldElsewhere(host);
    expect(await release()).toEqual([{ result: undefined }]);
    expect(agent.log.types()).toEqual(["acquired"]);
  });

  test(`of a burst of ${CALLERS} callers one at most is inside`, async () => {
    const host = createHost();
    const inside = join(host.root, "inside");
    let entered = 0;
    const work = async () => {
      // Fails if somebody else is inside; the turns of the loop and of the disk in between let them try.
      mkdirSync(inside);
      entered += 1;
      await readFile(import.meta.filename);
      await new Promise(setImmediate);
      rmdirSync(inside);
    };
    await Promise.all(Array.from({ length: CALLERS }, () => lockOn(host, work)));
    expect(entered).toBe(CALLERS);
  });

  test("callers that stand in line behind a peer say so", async () => {
    const host = createHost({ main: expired() });
    const log = listen();
    const call = held();
    const calls = [refreshAs(host, "main", call.refresh), refreshAs(host, "main", unwanted()), lockOn(host, () => {})];
    await call.called;
    expect(log.types({ type: "waiting" })).toHaveLength(2);
    call.answer(answer());
    await Promise.all(calls);
  });

  test("callers of other keys wait for nobody", async () => {
    const host = createHost();
    const release = deferred();
    const log = listen();
    const stuck = lockOn(host, () => release.promise);
    await log.seen({ type: "acquired" });
    const others = [
      withOAuthProfileLock(PROVIDER, `${PROFILE}2`, () => "profile", { stateDir: host.stateDir }),
      withOAuthProfileLock(`${PROVIDER}2`, PROFILE, () => "provider", { stateDir: host.stateDir }),
      lockOn(host, () => "state", { stateDir: join(host.root, "other state") }),
      lockOn(host, () => "path", { lockPath: join(host.root, "other lock") }),
    ];
    expect(await Promise.all(others)).toEqual(["profile", "provider", "state", "path"]);
    expect(log.types()).not.toContain("waiting");
    release.resolve();
    await stuck;
  });

  test("a follower takes its leader's result", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const log = listen();
    const call = held();
    const leading = refreshAs(host, "main", call.refresh);
    const followers = Array.from({ length: CALLERS }, unwanted);
    const following = followers.map((follower) => refreshAs(host, "main", follower));
    await call.called;
    const fields = answer();
    call.answer(fields);
    const credential = { ...old, ...fields };
    expect(await leading).toEqual({ outcome: "refreshed", credential });
    expect(await Promise.all(following)).toEqual(followers.map(() => ({ outcome: "fresh", credential })));
    for (const follower of followers) expect(follower).not.toHaveBeenCalled();
    expect(log.types({ type: "acquired" })).toHaveLength(1);
  });

  test("a change that a leader makes to its result does not reach its followers", async () => {
    const old = expired();
    const host = createHost({ leader: old, sub: old });
    host.seed("main", expired({ accountId: "somebody else", expires: Date.now() - HOUR }));
    const call = held();
    const leading = refreshAs(host, "leader", call.refresh).then(({ credential }) => {
      credential.refresh = "redacted";
      credential.access = "redacted";
    });
    const following = refreshAs(host, "sub", unwanted());
    await call.called;
    const fields = answer();
    call.answer(fields);
    await leading;
    expect(await following).toEqual({ outcome: "adopted", credential: { ...old, ...fields } });
    expect(host.store("sub")).toBe(storeText({ ...old, ...fields }));
  });

  test("a follower's store gets its leader's numbers as they are spelled", async () => {
    const old = expired();
    const text = JSON.stringify({ ...old, quota: 0 }).replace(`"quota":0`, `"quota":9007199254740993`);
    const host = createHost({ leader: storeText(text), sub: storeText(text) });
    host.seed("main", expired({ accountId: "somebody else", expires: Date.now() - HOUR }));
    const call = held();
    const calls = [refreshAs(host, "leader", call.refresh), refreshAs(host, "sub", unwanted())];
    await call.called;
    call.answer(answer());
    await Promise.all(calls);
    for (const agent of ["leader", "sub"]) expect(host.store(agent)).toMatch(/"quota": ?9007199254740993\b/);
  });

  test("callers for other profiles that share a lock path do not take the leader's result", async () => {
    const host = createHost({ main: expired() });
    const other = expired();
    host.seed("other", storeText(other, "acme:other"));
    const shared = { lockPath: join(host.root, "shared lock") };
    const call = held();
    const second = answering();
    const calls = [
      refreshAs(host, "main", call.refresh, shared),
      withOAuthRefreshLock(PROVIDER, "acme:other", second, host.as("other", shared)),
    ];
    await call.called;
    call.answer(answer());
    const refused = typedRejection(calls[1], "journal_unusable");
    expect((await calls[0]).outcome).toBe("refreshed");
    expect((await refused).message).toContain("another provider or profile");
    expect(second).not.toHaveBeenCalled();
    expect(host.store("other")).toBe(storeText(other, "acme:other"));
  });

  test("a follower takes no result from a leader that had none", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const fields = answer();
    const second = answering(fields);
    const calls = [refreshAs(host, "main", async () => null), refreshAs(host, "main", second)];
    expect(await Promise.all(calls)).toEqual([null, { outcome: "refreshed", credential: { ...old, ...fields } }]);
    expect(second).toHaveBeenCalledTimes(1);
  });
});

describe("the caller's async context", () => {
  const context = new AsyncLocalStorage();

  test("is that of its function, however long it queued", async () => {
    const host = createHost();
    const calls = Array.from({ length: CALLERS }, (_, number) =>
      context.run(number, () =>
        lockOn(host, async () => {
          const before = context.getStore();
          await readFile(import.meta.filename);
          return [before, context.getStore()];
        }),
      ),
    );
    expect(await Promise.all(calls)).toEqual(Array.from({ length: CALLERS }, (_, number) => [number, number]));
  });

  test("is that of its refresh function, behind another process and behind each other", async () => {
    const host = createHost({ main: expired() });
    const { release } = await heldElsewhere(host);
    const log = listen();
    const seen = [];
    const calls = [1, 2, 3].map((number) =>
      context.run(number, () =>
        refreshAs(host, "main", async () => {
          seen.push(context.getStore());
          return null;
        }),
      ),
    );
    await log.seen({ type: "waiting" });
    await release();
    expect(await Promise.all(calls)).toEqual([null, null, null]);
    expect(seen).toEqual([1, 2, 3]);
  });

  test("goes on after the call", async () => {
    const host = createHost();
    await context.run("mine", async () => {
      await Promise.all([lockOn(host, () => {}), lockOn(host, () => {})]);
      expect(context.getStore()).toBe("mine");
    });
  });
});
