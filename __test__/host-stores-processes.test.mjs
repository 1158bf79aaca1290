/** Credentials in a database that processes share, and the deaths of processes and threads in the middle of it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { canFetchNode } from "../scripts/fetch.mjs";
import { startAgent } from "./support/agents.mjs";
import { deferred } from "./support/events.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER, usable } from "./support/host.mjs";
import { startProgram } from "./support/programs.mjs";
import { nodeWithSqlite, seed, stored, swap } from "./support/sqlite.mjs";
import { at, json, startServer, tokens } from "./support/token-server.mjs";

const ROOT = join(import.meta.dirname, "..");

/** A database with these agents' credentials. */
function createDatabase(credentials) {
  const host = createHost();
  const path = join(host.root, "credentials.sqlite");
  for (const [agent, credential] of Object.entries(credentials)) seed(path, agent, credential);
  const as = (own, more) => ({ options: { stateDir: host.stateDir }, sqlite: { path, own, main: "main", ...more } });
  return { host, path, as };
}

const startSqliteAgent = () => startAgent({ node: nodeWithSqlite() });

test("the documentation shows the example that is tested here", () => {
  const text = readFileSync(join(ROOT, "docs/stores.md"), "utf8");
  expect(text).toContain(`\`\`\`js\n${readFileSync(join(ROOT, "examples/sqlite-store.mjs"), "utf8")}\`\`\``);
});

describe.runIf(canFetchNode)("in a database", () => {
  test("a swap compares", () => {
    const [old, login] = [expired(), usable()];
    const { path } = createDatabase({ agent: old });
    expect(swap(path, "agent", login, old)).toBe(false);
    expect(swap(path, "agent", null, login)).toBe(false);
    expect(swap(path, "other", old, login)).toBe(false);
    expect([stored(path, "agent"), stored(path, "other")]).toEqual([old, null]);
    expect(swap(path, "other", null, login)).toBe(true);
    expect(swap(path, "agent", { ...old }, login)).toBe(true);
    expect([stored(path, "agent"), stored(path, "other")]).toEqual([login, login]);
  });

  test("a credential that one process gets is mirrored to main, and the other adopts it", async () => {
    const old = expired({ accountId: "one", note: { kept: [1.5, null, "ü"] } });
    const { path, as } = createDatabase({ main: old, one: old, other: old });
    const [one, other] = await Promise.all([startSqliteAgent(), startSqliteAgent()]);
    const asking = one.refresh(as("one"));
    await asking.called;
    const peer = other.refresh(as("other"));
    await other.log.seen({ type: "waiting" });
    const fields = answer();
    asking.answer(fields);
    const credential = { ...old, ...fields };
    const mirror = { written: true, reason: "incoming-fresher" };
    expect(await asking.settled).toEqual([{ result: { outcome: "refreshed", credential, mirror } }]);
    expect(await peer.settled).toEqual([{ result: { outcome: "adopted", credential } }]);
    expect([asking.calls, peer.calls]).toEqual([[old], []]);
    for (const agent of ["main", "one", "other"]) expect(stored(path, agent), agent).toEqual(credential);
  });

  test("a login in another process while the provider is asked wins", async () => {
    const old = expired();
    const { path, as } = createDatabase({ main: old, one: old });
    const agent = await startSqliteAgent();
    const asking = agent.refresh(as("one"));
    await asking.called;
    const login = usable();
    seed(path, "one", login);
    asking.answer(answer());
    expect(await asking.settled).toEqual([{ result: { outcome: "fresh", credential: login } }]);
    expect(stored(path, "one")).toEqual(login);
  });

  test("an answer that an owner received before it was killed in its swap is brought in by the next process", async () => {
    const old = expired();
    const { path, as } = createDatabase({ main: old, one: old, other: old });
    const [owner, next] = await Promise.all([startSqliteAgent(), startSqliteAgent()]);
    const asking = owner.refresh(as("one", { isStuck: true }));
    await asking.called;
    const waiting = next.refresh(as("other"));
    await next.log.seen({ type: "waiting" });
    const fields = answer();
    asking.answer(fields);
    await asking.swapping;
    await owner.kill();
    const credential = { ...old, ...fields };
    const [{ result }] = await waiting.settled;
    expect(result).toEqual({ outcome: "adopted", credential });
    expect(waiting.calls).toEqual([]);
    expect([stored(path, "main"), stored(path, "other")]).toEqual([credential, credential]);
    // And so it is for the agent whose process died.
    const again = next.refresh(as("one"));
    expect((await again.settled)[0].result.credential).toEqual(credential);
    expect(again.calls).toEqual([]);
    expect(stored(path, "one")).toEqual(credential);
  });
});

describe("a worker thread that is ended", () => {
  /** Runs host-store-worker.mjs; resolves to what its main thread got once it has ended by itself. */
  function run(life) {
    const [old, fields, host] = [expired(), answer(), createHost()];
    const given = { key: [PROVIDER, PROFILE], stateDir: host.stateDir, old, fields, ...life };
    const program = startProgram("host-store-worker", given);
    const end = () => {
      program.say("end");
      return program.told({ type: "ended" });
    };
    const settle = async () => {
      await program.told({ type: "settled" });
      expect(await program.exited).toEqual({ code: 0, signal: null });
      return program.log.matching({ type: "settled" })[0];
    };
    return { old, fields, end, settled: settle() };
  }

  test.each([
    ["while the first load hangs", { load: 1 }, "refreshed"],
    ["while a load under the lock hangs", { load: 2 }, "refreshed"],
    // It had asked, and what it received is in the journal.
    ["while a swap hangs", { swap: 1 }, "recovered"],
    ["while what was swapped is read back", { load: 4 }, "recovered"],
  ])("%s leaves neither the lock nor a thread behind", async (_, hangs, outcome) => {
    const { old, fields, settled } = run({ hangs });
    const asked = outcome === "refreshed" ? 1 : 0;
    expect(await settled).toEqual({ type: "settled", asked, result: { outcome, credential: { ...old, ...fields } } });
  });

  test("while a token endpoint is asked costs nothing: the next call finds the answer", async () => {
    const given = tokens();
    const reply = deferred();
    const server = await startServer(async (_, socket) => {
      await reply.promise;
      socket.write(json(given));
    });
    const { end, settled } = run({ endpoint: at(server), hangs: {} });
    await server.log.seen({ type: "requested" });
    await end();
    reply.resolve();
    const { asked, result } = await settled;
    expect(result).toMatchObject({ outcome: "recovered", credential: { refresh: given.refresh_token } });
    expect([asked, server.requests.length]).toEqual([0, 1]);
  });
});
