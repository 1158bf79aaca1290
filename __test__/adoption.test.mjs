import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { askingElsewhere, holdLock, startAgent } from "./support/agents.mjs";
import { answering, held, listen, refreshAs, rejection, unwanted } from "./support/calls.mjs";
import { answer, createHost, expired, HOUR, IMPATIENT, storeText, usable } from "./support/host.mjs";

/** What the agent's own login and its peer's say of who they are, and whether the peer's may be taken over. */
const IDENTITIES = [
  { name: "match", own: { accountId: "acct-1" }, peers: { accountId: "acct-1" }, adopted: true },
  { name: "match by e-mail", own: { email: "O@X.test" }, peers: { email: " o@x.test" }, adopted: true },
  { name: "no evidence at all", own: {}, peers: {}, adopted: true },
  { name: "upgrade", own: {}, peers: { accountId: "acct-1", email: "o@x.test" }, adopted: true },
  {
    name: "upgrade by e-mail",
    own: { accountId: "acct-1" },
    peers: { accountId: "acct-1", email: "o@x" },
    adopted: true,
  },
  { name: "mismatch", own: { accountId: "acct-1" }, peers: { accountId: "acct-2" }, adopted: false },
  {
    name: "mismatch of members",
    own: { accountId: "a", email: "o@x" },
    peers: { accountId: "a", email: "m@x" },
    adopted: false,
  },
  { name: "non-overlap", own: { accountId: "acct-1" }, peers: { email: "o@x.test" }, adopted: false },
  { name: "regression", own: { accountId: "acct-1", email: "o@x" }, peers: { accountId: "acct-1" }, adopted: false },
  { name: "other tenant", own: {}, peers: { enterpriseUrl: "ghe.example.test" }, adopted: false },
  { name: "other project", own: { projectId: "p" }, peers: { projectId: "q" }, adopted: false },
];

/** A refusal costs a refresh of one's own, and leaves both stores to their owners. */
async function expectOwnRefresh(host, result, { old, fields, main, refresh }) {
  expect(await result).toMatchObject({
    outcome: "refreshed",
    credential: { ...old, ...fields },
    mirror: { written: false },
  });
  expect(refresh.mock.calls.map(([credential]) => credential)).toEqual([old]);
  expect(host.store("sub")).toBe(storeText({ ...old, ...fields }));
  expect(host.store("main")).toBe(main);
}

describe("before the lock, main's usable login is", () => {
  test.each(IDENTITIES.filter(({ adopted }) => adopted))("adopted: $name", async ({ own, peers }) => {
    const [old, mains] = [expired({ ...own, displayName: "Sub's" }), usable(peers)];
    const host = createHost({ main: mains, sub: old });
    const log = listen();
    const refresh = unwanted();
    expect(await refreshAs(host, "sub", refresh)).toEqual({ outcome: "adopted", credential: mains });
    expect(refresh).not.toHaveBeenCalled();
    // No lock taken: none needed.
    expect(log.types()).toEqual(["adopted"]);
    expect(host.store("sub")).toBe(storeText({ ...old, ...mains }));
    expect(host.store("main")).toBe(storeText(mains));
  });

  test.each(IDENTITIES.filter(({ adopted }) => !adopted))("not adopted: $name", async ({ own, peers }) => {
    const old = expired(own);
    // Lives longer than what we get, so that main keeps it whatever the gate says of that direction.
    const host = createHost({ main: usable({ ...peers, expires: Date.now() + 2 * HOUR }), sub: old });
    const main = host.store("main");
    const fields = answer();
    const refresh = answering(fields);
    await expectOwnRefresh(host, refreshAs(host, "sub", refresh), { old, fields, main, refresh });
  });

  test("not adopted when it is another provider's", async () => {
    const old = expired();
    const host = createHost({ main: usable({ provider: "other" }), sub: old });
    const main = host.store("main");
    const fields = answer();
    const refresh = answering(fields);
    await expectOwnRefresh(host, refreshAs(host, "sub", refresh), { old, fields, main, refresh });
  });

  test("refreshed for everyone when it is about to expire itself", async () => {
    const [old, mains] = [expired(), usable({ expires: Date.now() + HOUR })];
    const host = createHost({ main: mains, sub: old });
    const fields = answer({ expires: Date.now() + 3 * HOUR });
    const refresh = answering(fields);
    const result = await refreshAs(host, "sub", refresh, { refreshMarginMs: 2 * HOUR });
    expect(result).toEqual({ outcome: "refreshed", credential: { ...mains, ...fields } });
    expect(refresh.mock.calls.map(([credential]) => credential)).toEqual([mains]);
    for (const agent of ["main", "sub"]) expect(host.store(agent)).toBe(storeText({ ...mains, ...fields }));
  });

  test("adopted, but not saved where the own store cannot be written, and that is told", async () => {
    const mains = usable();
    const host = createHost({ main: mains, sub: expired() });
    // Nobody, root included, can create the temporary file: its name is taken by a directory that is not empty.
    host.seed("sub", expired());
    host.block("sub");
    const before = host.store("sub");
    const result = await refreshAs(host, "sub", unwanted());
    expect(result).toEqual({
      outcome: "adopted",
      credential: mains,
      notSaved: { code: "store_unwritable", message: expect.stringContaining(host.storePath("sub")) },
    });
    expect(host.store("sub")).toBe(before);
  });
});

