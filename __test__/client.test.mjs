/** A client bound to one login: what it hands out, when it refreshes, and what its callers hear of failures. */
import { describe, expect, test, vi } from "vitest";
import { createOAuthClient, withOAuthProfileLock } from "../index.mjs";
import { heldElsewhere } from "./support/agents.mjs";
import { answering, held, listen, refreshAs, rejection, typedRejection, unwanted } from "./support/calls.mjs";
import { answer, createHost, expired, HOUR, MINUTE, PROFILE, PROVIDER, usable } from "./support/host.mjs";
import { startProgram } from "./support/programs.mjs";
import { toldIn } from "./support/secrets.mjs";
import { at, freePort, holding, http, says, startServer } from "./support/token-server.mjs";

const clientOf = (host, refresh, options) =>
  createOAuthClient({ provider: PROVIDER, profileId: PROFILE, refresh, ...host.as("main"), ...options });
/** Good for now, and due. */
const expiring = (fields) => expired({ expires: Date.now() + 2 * MINUTE, ...fields });

/** Has this process know what is stored, so that no caller stands in line. A file that was just written is not remembered. */
async function untilKnown(host, log) {
  // The first of all callers never stands in line.
  for (let quiet = 0; quiet < 2; ) {
    log.forget();
    await refreshAs(host, "main", unwanted(), { refreshMarginMs: 0 });
    quiet = log.types().includes("waiting") ? 0 : quiet + 1;
  }
  log.forget();
}

