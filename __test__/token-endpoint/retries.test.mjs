/** Which failures of a token endpoint are tried again within the caller's patience, and which never are. */
import { describe, expect, test } from "vitest";
import { heldElsewhere, startAgent } from "../support/agents.mjs";
import { expectFree, listen, refreshAs, typedRejection } from "../support/calls.mjs";
import { createHost, expired, storeText } from "../support/host.mjs";
import { at, freePort, gives, http, inTurn, json, jwt, says, startServer, tokens } from "../support/token-server.mjs";

const pause = (status, seconds) => says(http(status, "", { "retry-after": String(seconds) }));

describe("is tried again within the caller's patience:", () => {
  test("a server that does not listen yet", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const port = await freePort();
    const log = listen();
    const call = refreshAs(host, "main", at({ url: `http://127.0.0.1:${port}/token` }));
    // The second attempt is made because the first has found nobody.
    await log.seen({ type: "dispatched" }, 2);
    expect(host.store("main")).toBe(storeText(old));
    const server = await startServer(gives(), { listen: { port } });
    const { outcome, credential } = await call;
    expect(outcome).toBe("refreshed");
    expect(server.presented).toEqual([old.refresh]);
    expect(host.store("main")).toBe(storeText(credential));
  });

  test.each([
    ["429 with Retry-After", pause(429, 1)],
    ["503 with Retry-After", pause(503, 1)],
    ["429 without", says(http(429))],
    ["503 without", says(http(503))],
    ["temporarily_unavailable", says(json({ error: "temporarily_unavailable" }, 400))],
    ["slow_down", says(json({ error: "slow_down" }))],
    ["500", says(http(500))],
    ["502", says(http(502))],
    ["521", says(http(521))],
    ["a request that was cut off", (_, socket) => socket.resetAndDestroy()],
    ["a connection that was closed", (_, socket) => socket.end()],
    ["an answer of no use", says(http(200, "?"))],
  ])("%s", async (_, script) => {
    const old = expired();
    const host = createHost({ main: old });
    const server = await startServer(inTurn(script, gives()));
    const log = listen();
    const { outcome, credential } = await refreshAs(host, "main", at(server));
    expect(outcome).toBe("refreshed");
    expect(server.presented).toEqual([old.refresh, old.refresh]);
    expect(log.types()).toEqual(["acquired", "dispatched", "acquired", "acquired", "dispatched", "refreshed"]);
    expect(host.store("main")).toBe(storeText(credential));
  });

  test("by all who wait, in this process and others, with one request", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const server = await startServer(inTurn(pause(429, 1), gives()));
    const agents = await Promise.all([startAgent(), startAgent()]);
    const calls = agents.map((agent) => agent.refresh({ options: host.as("main"), endpoint: at(server), callers: 3 }));
    const results = [
      ...(await Promise.all([1, 2, 3].map(() => refreshAs(host, "main", at(server))))),
      ...(await Promise.all(calls.map(({ settled }) => settled))).flat().map(({ result }) => result),
    ];
    expect(server.presented).toEqual([old.refresh, old.refresh]);
    expect(new Set(results.map(({ credential }) => credential.access)).size).toBe(1);
  });
});

describe("is told as the server's own refusal, if the pause is beyond the caller's patience:", () => {
  test.each([429, 503])("%i", async (status) => {
    const old = expired();
    const host = createHost({ main: old });
    const server = await startServer(pause(status, 3600));
    const error = await typedRejection(refreshAs(host, "main", at(server)), "provider_refused");
    expect(error).toMatchObject({ status, refreshFailure: { class: "answered_unspent", retryAfterMs: 3_600_000 } });
    expect(server.requests).toHaveLength(1);
    // Who comes later has not asked, and is told of the pause.
    const later = await typedRejection(refreshAs(host, "main", at(server)), "refresh_backoff");
    expect(later.retryAfterMs).toBeGreaterThan(200_000);
    expect(server.requests).toHaveLength(1);
    expect(host.store("main")).toBe(storeText(old));
  });
});

describe("is never sent again by itself:", () => {
  test.each([
    ["invalid_client", says(json({ error: "invalid_client" }, 401)), "provider_refused"],
    ["invalid_grant", says(json({ error: "invalid_grant" }, 400)), "provider_refused"],
    ["404", says(http(404)), "provider_refused"],
  ])("%s", async (_, script, code) => {
    const old = expired();
    const host = createHost({ main: old });
    const server = await startServer(inTurn(script, gives()));
    await typedRejection(refreshAs(host, "main", at(server)), code);
    await expectFree(host);
    expect(server.presented).toEqual([old.refresh]);
    expect(host.store("main")).toBe(storeText(old));
  });

  test("what brought another account's token", async () => {
    const old = expired({ subject: "user-1" });
    const host = createHost({ main: old });
    const others = says(json(tokens({ id_token: jwt({ sub: "user-2" }) })));
    const server = await startServer(inTurn(others, gives()));
    await typedRejection(refreshAs(host, "main", at(server)), "identity_mismatch");
    expect(server.presented).toEqual([old.refresh]);
    expect(host.store("main")).toBe(storeText(old));
  });
});

test("a request that is cut off on a connection that was used before is sent again by us alone, after the back-off", async () => {
  const host = createHost({ main: expired() });
  const server = await startServer(inTurn(gives(), (_, socket) => socket.resetAndDestroy(), gives()));
  const { credential } = await refreshAs(host, "main", at(server));
  const short = refreshAs(host, "main", at(server), { forceRefresh: true, timeoutMs: 900 });
  await typedRejection(short, "provider_answer_lost");
  expect([server.requests.length, server.connections]).toEqual([2, 1]);
  const { outcome } = await refreshAs(host, "main", at(server), { forceRefresh: true });
  expect(outcome).toBe("refreshed");
  expect(server.presented.slice(1)).toEqual([credential.refresh, credential.refresh]);
});

test("a caller that stands in line for the lock after an attempt is told why that failed", async () => {
  const host = createHost({ main: expired() });
  const port = await freePort();
  const log = listen();
  const call = refreshAs(host, "main", at({ url: `http://127.0.0.1:${port}/token` }), { timeoutMs: 5_000 });
  await log.seen({ type: "dispatched" });
  const { release } = await heldElsewhere(host);
  await log.seen({ type: "waiting" });
  await typedRejection(call, "provider_unreachable");
  await release();
});