describe("what a peer got while we waited for its lock is", () => {
  /** The main agent refreshes in a process of its own, and we stand in line behind it. */
  async function behindMain({ own, peers }, refresh) {
    const [old, mains] = [expired(own), expired(peers)];
    const host = createHost({ main: mains, sub: old });
    const log = listen();
    const [, peersCall] = await askingElsewhere({ options: host.as("main") });
    const result = refreshAs(host, "sub", refresh);
    await log.seen({ type: "waiting", agentDir: host.agentDir("sub") });
    expect(refresh).not.toHaveBeenCalled();
    const peersFields = answer({ expires: Date.now() + 2 * HOUR });
    peersCall.answer(peersFields);
    const refreshed = { ...mains, ...peersFields };
    expect(await peersCall.settled).toEqual([{ result: { outcome: "refreshed", credential: refreshed } }]);
    return { host, log, old, refreshed, result };
  }

  test.each(IDENTITIES.filter(({ adopted }) => adopted))("adopted: $name", async (row) => {
    const refresh = unwanted();
    const { host, log, old, refreshed, result } = await behindMain(row, refresh);
    expect(await result).toEqual({ outcome: "adopted", credential: refreshed });
    expect(refresh).not.toHaveBeenCalled();
    expect(log.types()).toEqual(["waiting", "adopted"]);
    expect(host.store("sub")).toBe(storeText({ ...old, ...refreshed }));
    expect(host.store("main")).toBe(storeText(refreshed));
  });

  test.each(IDENTITIES.filter(({ adopted }) => !adopted))("not adopted: $name", async (row) => {
    const fields = answer();
    const refresh = answering(fields);
    const { host, log, old, refreshed, result } = await behindMain(row, refresh);
    await expectOwnRefresh(host, result, { old, fields, main: storeText(refreshed), refresh });
    expect(log.types()).toEqual(["waiting", "acquired", "dispatched", "refreshed", "refused"]);
  });

  test("saved in the own store without the lock", async () => {
    const [old, mains] = [expired(), expired()];
    const host = createHost({ main: usable(), sub: old });
    const [peer, outsider] = await Promise.all([startAgent(), startAgent()]);
    // The one file there is the lock that guards the sub-agent's store.
    await refreshAs(host, "sub", unwanted());
    const storeLocks = join(host.stateDir, "locks", "auth-store");
    const [name, ...others] = readdirSync(storeLocks).filter((name) => name !== "probe" && !name.endsWith(".sidecar"));
    expect(others).toEqual([]);
    host.seed("sub", old);
    host.seed("main", mains);

    const log = listen();
    const theirs = peer.refresh({ options: host.as("main") });
    await theirs.called;
    const result = refreshAs(host, "sub", unwanted());
    await log.seen({ type: "waiting" });
    const writing = await holdLock(outsider, { options: { lockPath: join(storeLocks, name) } });
    const fields = answer();
    theirs.answer(fields);
    await theirs.settled;
    // The store is not to be written yet, and the lock is free for others all the same.
    const next = await holdLock(peer, { options: { stateDir: host.stateDir } });
    expect(host.store("sub")).toBe(storeText(old));
    await next.release();
    await writing.release();
    expect(await result).toEqual({ outcome: "adopted", credential: { ...mains, ...fields } });
    expect(host.store("sub")).toBe(storeText({ ...old, ...mains, ...fields }));
  });

  test("found in the own store when the peer was the same agent", async () => {
    const old = expired();
    const host = createHost({ main: expired(), sub: old });
    const log = listen();
    const [, peersCall] = await askingElsewhere({ options: host.as("sub") });
    const refresh = unwanted();
    const result = refreshAs(host, "sub", refresh);
    await log.seen({ type: "waiting" });
    const fields = answer();
    peersCall.answer(fields);
    expect(await result).toEqual({ outcome: "fresh", credential: { ...old, ...fields } });
    expect(refresh).not.toHaveBeenCalled();
    expect(host.store("sub")).toBe(storeText({ ...old, ...fields }));
  });
});