describe("a token that is good", () => {
  test("is handed out as text, as headers and with its credential, and nothing is asked", async () => {
    const stored = usable();
    const refresh = unwanted();
    const { token, headers, credential } = clientOf(createHost({ main: stored }), refresh);
    expect(await token()).toBe(stored.access);
    expect(await headers()).toEqual({ authorization: `Bearer ${stored.access}` });
    expect(await credential()).toEqual(stored);
    expect(refresh).not.toHaveBeenCalled();
  });

  test("and is due is handed out at once, to all; one refresh goes on behind them", async () => {
    const stored = expiring();
    const host = createHost({ main: stored });
    const { refresh, called, answer: answers } = held();
    const client = clientOf(host, refresh);
    const log = listen();
    await untilKnown(host, log);
    const given = await Promise.all(Array.from({ length: 50 }, () => client.token()));
    expect(new Set(given)).toEqual(new Set([stored.access]));
    await called;
    // Nobody waits for it, who comes later neither.
    expect(await client.token()).toBe(stored.access);
    const fields = answer();
    answers(fields);
    await log.seen({ type: "refreshed" });
    // Not even in line for the lock.
    expect(log.types().filter((type) => type !== "fresh")).toEqual(["acquired", "dispatched", "refreshed"]);
    expect(await client.token()).toBe(fields.access);
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test("and is due by the client's own margin is refreshed behind it", async () => {
    const host = createHost({ main: usable() });
    const log = listen();
    const refresh = answering();
    await clientOf(host, refresh, { refreshMarginMs: 2 * HOUR }).token();
    await log.seen({ type: "refreshed" });
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test("but is about to expire is replaced first", async () => {
    const host = createHost({ main: expired({ expires: Date.now() + 5_000 }) });
    const fields = answer();
    expect(await clientOf(host, answering(fields)).token()).toBe(fields.access);
  });

  test("but was refused is replaced first, and only if it is still the stored one", async () => {
    const stored = usable();
    const fields = answer();
    const refresh = answering(fields);
    const client = clientOf(createHost({ main: stored }), refresh);
    expect(await client.token({ rejectedAccess: stored.access })).toBe(fields.access);
    expect(await client.headers({ rejectedAccess: stored.access })).toEqual({
      authorization: `Bearer ${fields.access}`,
    });
    expect(refresh).toHaveBeenCalledTimes(1);
  });
});

test("callers with an expired token wait for one refresh", async () => {
  const host = createHost({ main: expired() });
  const server = await startServer();
  const clients = [clientOf(host, at(server)), clientOf(host, at(server))];
  const given = await Promise.all(Array.from({ length: 60 }, (_, index) => clients[index % 2].token()));
  expect(new Set(given).size).toBe(1);
  expect(server.requests).toHaveLength(1);
});

describe("a refresh behind the callers that fails", () => {
  test("is told to onError and on the channel, and rests", async () => {
    const stored = expiring();
    const host = createHost({ main: stored });
    const server = await startServer(says(http(429, "", { "retry-after": "3600" })));
    const log = listen();
    const onError = vi.fn();
    const client = clientOf(host, at(server), { onError });
    expect(await client.token()).toBe(stored.access);
    await log.seen({ type: "failed", code: "provider_refused" });
    await expect.poll(() => onError).toHaveBeenCalledTimes(1);
    expect(onError.mock.calls[0]).toEqual([expect.objectContaining({ code: "provider_refused" })]);
    log.forget();
    expect(await client.token()).toBe(stored.access);
    await new Promise(setImmediate);
    expect(log.types()).toEqual(["fresh"]);
    expect(onError).toHaveBeenCalledTimes(1);
    expect(server.requests).toHaveLength(1);
    expect(toldIn(JSON.stringify(log.events))).toEqual([]);
  });

  test.each([
    ["without onError", undefined],
    [
      "with an onError that throws",
      () => {
        throw new Error("of the host's");
      },
    ],
    ["with an onError that rejects", () => Promise.reject(new Error("of the host's"))],
  ])("%s becomes no unhandled rejection", async (_, onError) => {
    const unhandled = vi.fn();
    process.on("unhandledRejection", unhandled);
    const stored = expiring();
    const log = listen();
    const refresh = vi.fn(() => Promise.reject(Object.assign(new Error("failed"), { error: "invalid_grant" })));
    expect(await clientOf(createHost({ main: stored }), refresh, onError && { onError }).token()).toBe(stored.access);
    await log.seen({ type: "failed" });
    for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
    process.off("unhandledRejection", unhandled);
    expect(unhandled).not.toHaveBeenCalled();
  });

  test("because another process refreshes is no failure", async () => {
    const stored = expiring();
    const host = createHost({ main: stored });
    const { release } = await heldElsewhere(host);
    const log = listen();
    const onError = vi.fn();
    expect(await clientOf(host, unwanted(), { onError }).token()).toBe(stored.access);
    await log.seen({ type: "failed", code: "file_lock_timeout" });
    for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
    expect(onError).not.toHaveBeenCalled();
    await release();
  });
});

describe("without a login", () => {
  test.each([
    ["none is stored", {}, unwanted()],
    ["it has no refresh token to give", { main: expired() }, vi.fn(async () => null)],
  ])("every call says to log in: %s", async (_, stores, refresh) => {
    const client = clientOf(createHost(stores), refresh);
    for (const call of [client.token, client.headers, client.credential, () => client.fetch("http://127.0.0.1:9/")]) {
      const { message } = await typedRejection(call(), "no_login");
      expect(message).toContain(PROFILE);
      expect(message).toContain("log in");
    }
  });

  test("a login that comes later is used", async () => {
    const host = createHost();
    const client = clientOf(host, unwanted());
    await typedRejection(client.token(), "no_login");
    const login = usable();
    host.seed("main", login);
    expect(await client.token()).toBe(login.access);
  });
});

describe("a caller's limits", () => {
  test("its signal ends its wait alone", async () => {
    const host = createHost({ main: expired() });
    const { refresh, called, answer: answers } = held();
    const client = clientOf(host, refresh);
    const controller = new AbortController();
    const leaving = client.token({ signal: controller.signal });
    const staying = client.token();
    await called;
    controller.abort();
    await typedRejection(leaving, "caller_aborted");
    const fields = answer();
    answers(fields);
    expect(await staying).toBe(fields.access);
  });

  test("its timeoutMs is its own", async () => {
    const host = createHost({ main: expired() });
    const { release } = await heldElsewhere(host);
    await typedRejection(clientOf(host, unwanted()).token({ timeoutMs: 50 }), "file_lock_timeout");
    await release();
  });
});

test("code that holds the key's lock is told that it can't ask", async () => {
  const host = createHost({ main: expired() });
  const client = clientOf(host, unwanted());
  const inside = withOAuthProfileLock(PROVIDER, PROFILE, () => rejection(client.token()), { stateDir: host.stateDir });
  expect((await inside).code).toBe("nested_call");
});

describe("a process that has nothing else to do ends", () => {
  const start = (host, refresh) =>
    startProgram("client-user", {
      client: { provider: PROVIDER, profileId: PROFILE, refresh, ...host.as("main") },
    });

  test.each([
    ["with a good token", usable, ["fresh"]],
    ["while another process has the lock", expiring, ["fresh", "failed"]],
  ])("%s", async (_, login, types) => {
    const host = createHost({ main: login() });
    if (types.length > 1) await heldElsewhere(host);
    const user = start(host, at({ url: `http://127.0.0.1:${await freePort()}/token` }));
    expect(await user.exited).toEqual({ code: 0, signal: null });
    expect(user.log.types()).toEqual(expect.arrayContaining(types));
  });

  test("once the provider has answered, if it was asked: an exit before could lose the login", async () => {
    const old = expiring();
    const host = createHost({ main: old });
    const { script, open } = holding();
    const server = await startServer(script);
    const user = start(host, at(server));
    await user.told({ type: "got", access: old.access });
    await Promise.race([server.requested(), user.exited]);
    open();
    expect(await user.exited).toEqual({ code: 0, signal: null });
    expect(server.presented).toEqual([old.refresh]);
    const { credential } = await refreshAs(host, "main", unwanted());
    expect(credential.refresh).not.toBe(old.refresh);
  });
});

test("thirty processes with one expired login: one call, one token", async () => {
  const host = createHost({ main: expired() });
  const server = await startServer();
  const users = Array.from({ length: 30 }, () =>
    startProgram("client-user", {
      client: { provider: PROVIDER, profileId: PROFILE, refresh: at(server), ...host.as("main") },
      waits: true,
    }),
  );
  await Promise.all(users.map((user) => user.told({ type: "ready" })));
  for (const user of users) user.say("go");
  await Promise.all(users.map((user) => user.told({ type: "got" })));
  const given = users.flatMap(({ log }) => log.matching({ type: "got" }).map(({ access }) => access));
  expect(given).toHaveLength(30);
  expect(new Set(given).size).toBe(1);
  expect(server.requests).toHaveLength(1);
});

describe("an argument that makes no sense is refused at once:", () => {
  const right = { provider: PROVIDER, profileId: PROFILE, refresh: unwanted(), stateDir: "/state" };
  test.each([
    ["provider", { provider: undefined }],
    ["profileId", { profileId: " " }],
    ["swapped", { provider: PROFILE, profileId: PROVIDER }],
    ["refresh", { refresh: undefined }],
    ["tokenEndpoint", { refresh: { tokenEndpoint: "http://auth.example.test/token" } }],
    ["fetch", { fetch: "fetch" }],
    ["onError", { onError: {} }],
    ["signal", { signal: AbortSignal.abort() }],
    ["forceRefresh", { forceRefresh: true }],
    ["rejectedAccess", { rejectedAccess: "token" }],
    ["timeoutMs", { timeoutMs: "1s" }],
    ['did you mean "profileId"', { profileID: PROFILE }],
  ])("%s", async (named, wrong) => {
    const error = await typedRejection((async () => createOAuthClient({ ...right, ...wrong }))(), "invalid_argument");
    expect(error.message).toContain(named);
  });

  test.each([
    ["signal", { signal: {} }],
    ["rejectedAccess", { rejectedAccess: "" }],
    ["forceRefresh", { forceRefresh: true }],
  ])("of a call: %s", async (named, wrong) => {
    const client = createOAuthClient(right);
    const error = await typedRejection(client.token(wrong), "invalid_argument");
    expect(error.message).toContain(named);
  });
});
