/**
 * A stored access token that is about to expire and can't be refreshed now: it is served, with the reason beside it.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { heldElsewhere, startAgent } from "./support/agents.mjs";
import { answering, held, lockOn, lockPathOn, refreshAs, typedRejection, unwanted } from "./support/calls.mjs";
import { deferred } from "./support/events.mjs";
import { answer, createHost, expired, MINUTE, STORE_FILE, storeText, usable } from "./support/host.mjs";
import { memoryStore } from "./support/host-stores.mjs";
import { startTime } from "./support/openclaw-lock.mjs";
import { at, freePort, http, json, says, startServer } from "./support/token-server.mjs";

const expiring = (fields) => expired({ expires: Date.now() + 2 * MINUTE, ...fields });
const failing = (fields) => vi.fn(() => Promise.reject(Object.assign(new Error("failed"), fields)));

/** What keeps a token from being refreshed: how it is asked for, and what is told. */
const OBSTACLES = [
  ["429 for an hour", says(http(429, "", { "retry-after": "3600" })), "provider_refused", "refresh_backoff"],
  ["503", says(http(503)), "provider_refused", "refresh_backoff"],
  ["invalid_client", says(json({ error: "invalid_client" }, 401)), "provider_refused", "refresh_backoff"],
  ["502", says(http(502)), "provider_refused", "refresh_uncertain"],
  ["a reset", (_, socket) => socket.resetAndDestroy(), "provider_answer_lost", "refresh_uncertain"],
  ["a page", says(http(200, "<html>")), "provider_answer_invalid", "refresh_uncertain"],
  ["a refusal for good", says(json({ error: "invalid_grant" }, 400)), "provider_refused", "grant_dead"],
];

describe("of a token endpoint, after", () => {
  test.each(OBSTACLES)("%s: twenty callers, one call, and no store is changed", async (_, script, first, next) => {
    const stored = expiring();
    const host = createHost({ main: stored });
    const server = await startServer(script);
    const calls = Array.from({ length: 20 }, () => refreshAs(host, "main", at(server)));
    const results = await Promise.all(calls);
    for (const { outcome, credential } of results)
      expect({ outcome, credential }).toEqual({ outcome: "fresh", credential: stored });
    const codes = results.map(({ refreshError }) => refreshError.code);
    expect(codes.filter((code) => code === first)).toHaveLength(1);
    expect(codes.filter((code) => code === next)).toHaveLength(19);
    expect(server.presented).toEqual([stored.refresh]);
    expect(host.store("main")).toBe(storeText(stored));
    // Who wants the error says so.
    await typedRejection(refreshAs(host, "main", at(server), { serveUnexpired: false, timeoutMs: 700 }), next);
  });

  test("nobody was reached: each is served without a second try of its own", async () => {
    const stored = expiring();
    const host = createHost({ main: stored });
    const request = at({ url: `http://127.0.0.1:${await freePort()}/token` });
    const { outcome, credential, refreshError } = await refreshAs(host, "main", request);
    expect({ outcome, credential }).toEqual({ outcome: "fresh", credential: stored });
    expect(refreshError.code).toBe("provider_unreachable");
  });
});

test.each([
  ["503", { status: 503 }, "refresh_backoff"],
  ["a bug", {}, "refresh_uncertain"],
  ["DNS", { code: "ENOTFOUND", syscall: "getaddrinfo" }, undefined],
])("of a refresh function that throws (%s): its own error is beside the token", async (_, fields, next) => {
  const stored = expiring();
  const host = createHost({ main: stored });
  const refresh = failing(fields);
  const { refreshError, ...first } = await refreshAs(host, "main", refresh);
  expect(first).toEqual({ outcome: "fresh", credential: stored });
  expect(refreshError).toMatchObject({ message: "failed", ...fields });
  const later = await refreshAs(host, "main", refresh);
  expect(later.credential).toEqual(stored);
  expect(later.refreshError.code).toBe(next ?? "ENOTFOUND");
  expect(refresh).toHaveBeenCalledTimes(next ? 1 : 2);
});

