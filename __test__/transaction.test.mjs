import { createServer } from "node:net";
import { describe, expect, test, vi } from "vitest";
import { askingElsewhere, startAgent } from "./support/agents.mjs";
import { answering, held, listen, rejection, typedRejection, unwanted } from "./support/calls.mjs";
import { deferred } from "./support/events.mjs";
import { answer, createHost, expired, HOUR, IMPATIENT, MINUTE, storeText, usable } from "./support/host.mjs";
import { call, credentialOf, granted, on, refreshAtServer, server } from "./support/real-provider.mjs";

/** What a provider's client throws. */
const failing = (fields, message = "the request failed") =>
  vi.fn(async () => {
    throw Object.assign(new Error(message), fields);
  });

const dead = () => failing({ status: 400, error: "invalid_grant" }, "the provider said no");

describe("a provider that was not reached", () => {
  /** A port that nobody listens on. */
  async function closedPort() {
    const probe = createServer();
    await new Promise((resolve) => probe.listen(0, "127.0.0.1", resolve));
    const { port } = probe.address();
    await new Promise((resolve) => probe.close(resolve));
    return port;
  }

  test.each([
    ["its name is unknown", async () => fetch("http://name.invalid/token", { method: "POST" })],
    ["it refuses connections", async () => fetch(`http://127.0.0.1:${await closedPort()}/token`, { method: "POST" })],
    [
      "it speaks no TLS that we trust",
      async () => fetch(`https://127.0.0.1:${new URL(server.issuer).port}/token`, { method: "POST" }),
    ],
  ])("(%s) leaves everything as it was, and the first call once online succeeds", async (_what, ask) => {
    // Who has no good token waits until it is reached.
    const stored = await granted({ expires: Date.now() + MINUTE });
    const host = createHost({ main: stored, agent: stored });
    const before = [host.store("main"), host.store("agent")];
    for (let attempt = 0; attempt < 3; attempt++) {
      const { refreshError: error } = await call(host, "agent", ask);
      expect(error).toBeInstanceOf(TypeError);
      expect(error.refreshFailure).toEqual({ class: "not_sent" });
      expect([host.store("main"), host.store("agent")]).toEqual(before);
    }
    const result = await call(host, "agent", refreshAtServer);
    expect(result.outcome).toBe("refreshed");
    expect(server.stats()).toMatchObject({ refreshCalls: 1, refreshed: 1 });
  });
});

describe("a provider that asks for a pause", () => {
  test("is asked by nobody until it is over, in no process, and then once", async () => {
    const host = createHost({ main: expired() });
    const busy = failing({ status: 503, headers: new Headers({ "retry-after": "3600" }) });
    const error = await rejection(call(host, "main", busy));
    expect(error.refreshFailure).toEqual({ class: "answered_unspent", retryAfterMs: 3_600_000 });
    const refresh = unwanted();
    const told = await typedRejection(call(host, "main", refresh), "refresh_backoff");
    expect(told.retryAfterMs).toBeGreaterThan(3_500_000);
    const peer = await startAgent();
    const [{ error: peers }] = await peer.refresh({ options: host.as("main") }).settled;
    expect(peers.code).toBe("refresh_backoff");
    expect(refresh).not.toHaveBeenCalled();
  });

  test("of a length that a caller can wait for serves everyone who waited, with one more call", async () => {
    const host = createHost({ main: expired(), agent: expired() });
    await rejection(call(host, "main", failing({ status: 429, headers: { "retry-after": "0" } }), IMPATIENT));
    await rejection(call(host, "main", failing({ status: 503, retryAfterMs: 300 }), IMPATIENT));
    const refresh = answering();
    const results = await Promise.all(Array.from({ length: 5 }, () => call(host, "main", refresh)));
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(new Set(results.map(({ credential }) => credential.access)).size).toBe(1);
  });

  test("ends the pause with the credential: a new login is not held back", async () => {
    const host = createHost({ main: expired() });
    await rejection(call(host, "main", failing({ status: 429, retryAfterMs: HOUR })));
    host.seed("main", expired());
    expect((await call(host, "main", answering())).outcome).toBe("refreshed");
  });

  test("frees a caller that gives up meanwhile", async () => {
    const host = createHost({ main: expired() });
    await rejection(call(host, "main", failing({ status: 429, retryAfterMs: 60_000 }), IMPATIENT));
    const controller = new AbortController();
    const log = listen();
    const waiting = call(host, "main", unwanted(), { signal: controller.signal });
    await log.seen({ type: "acquired" });
    controller.abort();
    await typedRejection(waiting, "caller_aborted");
  });
});

