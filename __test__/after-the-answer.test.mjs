/**
 * No token is ever lost: results, short callers, spent generations, one grant under several names,
 * logins and logouts meanwhile.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { resolveOAuthRefreshLockPath } from "../index.mjs";
import { startAgent } from "./support/agents.mjs";
import { answering, held, listen, stopClock, typedRejection, unwanted } from "./support/calls.mjs";
import { answer, createHost, expired, MINUTE, PROFILE, PROVIDER, storeText, usable } from "./support/host.mjs";
import { call, credentialOf, granted, refreshAtServer, server } from "./support/real-provider.mjs";

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
    const refresh = unwanted();
    // Both stores are of yesterday, and nobody has today's.
    await typedRejection(call(host, "agent", refresh), "refresh_token_spent");
    const takesItFrom = async (agent) => {
      host.seed("agent", first);
      host.seed("main", first);
      host.seed(agent, { ...credential });
      expect(await call(host, "agent", refresh)).toMatchObject({
        outcome: "adopted",
        credential: { access: credential.access },
      });
    };
    // An agent that nothing is known of but its store.
    await takesItFrom("other");
    await takesItFrom("main");
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