describe("while somebody holds", () => {
  test("the key's lock in another process", async () => {
    const stored = expiring();
    const host = createHost({ main: stored });
    const { release } = await heldElsewhere(host);
    const { outcome, credential, refreshError } = await refreshAs(host, "main", unwanted());
    expect({ outcome, credential }).toEqual({ outcome: "fresh", credential: stored });
    expect(refreshError.code).toBe("file_lock_timeout");
    await release();
  });

  test("it for something else in this process", async () => {
    const stored = expiring();
    const host = createHost({ main: stored });
    const done = deferred();
    const holding = lockOn(host, () => done.promise);
    expect(await refreshAs(host, "main", unwanted())).toMatchObject({ outcome: "fresh", credential: stored });
    done.resolve();
    await holding;
  });

  test("the store's lock, in OpenClaw's way: the message names the store and its holder", async () => {
    const stored = expiring();
    const host = createHost({ main: stored });
    const agent = await startAgent();
    const store = join(host.agentDir("main"), STORE_FILE);
    const holder = { pid: agent.pid, createdAt: new Date().toISOString(), starttime: startTime(agent.pid) };
    writeFileSync(`${store}.lock`, JSON.stringify(holder), { mode: 0o600 });
    const { credential, refreshError } = await refreshAs(host, "main", unwanted());
    expect(credential).toEqual(stored);
    expect(refreshError).toMatchObject({ code: "file_lock_timeout", path: store, lockPath: `${store}.lock` });
    expect(refreshError.holder.pid).toBe(agent.pid);
    expect(refreshError.lockPath).not.toBe(`${lockPathOn(host)}.lock`);
  });
});

describe("in a store of the host's", () => {
  const options = (host, store) => ({ stateDir: host.stateDir, agentDir: undefined, store });

  test("that answers once and then no more", async () => {
    const host = createHost();
    const stored = expiring();
    const store = memoryStore("once", stored);
    await refreshAs(host, "main", failing({ status: 503 }), options(host, store));
    store.load.mockImplementation(() => new Promise(() => {}));
    const { outcome, credential, refreshError } = await refreshAs(host, "main", unwanted(), options(host, store));
    expect({ outcome, credential }).toEqual({ outcome: "fresh", credential: stored });
    expect(refreshError.code).toBe("store_unreadable");
  });

  test("that fails from then on", async () => {
    const host = createHost();
    const stored = expiring();
    const store = memoryStore("failing", stored);
    await refreshAs(host, "main", failing({ status: 503 }), options(host, store));
    store.load.mockRejectedValue(new Error("disk on fire"));
    const { credential, refreshError } = await refreshAs(host, "main", unwanted(), options(host, store));
    expect(credential).toEqual(stored);
    expect(refreshError.code).toBe("store_unreadable");
  });

  test("that does not answer beside main's, which was seen: main's may be another account's", async () => {
    const host = createHost();
    const main = memoryStore("seen-main", expiring({ accountId: "main's" }));
    await refreshAs(host, "main", failing({ status: 503 }), options(host, main));
    const own = memoryStore("unseen-own", expiring({ accountId: "own" }));
    own.load.mockImplementation(() => new Promise(() => {}));
    const call = refreshAs(host, "main", unwanted(), { ...options(host, own), mainStore: main, timeoutMs: 1_500 });
    await typedRejection(call, "store_unreadable");
  });

  test("that does not answer a caller that wants another token than the one that was seen", async () => {
    const host = createHost();
    const store = memoryStore("forced", expiring());
    await refreshAs(host, "main", failing({ status: 503 }), options(host, store));
    store.load.mockImplementation(() => new Promise(() => {}));
    const forced = { ...options(host, store), forceRefresh: true, timeoutMs: 1_500 };
    await typedRejection(refreshAs(host, "main", unwanted(), forced), "store_unreadable");
  });

  test("that does not answer and never has: there is nothing to serve", async () => {
    const host = createHost();
    const store = memoryStore("never", expiring());
    store.load.mockImplementation(() => new Promise(() => {}));
    const call = refreshAs(host, "main", unwanted(), { ...options(host, store), timeoutMs: 1_500 });
    await typedRejection(call, "store_unreadable");
  });
});

test("a token that the resource server has refused is served to nobody", async () => {
  const stored = expiring();
  const host = createHost({ main: stored });
  const server = await startServer(says(http(429, "", { "retry-after": "3600" })));
  for (const options of [{ rejectedAccess: stored.access }, { forceRefresh: true }]) {
    await refreshAs(host, "main", at(server), options).then(
      () => expect.unreachable(),
      (error) => expect(["provider_refused", "refresh_backoff"]).toContain(error.code),
    );
  }
});

test("a login that is over for the provider gives way to a new one at once", async () => {
  const host = createHost({ main: expiring() });
  await refreshAs(host, "main", failing({ error: "invalid_grant" }));
  const login = usable();
  host.seed("main", login);
  expect(await refreshAs(host, "main", unwanted())).toEqual({ outcome: "fresh", credential: login });
});

test("a result that its caller has not waited for is saved, and the next caller has it", async () => {
  const stored = expiring();
  const host = createHost({ main: stored });
  const slow = held();
  const first = refreshAs(host, "main", slow.refresh);
  await slow.called;
  // The one behind waits for a second; the one that asks, longer.
  expect(await refreshAs(host, "main", unwanted())).toMatchObject({ outcome: "fresh", credential: stored });
  const fields = answer();
  slow.answer(fields);
  expect(await first).toEqual({ outcome: "refreshed", credential: { ...stored, ...fields } });
  expect((await refreshAs(host, "main", answering())).credential.access).toBe(fields.access);
});
