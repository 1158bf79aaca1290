/**
 * No token is ever lost: failure classes, uncertain outcomes, spent and dead generations, one grant under several names,
 * logins and logouts meanwhile.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { resolveOAuthRefreshLockPath, withOAuthRefreshLock } from "../index.mjs";
import { startAgent } from "./support/agents.mjs";
import { stopClock } from "./support/clock.mjs";
import { deferred } from "./support/events.mjs";
import {
  answer,
  createHost,
  expired,
  HOUR,
  IMPATIENT,
  MINUTE,
  PROFILE,
  PROVIDER,
  storeText,
  usable,
} from "./support/host.mjs";
import { listen } from "./support/listen.mjs";
import { startProvider } from "./support/oauth/provider.mjs";
import { createRefresh } from "./support/oauth/refresh.mjs";
import { answering, held, unwanted } from "./support/refresh-functions.mjs";
import { rejection, typedRejection } from "./support/rejections.mjs";

/** @type {Awaited<ReturnType<typeof startProvider>>} */
let server;
let refreshAtServer;
/** Called when the server has dealt with a refresh, before it answers. */
let onRefreshCall = () => {};

beforeAll(async () => {
  server = await startProvider({ onRefreshCall: (call) => onRefreshCall(call) });
  refreshAtServer = createRefresh(server);
});
beforeEach(() => {
  server.resetStats();
  server.setLatency(0);
  onRefreshCall = () => {};
});
afterAll(() => server.close());

const call = (host, agent, refresh, options, profile = PROFILE) =>
  withOAuthRefreshLock(PROVIDER, profile, refresh, host.as(agent, options));

/** A credential of a real grant, expired. */
const granted = async (fields) => expired({ ...(await server.obtainGrant()), expires: Date.now() - MINUTE, ...fields });