describe("after a refresh that failed, what a peer got meanwhile is", () => {
  /** Somebody who knows nothing of the lock logs in as main while our provider call fails. */
  async function failWhileMainLogsIn({ own, peers }) {
    const [old, mains] = [expired(own), usable(peers)];
    const host = createHost({ main: expired(peers), sub: old });
    const { refresh, called, fail } = held();
    const result = refreshAs(host, "sub", refresh, IMPATIENT);
    await called;
    host.seed("main", mains);
    const failure = Object.assign(new Error("the provider is out to lunch"), { status: 503 });
    fail(failure);
    return { host, old, mains, refresh, failure, result };
  }

  test.each(IDENTITIES.filter(({ adopted }) => adopted))("adopted: $name", async (row) => {
    const { host, old, mains, refresh, result } = await failWhileMainLogsIn(row);
    expect(await result).toEqual({ outcome: "adopted", credential: mains });
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(host.store("sub")).toBe(storeText({ ...old, ...mains }));
    expect(host.store("main")).toBe(storeText(mains));
  });

  test.each(IDENTITIES.filter(({ adopted }) => !adopted))("not adopted: $name", async (row) => {
    const { host, old, mains, refresh, failure, result } = await failWhileMainLogsIn(row);
    expect(await rejection(result)).toBe(failure);
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(host.store("sub")).toBe(storeText(old));
    expect(host.store("main")).toBe(storeText(mains));
  });

  test("found in the own store", async () => {
    const [old, login] = [expired(), usable()];
    const host = createHost({ sub: old });
    const { refresh, called, fail } = held();
    const result = refreshAs(host, "sub", refresh);
    await called;
    host.seed("sub", login);
    fail(new Error("invalid_grant"));
    expect(await result).toEqual({ outcome: "fresh", credential: login });
    expect(host.store("sub")).toBe(storeText(login));
  });
});

describe("in one process, a leader's result is", () => {
  /** Two agents ask at once; the second stands behind the first. */
  async function leadAndFollow({ own, peers }, refresh) {
    const [old, leaders] = [expired(own), expired(peers)];
    const host = createHost({ leader: leaders, sub: old });
    const log = listen();
    const leader = held();
    const leading = refreshAs(host, "leader", leader.refresh);
    const result = refreshAs(host, "sub", refresh);
    await leader.called;
    // Whoever mirrors to main must not decide what the follower sees: an older one of somebody else's.
    host.seed("main", expired({ accountId: "somebody else", expires: Date.now() - HOUR }));
    const fields = answer();
    leader.answer(fields);
    const refreshed = { ...leaders, ...fields };
    expect(await leading).toMatchObject({ outcome: "refreshed", credential: refreshed, mirror: { written: false } });
    return { host, log, old, refreshed, result };
  }

  test.each(IDENTITIES.filter(({ adopted }) => adopted))("taken by its follower: $name", async (row) => {
    const refresh = unwanted();
    const { host, log, old, refreshed, result } = await leadAndFollow(row, refresh);
    expect(await result).toEqual({ outcome: "adopted", credential: refreshed });
    expect(refresh).not.toHaveBeenCalled();
    // One trip through the lock for both.
    expect(log.matching({ type: "acquired" })).toHaveLength(1);
    expect(host.store("sub")).toBe(storeText({ ...old, ...refreshed }));
  });

  test.each(IDENTITIES.filter(({ adopted }) => !adopted))("not taken by its follower: $name", async (row) => {
    const fields = answer();
    const refresh = answering(fields);
    const { host, log, old, result } = await leadAndFollow(row, refresh);
    expect(await result).toMatchObject({ outcome: "refreshed", credential: { ...old, ...fields } });
    expect(refresh.mock.calls.map(([credential]) => credential)).toEqual([old]);
    expect(log.matching({ type: "acquired" })).toHaveLength(2);
    expect(host.store("sub")).toBe(storeText({ ...old, ...fields }));
  });
});