describe("a dead grant", () => {
  test("passes the provider's error through, and is asked about by nobody again, after a restart neither", async () => {
    const host = createHost({ main: expired(), agent: storeText({ type: "api_key", key: "kept" }, "other") });
    const error = await rejection(call(host, "main", dead()));
    expect(error.message).toBe("the provider said no");
    expect(error.refreshFailure).toEqual({ class: "answered_dead", message: expect.stringContaining("log in again") });
    const before = host.store("main");
    const refresh = unwanted();
    for (const agent of ["main", "agent"]) await typedRejection(call(host, agent, refresh), "grant_dead");
    const peer = await startAgent();
    const asked = peer.refresh({ options: host.as("main") });
    const [{ error: peers }] = await asked.settled;
    expect(peers).toMatchObject({ code: "grant_dead", message: expect.stringContaining(`process ${process.pid}`) });
    expect(asked.calls).toEqual([]);
    expect(refresh).not.toHaveBeenCalled();
    expect(host.store("main")).toBe(before);
  });

  test("leaves other profiles alone, and a new login works at once", async () => {
    const host = createHost({ main: expired() });
    await rejection(call(host, "main", dead()));
    const other = expired();
    host.seed("two", storeText(other, "acme:two"));
    expect((await call(host, "two", answering(), {}, "acme:two")).outcome).toBe("refreshed");
    host.seed("main", expired());
    expect((await call(host, "main", answering())).outcome).toBe("refreshed");
  });

  test("is not what a loser's refusal means: it takes over the newer credential", async () => {
    const stale = expired();
    const host = createHost({ main: stale, agent: stale });
    const winner = held();
    const losing = call(host, "agent", winner.refresh);
    await winner.called;
    // A program that does not know our lock has rotated the token meanwhile.
    const newer = usable({ ...answer() });
    host.seed("main", newer);
    winner.fail(Object.assign(new Error("reused"), { error: "invalid_grant" }));
    expect(await losing).toMatchObject({ outcome: "adopted", credential: { access: newer.access } });
    expect(credentialOf(host, "agent").refresh).toBe(newer.refresh);
    expect((await call(host, "agent", unwanted())).outcome).toBe("fresh");
  });
});

