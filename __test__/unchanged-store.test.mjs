/**
 * A store that was read is not read again while its file is unchanged: nothing that happens to it may be missed by that.
 */
import { mkdirSync, renameSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { startAgent } from "./support/agents.mjs";
import { answering, held, refreshAs, typedRejection, unwanted } from "./support/calls.mjs";
import { answer, createHost, expired, HOUR, MINUTE, storeText, storeTextWithout, usable } from "./support/host.mjs";

/** Timestamps have steps; what is older than this is remembered. */
const STEP_MS = 100;
const WRITES = 300;

/** Resolves once an agent's store is old enough to be remembered. */
async function aged(host, agent) {
  while (Date.now() - statSync(host.storePath(agent)).ctimeMs <= STEP_MS) await turn();
}

/** A host whose one store has been served from, twice. */
async function served(fields) {
  const credential = usable(fields);
  const host = createHost({ main: credential });
  await aged(host, "main");
  const serve = () => refreshAs(host, "main", unwanted());
  for (const result of [await serve(), await serve()]) expect(result).toEqual({ outcome: "fresh", credential });
  return { host, credential, path: host.storePath("main"), serve };
}

/** Another credential, whose store is as long. */
const another = (credential) => ({
  ...credential,
  access: credential.access.replace(/.$/, (last) => (last === "0" ? "1" : "0")),
});

describe("a change shows:", () => {
  test.each([
    ["written in place", (path, text) => writeFileSync(path, text)],
    [
      "written in place, with the old times",
      (path, text) => {
        const { atime, mtime } = statSync(path);
        writeFileSync(path, text);
        utimesSync(path, atime, mtime);
      },
    ],
    [
      "replaced",
      (path, text) => {
        writeFileSync(`${path}.new`, text, { mode: 0o600 });
        renameSync(`${path}.new`, path);
      },
    ],
    [
      "replaced by a link to another",
      (path, text) => {
        writeFileSync(`${path}.other`, text, { mode: 0o600 });
        rmSync(path);
        symlinkSync(`${path}.other`, path);
      },
    ],
  ])("%s", async (_, change) => {
    const { host, credential: old, path, serve } = await served();
    const credential = another(old);
    const { size } = statSync(path);
    change(path, storeText(credential));
    expect(statSync(path).size).toBe(size);
    expect(await serve()).toEqual({ outcome: "fresh", credential });
    await aged(host, "main");
    expect(await serve()).toEqual({ outcome: "fresh", credential });
  });

  test(`${WRITES} times, each as soon as the one before was served`, async () => {
    const { credential: first, path, serve } = await served();
    let credential = first;
    for (let writes = 0; writes < WRITES; writes++) {
      credential = another(credential);
      writeFileSync(path, storeText(credential));
      expect((await serve()).credential).toEqual(credential);
      expect((await serve()).credential).toEqual(credential);
    }
  });

  test("a logout, a store that is gone, and one that is damaged", async () => {
    const { host, path, serve } = await served();
    host.seed("main", storeTextWithout());
    expect(await serve()).toBeNull();
    writeFileSync(path, "{");
    await typedRejection(serve(), "store_invalid");
    rmSync(path);
    expect(await serve()).toBeNull();
  });

  test("a store of its own, for an agent that inherits main's", async () => {
    const mains = usable();
    const own = usable();
    const host = createHost({ main: mains });
    await aged(host, "main");
    const serve = () => refreshAs(host, "sub", unwanted());
    for (const { credential } of [await serve(), await serve()]) expect(credential).toEqual(mains);
    host.seed("sub", own);
    expect((await serve()).credential).toEqual(own);
    await aged(host, "sub");
    expect((await serve()).credential).toEqual(own);
    rmSync(host.storePath("sub"));
    expect((await serve()).credential).toEqual(mains);
  });

  test("a database of OpenClaw's SQLite era", async () => {
    const { host, serve } = await served();
    const database = join(host.stateDir, "state", "openclaw.sqlite");
    mkdirSync(dirname(database));
    writeFileSync(database, "");
    await typedRejection(serve(), "sqlite_store");
  });
});

describe("a caller that wants another one gets it:", () => {
  test.each([
    ["forceRefresh", () => ({ forceRefresh: true })],
    ["rejectedAccess", ({ access }) => ({ rejectedAccess: access })],
    ["a margin beyond its expiry", () => ({ refreshMarginMs: 2 * HOUR })],
  ])("%s", async (_, options) => {
    const { host, credential } = await served();
    const refresh = answering();
    expect((await refreshAs(host, "main", refresh, options(credential))).outcome).toBe("refreshed");
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test("a caller that has given up already", async () => {
    const { host } = await served();
    await typedRejection(refreshAs(host, "main", unwanted(), { signal: AbortSignal.abort() }), "caller_aborted");
  });
});

test("a change that one caller makes to its credential does not reach another", async () => {
  const { credential, serve } = await served();
  const { credential: mine } = await serve();
  mine.access = "changed";
  expect((await serve()).credential).toEqual(credential);
});

const CALLERS = 100;

describe("forceRefresh", () => {
  test("replaces a token that has not expired", async () => {
    const old = usable();
    const host = createHost({ main: old });
    const fields = answer();
    const result = await refreshAs(host, "main", answering(fields), { forceRefresh: true });
    expect(result).toEqual({ outcome: "refreshed", credential: { ...old, ...fields } });
    expect(host.store("main")).toBe(storeText({ ...old, ...fields }));
  });

  test("false is as good as none", async () => {
    const old = usable();
    const host = createHost({ main: old });
    const result = await refreshAs(host, "main", unwanted(), { forceRefresh: false });
    expect(result).toEqual({ outcome: "fresh", credential: old });
  });

  test(`by ${CALLERS} callers at once is one refresh, and each gets the new token`, async () => {
    const old = usable();
    const host = createHost({ main: old });
    let current = old;
    for (let round = 0; round < 10; round++) {
      const fields = answer({ expires: current.expires + MINUTE });
      const refresh = answering(fields);
      const calls = Array.from({ length: CALLERS }, () => refreshAs(host, "main", refresh, { forceRefresh: true }));
      const results = await Promise.all(calls);
      expect(refresh).toHaveBeenCalledTimes(1);
      current = { ...current, ...fields };
      expect(results.map(({ credential }) => credential)).toEqual(Array(CALLERS).fill(current));
      const outcomes = results.map(({ outcome }) => outcome).sort();
      expect(outcomes).toEqual([...Array(CALLERS - 1).fill("fresh"), "refreshed"]);
      expect(host.store("main")).toBe(storeText(current));
    }
  });

  test.each([
    ["longer", 2 * HOUR],
    ["shorter", HOUR / 2],
  ])("by all agents at once is one refresh, also when the new token lives %s than the old", async (_, lifetime) => {
    const old = usable();
    const names = ["main", "one", "two", "three", "four"];
    const host = createHost(Object.fromEntries(names.map((name) => [name, old])));
    const fields = answer({ expires: Date.now() + lifetime });
    const refresh = answering(fields);
    const results = await Promise.all(
      ["one", "two", "main", "three", "four"].map((name) => refreshAs(host, name, refresh, { forceRefresh: true })),
    );
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(results.map(({ credential }) => credential)).toEqual(Array(5).fill({ ...old, ...fields }));
    expect(names.map((name) => host.store(name))).toEqual(Array(5).fill(storeText({ ...old, ...fields })));
  });

  test("by agents in several processes is one refresh", async () => {
    const old = usable();
    const host = createHost({ main: old, one: old, two: old, three: old });
    const agents = await Promise.all([1, 2, 3, 4].map(() => startAgent()));
    const names = ["one", "main", "two", "three"];
    const calls = agents.map((agent, at) => agent.refresh({ options: host.as(names[at], { forceRefresh: true }) }));
    // One is inside; the others stand before the lock, each with the old token in hand.
    await Promise.race(calls.map(({ called }) => called));
    const owner = calls.findIndex((one) => one.calls.length > 0);
    await Promise.all(agents.filter((_, at) => at !== owner).map(({ log }) => log.seen({ type: "waiting" })));
    const fields = answer({ expires: Date.now() + 2 * HOUR });
    for (const one of calls) one.answer(fields);
    const outcomes = await Promise.all(calls.map(({ settled }) => settled));
    expect(calls.flatMap((one) => one.calls)).toEqual([old]);
    const credentials = outcomes.flat().map(({ result }) => result?.credential);
    expect(credentials).toEqual(Array(4).fill({ ...old, ...fields }));
    expect(names.map((name) => host.store(name))).toEqual(Array(4).fill(storeText({ ...old, ...fields })));
  });

  test("takes no token over that is itself the rejected one", async () => {
    const old = usable();
    const host = createHost({ main: { ...old, expires: old.expires + HOUR }, sub: old });
    const refresh = answering(answer({ expires: old.expires + 2 * HOUR }));
    expect((await refreshAs(host, "sub", refresh, { forceRefresh: true })).outcome).toBe("refreshed");
    expect(refresh).toHaveBeenCalledTimes(1);
  });
});

describe("rejectedAccess", () => {
  test("refreshes if the stored token is still the one that was refused", async () => {
    const old = usable();
    const host = createHost({ main: old });
    const fields = answer();
    const result = await refreshAs(host, "main", answering(fields), { rejectedAccess: old.access });
    expect(result).toEqual({ outcome: "refreshed", credential: { ...old, ...fields } });
  });

  test("serves the stored token if it is another", async () => {
    const [before, stored] = [usable(), usable()];
    const host = createHost({ main: stored });
    const result = await refreshAs(host, "main", unwanted(), { rejectedAccess: before.access });
    expect(result).toEqual({ outcome: "fresh", credential: stored });
  });

  test("serves main's token if that is another", async () => {
    const [old, mains] = [usable(), usable({ expires: Date.now() + 2 * HOUR })];
    const host = createHost({ main: mains, sub: old });
    const result = await refreshAs(host, "sub", unwanted(), { rejectedAccess: old.access });
    expect(result).toEqual({ outcome: "adopted", credential: mains });
  });

  test("refreshes a token that expired, whichever was refused", async () => {
    const host = createHost({ main: expired() });
    const refresh = answering();
    await refreshAs(host, "main", refresh, { rejectedAccess: usable().access });
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test(`of ${CALLERS} callers with the same refused token makes one refresh`, async () => {
    const old = usable();
    const host = createHost({ main: old });
    const { refresh, called, answer: reply } = held();
    const options = { rejectedAccess: old.access };
    const results = Array.from({ length: CALLERS }, () => refreshAs(host, "main", refresh, options));
    await called;
    const fields = answer({ expires: Date.now() + 2 * HOUR });
    reply(fields);
    const credentials = (await Promise.all(results)).map(({ credential }) => credential);
    expect(credentials).toEqual(Array(CALLERS).fill({ ...old, ...fields }));
    expect(refresh).toHaveBeenCalledTimes(1);
    // Whoever is late with the same complaint is served.
    expect((await refreshAs(host, "main", refresh, options)).outcome).toBe("fresh");
  });
});