const credentialOf = (host, agent, profile = PROFILE) => JSON.parse(host.store(agent)).profiles[profile];

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
      call(host, "main", unwanted(), { serveUnexpired: false, timeoutMs: 500 }),
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

  test("is asked again as often as it takes, each time later, by whoever has the patience", async () => {
    const host = createHost({ main: expired() });
    const failed = reset();
    // The first one waits a second and asks twice, the next waits two.
    for (let caller = 0; caller < 2; caller++) await rejection(call(host, "main", failed, { timeoutMs: 3_000 }));
    expect(failed).toHaveBeenCalledTimes(3);
    const refresh = unwanted();
    const error = await typedRejection(call(host, "main", refresh, { timeoutMs: 3_000 }), "refresh_uncertain");
    expect(error.message).toContain("asked 3 times so far); the login is kept");
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
    const owner = await startAgent();
    const asked = owner.refresh({ options: host.as("agent") });
    await asked.called;
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
    onRefreshCall = received.resolve;
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

describe("a result that is no credential", () => {
  test.each([
    ["an expiry in the past, in seconds", { expires: 1_700_000_000 }],
    ["an expiry in the past", { expires: 0 }],
    ["an access token that is no text", { access: 7 }],
    ["no access token", { access: undefined }],
  ])("(%s) changes no store, and its refresh token is not lost", async (_what, wrong) => {
    const stored = await granted();
    const host = createHost({ main: stored, agent: stored });
    const before = [host.store("main"), host.store("agent")];
    const ask = async (...given) => ({ ...(await refreshAtServer(...given)), ...wrong });
    await typedRejection(call(host, "agent", ask), "invalid_refresh_result");
    expect([host.store("main"), host.store("agent")]).toEqual(before);
    expect((await call(host, "agent", refreshAtServer)).outcome).toBe("refreshed");
    expect((await call(host, "main", unwanted())).outcome).toBe("fresh");
    expect(server.stats()).toMatchObject({ refreshCalls: 2, refreshed: 2, reuseErrors: 0 });
  });

  test("and that holds no refresh token leaves the old one as it is", async () => {
    const stored = expired({ expires: Date.now() + MINUTE });
    const host = createHost({ main: stored });
    const before = host.store("main");
    const { refreshError } = await call(host, "main", async () => ({ access: "new", expires: 0n }));
    expect(refreshError).toMatchObject({ code: "invalid_refresh_result" });
    await call(host, "main", unwanted());
    expect(host.store("main")).toBe(before);
  });

  test("but for its expiry gets the token's own, or half an hour: no refresh loop", async () => {
    const host = createHost({ main: expired() });
    const { expires: _, ...fields } = answer();
    const before = Date.now();
    const { credential } = await call(host, "main", answering(fields));
    expect(credential.expires).toBeGreaterThanOrEqual(before + 30 * MINUTE);
    expect((await call(host, "main", unwanted())).outcome).toBe("fresh");
  });

  test("of another account is stored nowhere", async () => {
    const stored = expired({ accountId: "acct-1" });
    const host = createHost({ main: stored, agent: stored });
    const before = host.tree({ locks: false });
    await typedRejection(call(host, "agent", answering(answer({ accountId: "acct-2" }))), "identity_mismatch");
    expect(host.tree({ locks: false })).toEqual(before);
  });
});

describe("a short caller", () => {
  test("is answered when its patience ends; that same call's result is saved; the next makes no call", async () => {
    const host = createHost({ main: expired() });
    const pass = stopClock();
    const slow = held();
    const waiting = call(host, "main", slow.refresh, { timeoutMs: 10_000 });
    await slow.called;
    pass(10_000);
    const error = await typedRejection(waiting, "caller_timeout");
    expect(error.message).toMatch(/the provider was asked [\d.]+ s ago, and no answer is saved yet/);
    const log = listen();
    const fields = answer();
    slow.answer(fields);
    await log.seen({ type: "refreshed" });
    expect(await call(host, "main", unwanted())).toMatchObject({ outcome: "fresh", credential: fields });
  });

  test("has the old token instead if that is unexpired, its own or main's; if it asks itself, after 10 s", async () => {
    const expiring = expired({ expires: Date.now() + MINUTE });
    const host = createHost({ main: expiring, agent: expired() });
    const pass = stopClock();
    const slow = held();
    const owner = call(host, "main", slow.refresh);
    await slow.called;
    const log = listen();
    const strict = call(host, "agent", unwanted(), { timeoutMs: 1_000, serveUnexpired: false });
    const late = call(host, "agent", unwanted());
    pass(1_000);
    await typedRejection(strict, "file_lock_timeout");
    const served = await late;
    expect(served).toMatchObject({ outcome: "fresh", credential: expiring });
    expect(served.refreshError).toMatchObject({ code: "file_lock_timeout" });
    pass(10_000);
    const { refreshError, ...first } = await owner;
    expect(first).toEqual({ outcome: "fresh", credential: expiring });
    expect(refreshError).toMatchObject({ code: "caller_timeout" });
    slow.answer(answer());
    await log.seen({ type: "refreshed" });
  });

  test("in line behind another process is told what that is doing", async () => {
    const host = createHost({ main: expired() });
    const owner = await startAgent();
    await owner.refresh({ options: host.as("main") }).called;
    const log = listen();
    const pass = stopClock();
    const waiting = call(host, "main", unwanted(), { timeoutMs: 10_000 });
    await log.seen({ type: "waiting" });
    pass(10_000);
    const error = await typedRejection(waiting, "file_lock_timeout");
    expect(error.holder).toEqual({ pid: owner.pid, heldMs: expect.any(Number), state: "dispatched" });
    expect(error.message).toContain("dispatched");
  });
});

describe("a spent token that comes back", () => {
  test("as from a backup is never sent: its successor takes its place", async () => {
    const first = await granted();
    const host = createHost({ main: first, agent: first });
    const { credential } = await call(host, "agent", refreshAtServer);
    host.seed("agent", first);
    host.seed("main", first);
    // Both stores are of yesterday; only another agent's is of today.
    host.seed("other", { ...credential });
    const refresh = unwanted();
    await typedRejection(call(host, "agent", refresh), "refresh_token_spent");
    host.seed("main", { ...credential });
    expect(await call(host, "agent", refresh)).toMatchObject({
      outcome: "adopted",
      credential: { access: credential.access },
    });
    expect(refresh).not.toHaveBeenCalled();
    expect(credentialOf(host, "agent").refresh).toBe(credential.refresh);
  });

  test("is refreshed by its successor's token if that has expired too", async () => {
    const first = await granted();
    const host = createHost({ main: first, agent: first });
    const { credential } = await call(host, "agent", refreshAtServer);
    host.seed("agent", first);
    host.seed("main", { ...credential, expires: Date.now() - MINUTE });
    expect((await call(host, "agent", refreshAtServer)).outcome).toBe("refreshed");
    expect(server.stats()).toMatchObject({ refreshCalls: 2, reuseErrors: 0 });
    expect(credentialOf(host, "agent").access).toBe(credentialOf(host, "main").access);
  });
});

describe("one grant under several names", () => {
  const PROFILES = [PROFILE, "acme:second"];

  test("is sent once, and all end on the successor", async () => {
    const grant = await granted();
    const both = storeText(grant).replace(
      `"${PROFILE}":`,
      `"${PROFILES[1]}": ${JSON.stringify(grant)},\n    "${PROFILE}":`,
    );
    const host = createHost({ main: both, one: both, two: both });
    const agents = ["main", "one", "two"];
    const results = await Promise.all(
      agents.flatMap((agent) => PROFILES.map((profile) => call(host, agent, refreshAtServer, {}, profile))),
    );
    expect(server.stats()).toMatchObject({ refreshCalls: 1, refreshed: 1, reuseErrors: 0 });
    expect(new Set(results.map(({ credential }) => credential.access)).size).toBe(1);
    const tokens = agents.flatMap((agent) => PROFILES.map((profile) => credentialOf(host, agent, profile).refresh));
    expect([...new Set(tokens)]).toEqual([results[0].credential.refresh]);
  });

  test("waits for the other name while that is being asked for", async () => {
    const grant = expired();
    const host = createHost({ one: grant, two: storeText(grant, PROFILES[1]) });
    const first = held();
    const leading = call(host, "one", first.refresh);
    await first.called;
    const log = listen();
    const refresh = unwanted();
    const following = call(host, "two", refresh, {}, PROFILES[1]);
    await log.seen({ type: "waiting", profileId: PROFILES[1] });
    const fields = answer();
    first.answer(fields);
    expect((await leading).outcome).toBe("refreshed");
    expect(await following).toMatchObject({ outcome: "adopted", credential: fields });
    expect(refresh).not.toHaveBeenCalled();
  });
});

describe("the same-grant proof", () => {
  test("lets a credential that says less about itself take its ancestor's place, whose identity is kept", async () => {
    const grant = expired();
    const host = createHost({ main: { ...grant, email: "owner@example.test", accountId: "acct" }, agent: grant });
    const { mirror, credential } = await call(host, "agent", answering());
    expect(mirror).toEqual({ written: true, reason: "same-grant-successor" });
    expect(credentialOf(host, "main")).toEqual({ ...credential, email: "owner@example.test", accountId: "acct" });
  });

  test("never lets one that contradicts", async () => {
    const grant = expired();
    const host = createHost({ main: { ...grant, accountId: "acct-1" }, agent: { ...grant, accountId: "acct-2" } });
    const before = host.store("main");
    const { mirror } = await call(host, "agent", answering());
    expect(mirror).toEqual({ written: false, reason: "identity-mismatch-or-regression" });
    expect(host.store("main")).toBe(before);
    // And main's copy is spent now: it is not sent.
    const refresh = unwanted();
    await typedRejection(call(host, "main", refresh), "refresh_token_spent");
    expect(refresh).not.toHaveBeenCalled();
  });
});

describe("while the provider is being asked", () => {
  test.each(["main", "agent"])("a logout of %s stays a logout", async (gone) => {
    const grant = expired();
    const host = createHost({ main: grant, agent: grant });
    const asked = held();
    const calling = call(host, "agent", asked.refresh);
    await asked.called;
    host.seed(gone, storeText({ type: "api_key", key: "kept" }, "other"));
    const after = host.store(gone);
    asked.answer(answer());
    const result = await calling;
    expect(host.store(gone)).toBe(after);
    if (gone === "agent") expect(result).toBeNull();
    else expect(result.mirror).toEqual({ written: false, reason: "logged-out" });
  });

  test("a login wins, and the late result is written nowhere", async () => {
    const grant = expired();
    const host = createHost({ main: grant });
    const asked = held();
    const calling = call(host, "main", asked.refresh);
    await asked.called;
    const login = usable();
    host.seed("main", login);
    const after = host.store("main");
    asked.answer(answer());
    expect(await calling).toEqual({ outcome: "fresh", credential: login });
    expect(host.store("main")).toBe(after);
  });
});

describe("the journal", () => {
  const journal = (host) => `${resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir: host.stateDir })}.journal`;

  test("holds no token once the stores do", async () => {
    const grant = expired();
    const host = createHost({ main: grant, agent: grant });
    const { credential } = await call(host, "agent", answering());
    const text = readFileSync(journal(host), "latin1");
    for (const secret of [grant.access, grant.refresh, credential.access, credential.refresh]) {
      expect(text).not.toContain(secret);
    }
    expect(text).toContain("committed");
  });

  test("of a newer format is refused before the provider is asked; what is usable is served", async () => {
    const host = createHost({ main: expired() });
    await call(host, "main", answering({ ...answer(), expires: Date.now() + 2 * MINUTE }));
    writeFileSync(journal(host), Buffer.from("ORLJ\x02\0\0\0", "latin1"));
    const refresh = unwanted();
    await typedRejection(call(host, "main", refresh, { serveUnexpired: false }), "journal_version");
    expect((await call(host, "main", refresh)).refreshError).toMatchObject({ code: "journal_version" });
    expect(refresh).not.toHaveBeenCalled();
    expect((await call(host, "main", refresh, { refreshMarginMs: 0 })).outcome).toBe("fresh");
  });

  test("that is garbage is begun anew", async () => {
    const host = createHost({ main: expired() });
    await call(host, "main", answering({ ...answer(), expires: Date.now() + MINUTE }));
    writeFileSync(journal(host), Buffer.alloc(200_000, 7));
    expect((await call(host, "main", answering())).outcome).toBe("refreshed");
  });

  test("of a lock path that another key uses is refused", async () => {
    const host = createHost({ main: expired(), other: storeText(expired(), "acme:other") });
    const lockPath = `${host.stateDir}/shared`;
    await call(host, "main", answering(), { lockPath });
    const refresh = unwanted();
    await typedRejection(call(host, "other", refresh, { lockPath }, "acme:other"), "journal_unusable");
    expect(refresh).not.toHaveBeenCalled();
  });
});

describe("an error of the refresh function is classified", () => {
  const cause = (fields, more) =>
    Object.assign(new TypeError("fetch failed", { cause: Object.assign(new Error("x"), fields) }), more);
  const body = (data) => Object.assign(new Error("failed"), { response: { status: 400, data } });
  test.each([
    ["undici: DNS", cause({ code: "ENOTFOUND", syscall: "getaddrinfo" }), "not_sent"],
    ["undici: refused", cause({ code: "ECONNREFUSED", syscall: "connect" }), "not_sent"],
    ["undici: connect time-out", cause({ code: "UND_ERR_CONNECT_TIMEOUT" }), "not_sent"],
    ["untrusted certificate", cause({ code: "DEPTH_ZERO_SELF_SIGNED_CERT" }), "not_sent"],
    [
      "several addresses, none answered",
      cause({
        errors: [
          { syscall: "connect", code: "ECONNREFUSED" },
          { syscall: "connect", code: "ENETUNREACH" },
        ],
      }),
      "not_sent",
    ],
    ["connect timed out", Object.assign(new Error("x"), { code: "ETIMEDOUT", syscall: "connect" }), "not_sent"],
    ["read timed out", Object.assign(new Error("x"), { code: "ETIMEDOUT", syscall: "read" }), "uncertain"],
    ["undici: headers time-out", cause({ code: "UND_ERR_HEADERS_TIMEOUT" }), "uncertain"],
    ["undici: socket closed", cause({ code: "UND_ERR_SOCKET" }), "uncertain"],
    ["reset", Object.assign(new Error("x"), { code: "ECONNRESET", syscall: "read" }), "uncertain"],
    ["429", Object.assign(new Error("x"), { status: 429 }), "answered_unspent"],
    ["503", Object.assign(new Error("x"), { statusCode: 503 }), "answered_unspent"],
    ["500", Object.assign(new Error("x"), { status: 500 }), "uncertain"],
    ["502", Object.assign(new Error("x"), { status: 502 }), "uncertain"],
    ["504", Object.assign(new Error("x"), { response: { status: 504 } }), "uncertain"],
    ["invalid_client", Object.assign(new Error("x"), { status: 401, error: "invalid_client" }), "answered_unspent"],
    ["invalid_grant in a body", body({ error: "invalid_grant" }), "answered_dead"],
    ["invalid_grant in a cause", new Error("x", { cause: { error: "invalid_grant" } }), "answered_dead"],
    ["a reuse code in a body", body({ error: { code: "refresh_token_reused" } }), "answered_dead"],
    [
      "OpenClaw's phrase",
      new Error('failed: {"message":"Your refresh token has already been used to generate a new access token."}'),
      "answered_dead",
    ],
    [
      "a reuse code in a message",
      new Error('Token refresh failed (401): {"error":{"code":"refresh_token_expired"}}'),
      "answered_dead",
    ],
    [
      "a text body",
      Object.assign(new Error("x"), { response: { status: 400, body: '{"error":"invalid_grant"}' } }),
      "answered_dead",
    ],
    ["GitHub's code", Object.assign(new Error("x"), { error: "bad_refresh_token" }), "answered_dead"],
    ["a 500 that quotes the words", Object.assign(new Error("invalid_grant"), { status: 500 }), "uncertain"],
    ["a status in a message", new Error("Token refresh failed with HTTP 503"), "answered_unspent"],
    ["a number in a message", new Error("Token refresh failed: 503 Service Unavailable"), "uncertain"],
    ["invalid_client in a message", new Error('failed (400): {"error":"invalid_client"}'), "answered_unspent"],
    ["DNS in a message", new Error("request failed, reason: getaddrinfo ENOTFOUND auth.example"), "uncertain"],
    ["unreachable while reading", cause({ code: "EHOSTUNREACH", syscall: "read" }), "uncertain"],
    ["unreachable while connecting", cause({ code: "EHOSTUNREACH", syscall: "connect" }), "not_sent"],
    [
      "an error that throws when it is looked at",
      Object.defineProperty(new Error("x"), "status", {
        get() {
          throw new Error("no");
        },
      }),
      "uncertain",
    ],
    ["nothing known", new Error("whatever"), "uncertain"],
    ["a frozen error", Object.freeze(new Error("whatever")), undefined],
  ])("%s", async (_what, error, expected) => {
    // Who has no good token waits for what passes.
    const host = createHost({ main: expired({ expires: Date.now() + MINUTE }) });
    const refresh = vi.fn(async () => {
      throw error;
    });
    expect((await call(host, "main", refresh)).refreshError).toBe(error);
    expect(error.refreshFailure?.class).toBe(expected);
  });

  test("after what it got from a real socket that was closed half-way", async () => {
    const hangsUp = createServer((socket) => socket.once("data", () => socket.destroy()));
    await new Promise((resolve) => hangsUp.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void hangsUp.close());
    const { port } = hangsUp.address();
    const host = createHost({ main: expired() });
    const ask = () => fetch(`http://127.0.0.1:${port}`, { method: "POST" });
    const error = await rejection(call(host, "main", ask, IMPATIENT));
    expect(error.refreshFailure.class).toBe("uncertain");
  });
});