describe("a call whose outcome nobody knows", () => {
  const reset = () => failing({ code: "ECONNRESET" });

  test("serves the old access token while it is unexpired", async () => {
    const expiring = expired({ expires: Date.now() + MINUTE });
    const host = createHost({ main: expiring });
    const first = await call(host, "main", reset());
    expect(first).toMatchObject({ outcome: "fresh", credential: expiring });
    expect(first.refreshError).toMatchObject({ code: "ECONNRESET", refreshFailure: { class: "uncertain" } });
    const next = await call(host, "main", unwanted());
    expect(next).toMatchObject({ outcome: "fresh", credential: expiring });
    expect(next.refreshError).toMatchObject({ code: "refresh_uncertain" });
    const error = await typedRejection(
      call(host, "main", unwanted(), { serveUnexpired: false, timeoutMs: 700 }),
      "refresh_uncertain",
    );
    expect(error.message).toContain("the login is kept");
    expect(error.retryAfterMs).toBeGreaterThan(0);
  });

  test("is asked again, and that succeeds if the provider had not rotated", async () => {
    const host = createHost({ main: await granted() });
    await rejection(call(host, "main", reset(), IMPATIENT));
    expect((await call(host, "main", refreshAtServer)).outcome).toBe("refreshed");
    expect((await call(host, "main", unwanted())).outcome).toBe("fresh");
    expect(server.stats()).toMatchObject({ refreshCalls: 1, reuseErrors: 0 });
  });

  test("is asked again, and that tells precisely what happened if it had", async () => {
    const host = createHost({ main: await granted() });
    // The answer is lost on the way.
    const lost = async (...given) => {
      await refreshAtServer(...given);
      throw Object.assign(new Error("socket hang up"), { code: "ECONNRESET" });
    };
    await rejection(call(host, "main", lost, IMPATIENT));
    const error = await rejection(call(host, "main", refreshAtServer));
    expect(error).toMatchObject({ error: "invalid_grant", refreshFailure: { class: "answered_dead" } });
    for (let attempt = 0; attempt < 3; attempt++) {
      const told = await typedRejection(call(host, "main", refreshAtServer), "grant_dead");
      expect(told.message).toContain(`it may have given a new one to process ${process.pid}`);
    }
    expect(server.stats().refreshCalls).toBe(2);
  });

  test("is asked again as often as it takes, each time later, by callers that have the patience", async () => {
    const host = createHost({ main: expired() });
    const failed = reset();
    // The first one waits a second and asks twice, the next waits two.
    for (let caller = 0; caller < 2; caller++) await rejection(call(host, "main", failed, { timeoutMs: 3_000 }));
    expect(failed).toHaveBeenCalledTimes(3);
    const refresh = unwanted();
    const error = await typedRejection(call(host, "main", refresh, { timeoutMs: 3_000 }), "refresh_uncertain");
    expect(error.message).toContain("sent 3 times so far); the login is kept");
    expect(refresh).not.toHaveBeenCalled();
    expect((await call(host, "main", answering())).outcome).toBe("refreshed");
  });

  test('is not asked again at all with uncertain: "fail"', async () => {
    const host = createHost({ main: expired() });
    await rejection(call(host, "main", reset(), IMPATIENT));
    const refresh = unwanted();
    await typedRejection(call(host, "main", refresh, { uncertain: "fail" }), "refresh_uncertain");
    expect(refresh).not.toHaveBeenCalled();
    expect((await call(host, "main", answering())).outcome).toBe("refreshed");
  });

  test("is over when a store holds something newer", async () => {
    const stale = expired();
    const host = createHost({ main: stale, agent: stale });
    await rejection(call(host, "agent", reset(), IMPATIENT));
    const newer = usable();
    host.seed("main", newer);
    expect(await call(host, "agent", unwanted())).toMatchObject({ outcome: "adopted", credential: newer });
  });

  test("is left by an owner that dies while it asks, and the next goes on at once", async () => {
    const stored = await granted();
    const host = createHost({ main: stored, agent: stored });
    const [owner] = await askingElsewhere({ options: host.as("agent") });
    const log = listen();
    const next = call(host, "main", refreshAtServer);
    await log.seen({ type: "waiting" });
    await owner.kill();
    expect((await next).outcome).toBe("refreshed");
    expect(server.stats()).toMatchObject({ refreshCalls: 1, reuseErrors: 0 });
    expect((await call(host, "agent", unwanted())).outcome).toBe("adopted");
  });

  test("and the provider had rotated: one precise error that names the owner", async () => {
    const host = createHost({ main: await granted() });
    const owner = await startAgent();
    server.setLatency(HOUR);
    const received = deferred();
    on.refreshCall = received.resolve;
    const asked = owner.refresh({
      options: host.as("main"),
      server: { issuer: server.issuer, clientId: server.clientId },
    });
    await asked.called;
    asked.answer();
    await received.promise;
    await owner.kill();
    server.setLatency(0);
    const error = await rejection(call(host, "main", refreshAtServer));
    expect(error.refreshFailure.message).toContain(`process ${owner.pid}`);
    const told = await typedRejection(call(host, "main", unwanted()), "grant_dead");
    expect(told.message).toContain(`process ${owner.pid}`);
    expect(server.stats().refreshCalls).toBe(2);
  });
});
