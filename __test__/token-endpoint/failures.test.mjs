/**
 * Calls to a token endpoint that fail: what the caller is told, what the server saw, and what the next caller may do.
 */
import { describe, expect, test } from "vitest";
import { refreshOAuthToken } from "../../index.mjs";
import { expectFree, refreshAs, stopClock, typedRejection } from "../support/calls.mjs";
import { createHost, expired, storeText } from "../support/host.mjs";
import { token } from "../support/secrets.mjs";
import { at, ends, freePort, http, says, startServer } from "../support/token-server.mjs";
import { FAILURES } from "../vectors/endpoint-failures.mjs";

const NAMED = FAILURES.map((failure) => [failure.name, failure]);

/** The way to this failure. */
async function prepare({ script = () => {}, onConnection, request }) {
  const server = await startServer(script, { onConnection });
  return { server, request: at(server, typeof request === "function" ? await request() : request) };
}

function expectTold(error, { error: { class: failureClass, status, oauthError }, retryAfterMs }) {
  expect(error.refreshFailure.class).toBe(failureClass);
  expect({ status: error.status, oauthError: error.oauthError }).toEqual({ status, oauthError });
  expect(error.refreshFailure.retryAfterMs).toBe(error.retryAfterMs);
  if (!retryAfterMs) return expect(error).not.toHaveProperty("retryAfterMs");
  expect(error.retryAfterMs).toBeGreaterThan(retryAfterMs[0]);
  expect(error.retryAfterMs).toBeLessThanOrEqual(retryAfterMs[1]);
}

/** What the next caller may do, by class. `good` answers. */
const nextCall = {
  async not_sent({ ask, good, old }) {
    expect((await ask()).outcome).toBe("refreshed");
    expect(good.presented).toEqual([old.refresh]);
  },
  async uncertain({ ask, good, old }) {
    await typedRejection(ask({ uncertain: "fail" }), "refresh_uncertain");
    expect(good.requests).toEqual([]);
    expect((await ask()).outcome).toBe("refreshed");
    expect(good.presented).toEqual([old.refresh]);
  },
  async answered_dead({ ask, good, error }) {
    const told = await typedRejection(ask(), "grant_dead");
    expect(error.refreshFailure.message.replace(/ \d+ s ago/, "")).toBe(told.message.replace(/ \d+ s ago/, ""));
    expect(good.requests).toEqual([]);
  },
  async answered_unspent({ ask, good, old, retryAfterMs }) {
    const patience = retryAfterMs ? 10_000 : 200;
    const error = await typedRejection(ask({ timeoutMs: patience }), "refresh_backoff");
    expect(error.retryAfterMs).toBeGreaterThan(patience);
    expect(good.requests).toEqual([]);
    if (retryAfterMs) return;
    // Without a word from the server the pause is short, and who has the patience is served.
    expect((await ask()).outcome).toBe("refreshed");
    expect(good.presented).toEqual([old.refresh]);
  },
};

describe("a call that fails by", () => {
  test.each(NAMED)("%s", async (_, failure) => {
    const old = expired();
    const host = createHost({ main: old });
    const good = await startServer();
    const { server, request } = await prepare(failure);
    // Whoever was not reached is asked again while the caller has patience: this one has none.
    const isUnreachable = failure.error.code === "provider_unreachable";
    if (isUnreachable) stopClock();
    const timeoutMs = isUnreachable ? 200 : 60_000;
    // Nor is it to ask again in doubt, or where a gateway says that nothing was reached.
    const once = {
      uncertain: "fail",
      ...(failure.error.class === "not_sent" && { timeoutMs: Math.min(timeoutMs, 900) }),
    };
    const options = { timeoutMs, ...failure.options, ...once };
    const error = await typedRejection(refreshAs(host, "main", request, options), failure.error.code);
    expectTold(error, failure);
    expect(server.requests).toHaveLength(failure.requests ?? 1);
    expect(host.store("main")).toBe(storeText(old));
    await expectFree(host);

    const ask = (more) => refreshAs(host, "main", at(good), more);
    await nextCall[failure.error.class]({ ...failure, ask, good, old, error });
  });

  test.each(NAMED)("%s, made with refreshOAuthToken", async (_, failure) => {
    const { server, request } = await prepare(failure);
    const options = failure.options && { timeoutMs: failure.options.callTimeoutMs };
    const call = refreshOAuthToken({ ...request, refreshToken: token("refresh") }, options);
    expectTold(await typedRejection(call, failure.error.code), failure);
    expect(server.requests).toHaveLength(failure.requests ?? 1);
  });

  test("a connection reset before anything is read is told from one that is reset afterwards, or is uncertain", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const server = await startServer(undefined, { onConnection: (socket) => socket.resetAndDestroy() });
    const once = { timeoutMs: 3_000, uncertain: "fail" };
    const error = await refreshAs(host, "main", at(server), once).catch((error) => error);
    // It depends on who is faster; never is it taken for an answer.
    expect(["not_sent provider_unreachable", "uncertain provider_answer_lost"]).toContain(
      `${error.refreshFailure.class} ${error.code}`,
    );
    expect(host.store("main")).toBe(storeText(old));
  });
});

