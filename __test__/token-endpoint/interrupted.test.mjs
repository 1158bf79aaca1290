/** Whoever asked a token endpoint is interrupted in the middle of it: by itself, by another thread, or for good. */
import { describe, expect, test } from "vitest";
import { startAgent } from "../support/agents.mjs";
import { expectFree, refreshAs, typedRejection } from "../support/calls.mjs";
import { createHost, expired, PROFILE, PROVIDER, storeText } from "../support/host.mjs";
import { startProgram } from "../support/programs.mjs";
import { at, gives, holding, inTurn, startServer } from "../support/token-server.mjs";

const ROUNDS = 50;
/** For hangs: an answer that is not saved is told by that. */
const PATIENCE_MS = 30_000;

const life = (host, server, more) => ({
  key: [PROVIDER, PROFILE],
  endpoint: at(server),
  options: host.as("main"),
  ...more,
});

/** Expects that the one answer is durable and served to the next caller, who asks nobody. */
async function expectSaved(host, server, old) {
  const { outcome, credential } = await refreshAs(host, "main", at(server), { timeoutMs: PATIENCE_MS });
  expect(outcome).toBe("fresh");
  expect(credential.access).not.toBe(old.access);
  expect(server.presented).toEqual([old.refresh]);
  expect(host.store("main")).toBe(storeText(credential));
  return credential;
}

test("an event loop that stands still delays nobody else: the answer is saved and served meanwhile", async () => {
  const old = expired();
  const host = createHost({ main: old });
  const { script, open } = holding();
  const server = await startServer(script);
  const blocked = startProgram("endpoint-lives", {});
  blocked.say("block", life(host, server));
  await blocked.told({ type: "blocked" });
  await server.requested();
  open();

  const other = await startAgent();
  const call = other.refresh({ options: host.as("main", { timeoutMs: PATIENCE_MS }), endpoint: at(server) });
  const [{ result }] = await call.settled;
  const credential = await expectSaved(host, server, old);
  expect(result.credential).toEqual(credential);
  // All that while it stood still.
  expect(blocked.log.types()).toEqual(["blocked"]);
  blocked.unblock();
  await blocked.told({ type: "settled" });
  const [settled] = blocked.log.matching({ type: "settled" });
  expect(settled).toEqual({ type: "settled", outcome: "refreshed", credential });
  expect(server.requests).toHaveLength(1);
});

describe(`a worker thread that dies in the middle of it, ${ROUNDS} times,`, () => {
  test.each([
    ["before the answer comes", true],
    ["when the answer comes", false],
  ])("%s, takes nothing with it: the answer is saved", async (_, diesFirst) => {
    const host = createHost();
    // The main thread has no call and never loads the addon.
    const lives = startProgram("endpoint-lives", {});
    for (let id = 1; id <= ROUNDS; id++) {
      const old = expired();
      host.seed("main", old);
      const { script, open } = holding();
      const server = await startServer(script);
      lives.say("live", life(host, server, { id }));
      await Promise.race([server.requested(), lives.exited]);
      lives.say("die", { id });
      if (diesFirst) await lives.told({ type: "died", id });
      open();
      await lives.told({ type: "died", id });
      // The next caller waits for the lock, which the dead thread's call holds until it is done.
      await expectSaved(host, server, old);
    }
  });
});

describe("a process that is killed in the middle of it", () => {
  test("leaves the next caller to ask again at once, with the same token", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const server = await startServer(inTurn(() => {}, gives()));
    const agent = await startAgent();
    agent.refresh({ options: host.as("main"), endpoint: at(server) });
    await server.requested();
    await agent.kill();
    await typedRejection(refreshAs(host, "main", at(server), { uncertain: "fail" }), "refresh_uncertain");
    expect(server.requests).toHaveLength(1);
    expect(host.store("main")).toBe(storeText(old));

    const { outcome, credential } = await refreshAs(host, "main", at(server));
    expect(outcome).toBe("refreshed");
    expect(server.presented).toEqual([old.refresh, old.refresh]);
    expect(host.store("main")).toBe(storeText(credential));
  });

  test("leaves those after it to wait, if the next one is killed as well", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const server = await startServer(
      inTurn(
        () => {},
        () => {},
        gives(),
      ),
    );
    for (let killed = 1; killed <= 2; killed++) {
      const agent = await startAgent();
      agent.refresh({ options: host.as("main"), endpoint: at(server) });
      await server.requested(killed);
      await agent.kill();
    }
    await typedRejection(refreshAs(host, "main", at(server), { timeoutMs: 700 }), "refresh_uncertain");
    expect(server.presented).toEqual([old.refresh, old.refresh]);
    expect((await refreshAs(host, "main", at(server))).outcome).toBe("refreshed");
    expect(server.presented).toEqual([old.refresh, old.refresh, old.refresh]);
  });
});

describe("a caller that leaves ends its wait only, and the answer is saved:", () => {
  /** A call under way: the server has its request. */
  async function underWay(options) {
    const old = expired();
    const host = createHost({ main: old });
    const { script, open } = holding();
    const server = await startServer(script);
    const call = refreshAs(host, "main", at(server), options);
    call.catch(() => {});
    await server.requested();
    return { old, host, server, call, open };
  }

  test("by its signal", async () => {
    const controller = new AbortController();
    const { old, host, server, call, open } = await underWay({ signal: controller.signal });
    const reason = new Error("enough");
    controller.abort(reason);
    const error = await typedRejection(call, "caller_aborted");
    expect(error.cause).toBe(reason);
    expect(host.store("main")).toBe(storeText(old));
    open();
    await expectFree(host);
    await expectSaved(host, server, old);
  });

  test("by its timeout", async () => {
    const { old, host, server, call, open } = await underWay({ timeoutMs: 3_000 });
    await typedRejection(call, "caller_timeout");
    open();
    await expectFree(host);
    await expectSaved(host, server, old);
  });

  test("others go on waiting for it", async () => {
    const controller = new AbortController();
    const { old, host, server, call, open } = await underWay({ signal: controller.signal });
    const agent = await startAgent();
    const elsewhere = agent.refresh({ options: host.as("main"), endpoint: at(server) });
    const here = refreshAs(host, "main", at(server));
    await agent.log.seen({ type: "waiting" });
    controller.abort();
    await typedRejection(call, "caller_aborted");
    open();
    const [{ result }] = await elsewhere.settled;
    const credential = await expectSaved(host, server, old);
    expect([result.credential, (await here).credential]).toEqual([credential, credential]);
  });
});