describe("a message says what happened, and what it means for the login:", () => {
  const UNKNOWN = "; it is not known yet whether the refresh token was used; a later call asks again";
  const UNSENT = "; nothing was sent, and the login is as it was";
  const LIMIT_MS = 1_000;

  test.each([
    ["nothing comes", () => {}, "127.0.0.1 did not answer within 1 s", UNKNOWN],
    [
      "the headers come",
      says(http(200, "", { "content-length": 9 })),
      "127.0.0.1 answered with status 200, and nothing more came within 1 s",
      UNKNOWN,
    ],
    [
      "the connection ends",
      (_, socket) => socket.end(),
      "the request was sent to 127.0.0.1, and no answer could be read (the connection was closed)",
      UNKNOWN,
    ],
    [
      "it ends within the answer",
      ends(http(200, "{", { "content-length": 9 })),
      "127.0.0.1 answered with status 200, and the rest was lost (the connection was closed)",
      UNKNOWN,
    ],
    [
      "what comes is no HTTP",
      ends(Buffer.from("220 mail.example.test ESMTP\r\n")),
      "the request was sent to 127.0.0.1, and no answer could be read (the answer is not HTTP, or its headers are too long)",
      UNKNOWN,
    ],
    [
      "there is no end of it",
      says(http(200, "x".repeat((1 << 20) + 1))),
      "127.0.0.1 answered with more than 1048576 bytes",
      UNKNOWN,
    ],
  ])("%s", async (_, script, what, then) => {
    const server = await startServer(script);
    const call = refreshOAuthToken(at(server, { refreshToken: token("refresh") }), { timeoutMs: LIMIT_MS });
    const error = await call.catch((error) => error);
    expect(error.message).toBe(`${what}${then}`);
  });

  test("nobody is there", async () => {
    const call = refreshOAuthToken({
      tokenEndpoint: `http://127.0.0.1:${await freePort()}/token`,
      clientId: "client",
      refreshToken: token("refresh"),
    });
    const { message } = await typedRejection(call, "provider_unreachable");
    expect(message).toMatch(/^127\.0\.0\.1 was not reached \(.*refused.*\); nothing/);
    expect(message.endsWith(UNSENT)).toBe(true);
  });
});

describe("a redirect", () => {
  test.each([
    [301, "answered_unspent"],
    [302, "answered_unspent"],
    [303, "uncertain"],
    [307, "answered_unspent"],
    [308, "answered_unspent"],
  ])("with status %i is not followed", async (status, failureClass) => {
    const old = expired();
    const host = createHost({ main: old });
    const elsewhere = await startServer();
    const server = await startServer(says(http(status, "", { location: elsewhere.url })));
    const error = await typedRejection(refreshAs(host, "main", at(server), { uncertain: "fail" }), "provider_refused");
    expect({ status: error.status, class: error.refreshFailure.class }).toEqual({ status, class: failureClass });
    expect(server.requests).toHaveLength(1);
    expect(elsewhere.connections).toBe(0);
    expect(host.store("main")).toBe(storeText(old));
  });
});
