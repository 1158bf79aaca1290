/**
 * Errors of refresh functions, in the shapes that clients and runtimes give them: what the next caller may do after each.
 */
import http2 from "node:http2";
import { createServer } from "node:net";
import tls from "node:tls";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { refreshAs } from "./support/calls.mjs";
import { createHost, expired, MINUTE } from "./support/host.mjs";
import { rejection, typedRejection } from "./support/rejections.mjs";
import { at, http, json, says, startServer } from "./support/token-server.mjs";

/** What a refresh that fails with this tells of it, beside the token that is still good: who has none waits for what passes. */
async function failure(thrown, options) {
  const host = createHost({ main: expired({ expires: Date.now() + MINUTE }) });
  const refresh = async () => {
    throw typeof thrown === "function" ? await thrown() : thrown;
  };
  return (await refreshAs(host, "main", refresh, options)).refreshError.refreshFailure;
}

const error = (fields, message = "the request failed", cause) =>
  Object.assign(new Error(message, cause === undefined ? undefined : { cause }), fields);
const fetchFailed = (cause) => new TypeError("fetch failed", { cause });
const named = (name, fields, message) => error({ ...fields, name }, message);

/** As the MCP SDK's classes have it. */
class OAuthError extends Error {
  get errorCode() {
    return /** @type {any} */ (this.constructor).errorCode;
  }
}
class InvalidGrantError extends OAuthError {
  static errorCode = "invalid_grant";
}
class TooManyRequestsError extends OAuthError {
  static errorCode = "too_many_requests";
}

const GRANT = { error: "invalid_grant", error_description: "The refresh token is invalid or expired." };
const unread = (body, init = { status: 400 }) => new Response(body, init);

const CLIENTS = [
  ["the MCP SDK: invalid_grant", new InvalidGrantError("Unknown refresh token"), "answered_dead"],
  ["the MCP SDK: too many requests", new TooManyRequestsError("Slow down"), "answered_unspent"],
  [
    "the MCP SDK: no OAuth answer with status 429",
    error({ errorCode: "server_error" }, "HTTP 429: Invalid OAuth error response: SyntaxError. Raw body: <html>"),
    "answered_unspent",
  ],
  ["MSAL", named("ServerError", { errorCode: "invalid_grant", errorNo: "700082", status: 400 }), "answered_dead"],
  [
    "MSAL: a throttled client",
    named("ServerError", { errorCode: "invalid_grant", errorNo: "50196", status: 400 }),
    "answered_unspent",
  ],
  [
    "MSAL: interaction required",
    named("InteractionRequiredAuthError", { errorCode: "interaction_required", subError: "basic_action" }),
    "answered_dead",
  ],
  [
    "oauth4webapi and openid-client 6",
    error({ code: "OAUTH_RESPONSE_BODY_ERROR", error: "invalid_grant", status: 400 }, "x", GRANT),
    "answered_dead",
  ],
  [
    "openid-client 6: an answer that is none",
    error(
      { code: "OAUTH_RESPONSE_IS_NOT_CONFORM" },
      "unexpected HTTP response status code",
      unread("", { status: 502 }),
    ),
    "uncertain",
  ],
  ["openid-client 5", named("OPError", { ...GRANT, response: { statusCode: 400, body: GRANT } }), "answered_dead"],
  [
    "simple-oauth2",
    error({ isBoom: true, output: { statusCode: 400 }, data: { isResponseError: true, payload: GRANT } }),
    "answered_dead",
  ],
  [
    "simple-oauth2: 503",
    error({ output: { statusCode: 503 }, data: { isResponseError: true, payload: "" } }),
    "answered_unspent",
  ],
  [
    "simple-oauth2: refused, for which Boom makes up a status",
    error({ output: { statusCode: 502 }, code: "ECONNREFUSED", syscall: "connect" }),
    "not_sent",
  ],
  [
    "google-auth-library",
    error({ code: "400", status: 400, response: { status: 400, data: GRANT } }, "invalid_grant"),
    "answered_dead",
  ],
  ["axios", named("AxiosError", { code: "ERR_BAD_REQUEST", response: { status: 400, data: GRANT } }), "answered_dead"],
  [
    "axios: refused",
    named("AxiosError", { code: "ECONNREFUSED", cause: error({ code: "ECONNREFUSED", syscall: "connect" }) }),
    "not_sent",
  ],
  ["axios: timed out", named("AxiosError", { code: "ECONNABORTED" }, "timeout of 1000ms exceeded"), "uncertain"],
  [
    "got",
    named("HTTPError", {
      code: "ERR_NON_2XX_3XX_RESPONSE",
      response: { statusCode: 400, body: JSON.stringify(GRANT) },
    }),
    "answered_dead",
  ],
  [
    "axios, asked for bytes",
    error({ response: { status: 400, data: Buffer.from(JSON.stringify(GRANT)) } }),
    "answered_dead",
  ],
  ["got: no connection in time", named("TimeoutError", { code: "ETIMEDOUT", event: "connect" }), "not_sent"],
  ["got: no answer in time", named("TimeoutError", { code: "ETIMEDOUT", event: "response" }), "uncertain"],
  ["ky, its answer unread", () => named("HTTPError", { response: unread(JSON.stringify(GRANT)) }), "answered_dead"],
  ["ky: 503", () => named("HTTPError", { response: unread("busy", { status: 503 }) }), "answered_unspent"],
  ["ofetch", named("FetchError", { statusCode: 400, data: GRANT, response: { _data: GRANT } }), "answered_dead"],
  ["superagent", error({ status: 400, response: { body: GRANT, text: JSON.stringify(GRANT) } }), "answered_dead"],
  ["node-fetch: refused", named("FetchError", { type: "system", code: "ECONNREFUSED", errno: "x" }), "not_sent"],
  ["a form in a text", error({ status: 200, body: "error=bad_refresh_token&error_uri=x" }), "answered_dead"],
  ["jsforce: busy", named("invalid_grant", {}, "token request is already being processed"), "answered_unspent"],
  ["jsforce: refused", named("invalid_grant", {}, "expired access/refresh token"), "answered_dead"],
  [
    "Microsoft's conditional access",
    error({ status: 400, data: { error: "invalid_grant", error_codes: [53003], suberror: "message_only" } }),
    "answered_unspent",
  ],
  ["another API's session", error({ code: "session_expired" }, "vault: denied"), "uncertain"],
  ["a gateway's session", error({ status: 401, data: { error: "session_expired" } }), "answered_unspent"],
  ["a proxy's login", error({ status: 407, data: { error: "login_required" } }), "answered_unspent"],
  [
    "a member's name",
    error({ status: 400, data: '{"error":"server_error","refresh_token_reused":false}' }),
    "answered_unspent",
  ],
  ["a link in a page", error({ status: 404, data: '<a href="/docs#refresh_token_reused">x</a>' }), "answered_unspent"],
  [
    "a page with the sentence",
    error({ status: 400, data: "<p>refresh token has already been used</p>" }),
    "answered_unspent",
  ],
  ["a database's list", error({ errors: [{ code: "invalid", field: "refresh_token" }] }), "uncertain"],
  ["an answer, thrown as it is", () => unread(JSON.stringify(GRANT)), "answered_dead"],
  ["an OpenAI client", error({ status: 401, error: { code: "refresh_token_reused", type: "x" } }), "answered_dead"],
  [
    "an AWS client",
    named("NotAuthorizedException", { $metadata: { httpStatusCode: 400 } }, "Refresh Token has expired"),
    "answered_dead",
  ],
  [
    "an AWS client that is throttled",
    named("TooManyRequestsException", { $metadata: { httpStatusCode: 400 } }, "Rate exceeded"),
    "answered_unspent",
  ],
  ["Supabase's client", named("AuthApiError", { status: 400, code: "refresh_token_already_used" }), "answered_dead"],
  [
    "Slack's client",
    error({ code: "slack_webapi_platform_error", data: { ok: false, error: "invalid_refresh_token" } }),
    "answered_dead",
  ],
  ["discord.js", error({ status: 400, code: 0, rawError: GRANT }), "answered_dead"],
  ["arctic", named("OAuth2RequestError", { code: "invalid_grant", description: "x" }), "answered_dead"],
  [
    "pi-ai: the body in the message, twice",
    new Error(
      'Anthropic token refresh request failed. details=Error: HTTP request failed. status=400; body={"error": "invalid_grant"}; ' +
        'stack=Error: HTTP request failed. status=400; body={"error": "invalid_grant"} at f ({x})',
    ),
    "answered_dead",
  ],
];

const CONNECTIONS = [
  [
    "a proxy that refuses the tunnel",
    fetchFailed(named("AbortError", { code: "UND_ERR_ABORTED" }, "Proxy response (407) !== 200 when HTTP Tunneling")),
    "not_sent",
  ],
  ["a request that was aborted", named("AbortError", { code: "UND_ERR_ABORTED" }, "Request aborted"), "uncertain"],
  ["a proxy without TLS", fetchFailed(error({ code: "UND_ERR_PRX_TLS" })), "not_sent"],
  ["Node's own proxy", error({ code: "ERR_PROXY_TUNNEL", statusCode: undefined }), "not_sent"],
  ["a DNS query", error({ code: "ENOTFOUND", syscall: "queryA" }), "not_sent"],
  [
    "Bun: refused",
    error({ code: "ConnectionRefused", errno: 0, path: "http://127.0.0.1:1/" }, "Unable to connect."),
    "not_sent",
  ],
  ["Bun: closed", error({ code: "ConnectionClosed" }, "The socket connection was closed unexpectedly."), "uncertain"],
  [
    "Deno: refused",
    new TypeError(
      "error sending request for url (http://127.0.0.1:1/): client error (Connect): tcp connect error: refused",
    ),
    "not_sent",
  ],
  [
    "Deno: reset",
    new TypeError(
      "error sending request from 127.0.0.1:5 for http://127.0.0.1:1/ (127.0.0.1:1): client error (SendRequest): x",
    ),
    "uncertain",
  ],
  [
    "Deno's words, of something else",
    new Error("error sending request for url (http://10.0.0.1/): client error (Connect): tcp connect error"),
    "uncertain",
  ],
  ["refused, after a reset", error({ code: "ECONNREFUSED" }, "gave up", error({ code: "ECONNRESET" })), "uncertain"],
  ["a refused code of another call", error({ code: "ECONNREFUSED", syscall: "read" }), "uncertain"],
  [
    "a reset before TLS is there",
    error({ code: "ECONNRESET" }, "Client network socket disconnected before secure TLS connection was established"),
    "not_sent",
  ],
];

const WORDS = [
  "Token refresh failed: upstream connect error or disconnect/reset before headers. reset reason: connection termination",
  "Token refresh failed: upstream request timeout",
  "fetch failed",
  `Unexpected token 'C', "Connect ex"... is not valid JSON`,
  "socket hang up",
  "connect ECONNREFUSED 127.0.0.1:443",
  "request to https://auth.example/ failed, reason: getaddrinfo ENOTFOUND auth.example",
  "Client network socket disconnected before secure TLS connection was established",
  "Token refresh failed (521)",
  "request to https://auth.example/token failed: 443 timed out",
  "read from auth.example (443) failed",
  "gave up (450)",
  "token received, but saving it failed: 404 from vault",
  "Token refresh failed: the answer was not invalid_grant",
  "Invalid refresh token",
].map((message) => [message, new Error(message), "uncertain"]);

const STATUSES = [
  [511, "not_sent"],
  [521, "not_sent"],
  [522, "not_sent"],
  [523, "not_sent"],
  [525, "not_sent"],
  [526, "not_sent"],
  [530, "not_sent"],
  [529, "answered_unspent"],
  [307, "answered_unspent"],
  [404, "answered_unspent"],
  [408, "uncertain"],
  [500, "uncertain"],
  [502, "uncertain"],
  [504, "uncertain"],
  [507, "uncertain"],
  [520, "uncertain"],
  [524, "uncertain"],
].map(([status, expected]) => [`status ${status}`, error({ status }), expected]);

const CHAINS = [
  ["400 in a 500 of the application", error({ status: 500 }, "x", error({ status: 400, ...GRANT })), "answered_dead"],
  ["502 in what a wrapper calls dead", error({ status: 400, ...GRANT }, "x", error({ status: 502 })), "uncertain"],
  ["a 502 that quotes a body", new Error(`Token refresh failed (502): ${JSON.stringify(GRANT)}`), "uncertain"],
  ["words of a status, of a reset", error({ code: "ECONNRESET" }, "auth.example (401)"), "uncertain"],
  ["what a reset quotes", error({ code: "ECONNRESET" }, JSON.stringify(GRANT)), "uncertain"],
  ["status 503 in words", new Error("Token refresh failed with status 503"), "answered_unspent"],
  ["HTTP 429 in words", new Error("HTTP 429: slow down"), "answered_unspent"],
  ["(401) in words", new Error("Token refresh failed (401)"), "answered_unspent"],
  ["429 with invalid_grant", error({ status: 429, ...GRANT }), "answered_unspent"],
  [
    "several refused connections",
    new AggregateError([error({ syscall: "connect" }), error({ syscall: "connect" })]),
    "not_sent",
  ],
  ["a refusal, and nobody there", new AggregateError([error(GRANT), error({ code: "ENOTFOUND" })]), "answered_dead"],
  ["a refusal, and a reset", new AggregateError([error(GRANT), error({ code: "ECONNRESET" })]), "uncertain"],
];

describe("an error is classified by", () => {
  test.each(CLIENTS)("its client's shape: %s", async (_, thrown, expected) => {
    expect((await failure(thrown)).class).toBe(expected);
  });
  test.each(CONNECTIONS)("its typed cause: %s", async (_, thrown, expected) => {
    expect((await failure(thrown)).class).toBe(expected);
  });
  test.each(WORDS)("nothing that its message says: %s", async (_, thrown, expected) => {
    expect((await failure(thrown)).class).toBe(expected);
  });
  test.each(STATUSES)("%s", async (_, thrown, expected) => {
    expect((await failure(thrown)).class).toBe(expected);
  });
  test.each(CHAINS)("what is nearest to the wire, and leaves most in doubt: %s", async (_, thrown, expected) => {
    expect((await failure(thrown)).class).toBe(expected);
  });
});

test("an error that holds itself, and one that holds too many, are uncertain", async () => {
  const own = new AggregateError([error(GRANT)]);
  own.errors.push(own, own);
  expect((await failure(own)).class).toBe("uncertain");
  const many = new AggregateError(Array.from({ length: 1000 }, () => error(GRANT)));
  expect((await failure(many)).class).toBe("uncertain");
});

describe("an error of Node's own", () => {
  test("for a stream that an HTTP/2 server refuses is not_sent", async () => {
    const server = http2.createServer();
    server.on("stream", (stream) => {
      stream.on("error", () => {});
      stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const session = http2.connect(`http://127.0.0.1:${server.address().port}`);
    onTestFinished(() => {
      session.destroy();
      server.close();
    });
    const refused = () =>
      new Promise((resolve) => session.request({ ":method": "POST" }).on("error", resolve).end("refresh_token=r"));
    expect((await failure(refused)).class).toBe("not_sent");
  });

  test("for a server that hangs up before TLS is there is not_sent", async () => {
    const server = createServer((socket) => socket.once("data", () => socket.end()));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void server.close());
    const hungUp = () => new Promise((resolve) => tls.connect({ port: server.address().port }).on("error", resolve));
    expect((await failure(hungUp)).class).toBe("not_sent");
  });
});

describe("an answer that nobody has read", () => {
  test("can still be read by who handed it on", async () => {
    const response = unread(JSON.stringify(GRANT));
    expect((await failure(() => error({ response }))).class).toBe("answered_dead");
    expect(await response.json()).toEqual(GRANT);
  });

  test("and does not end is classified by its status", async () => {
    const response = new Response(new ReadableStream({ start: (stream) => stream.enqueue(Buffer.from("{")) }), {
      status: 400,
    });
    expect((await failure(() => error({ response }))).class).toBe("answered_unspent");
  });

  test("and is endless is read no further than a body goes", async () => {
    let given = 0;
    const endless = new ReadableStream({
      pull(stream) {
        given += 1;
        stream.enqueue(Buffer.alloc(1 << 14, "x"));
      },
    });
    expect((await failure(() => error({ response: new Response(endless, { status: 502 }) }))).class).toBe("uncertain");
    expect(given).toBeLessThan(20);
  });
});

describe("the pause that a provider asks for is told as it is made", () => {
  const inAnHour = () => new Date(Date.now() + 7_200_000).toUTCString();
  test.each([
    ["Headers", { headers: new Headers({ "retry-after": "20" }) }, 20_000],
    ["an object, in any case", { response: { status: 429, headers: { "Retry-After": "20" } } }, 20_000],
    ["a list", { response: { status: 429, headers: { "retry-after": ["20"] } } }, 20_000],
    ["a Map", { headers: new Map([["retry-after", "20"]]) }, 20_000],
    ["simple-oauth2's place", { data: { headers: { "retry-after": "20" } } }, 20_000],
    ["a number", { headers: { "retry-after": 20 } }, 20_000],
    ["retryAfterMs", { retryAfterMs: 20_000 }, 20_000],
    ["a date, at most an hour", { headers: { "retry-after": inAnHour() } }, 3_600_000],
    ["nothing at all, at least a second", { headers: { "retry-after": "0" } }, 1_000],
    ["a day, at most an hour", { headers: { "retry-after": "86400" } }, 3_600_000],
    ["a number without end", { headers: { "retry-after": "9".repeat(400) } }, 3_600_000],
    ["nonsense", { headers: { "retry-after": "soon" } }, undefined],
  ])("%s", async (_, fields, expected) => {
    expect(await failure(error({ status: 429, ...fields }))).toEqual({
      class: "answered_unspent",
      ...(expected && { retryAfterMs: expected }),
    });
  });
});

describe("a host's own classification", () => {
  test.each(["not_sent", "answered_unspent", "answered_dead", "uncertain"])("may say %s", async (word) => {
    const thrown = error({ ours: word, status: word === "uncertain" ? 429 : 502 });
    const told = await failure(thrown, { classify: (seen) => /** @type {any} */ (seen).ours });
    expect(told.class).toBe(word);
  });

  test.each([
    ["has no word", () => undefined],
    [
      "throws",
      () => {
        throw new Error("a bug");
      },
    ],
    ["talks nonsense", () => /** @type {any} */ ("dead")],
    ["is asynchronous", /** @type {any} */ (async () => "answered_dead")],
  ])("that %s leaves the word to us", async (_, classify) => {
    expect(await failure(error({ status: 429, retryAfterMs: 5_000 }), { classify })).toEqual({
      class: "answered_unspent",
      retryAfterMs: 5_000,
    });
  });

  test("that is asynchronous and rejects leaves the word to us, and the process alive", async () => {
    const unhandled = vi.fn();
    process.on("unhandledRejection", unhandled);
    onTestFinished(() => void process.off("unhandledRejection", unhandled));
    const classify = /** @type {any} */ (() => Promise.reject(new Error("a bug")));
    expect((await failure(error({ status: 429 }), { classify })).class).toBe("answered_unspent");
    // Node tells of it when the microtasks are done.
    await new Promise(setImmediate);
    expect(unhandled).not.toHaveBeenCalled();
  });

  test("keeps the pause that the provider asked for", async () => {
    const thrown = error({ status: 502, headers: { "retry-after": "7" } });
    expect(await failure(thrown, { classify: () => "answered_unspent" })).toEqual({
      class: "answered_unspent",
      retryAfterMs: 7_000,
    });
  });

  test("that is no function is refused", async () => {
    const call = refreshAs(createHost({ main: expired() }), "main", () => null, /** @type {any} */ ({ classify: {} }));
    await typedRejection(call, "invalid_argument");
  });
});

describe("a provider's own codes, given with its token endpoint,", () => {
  const own = { dead: ["E17"], unspent: ["invalid_grant"] };
  test.each([
    ["end a login, with any status", json({ code: "e17" }, 500), "answered_dead", "e17"],
    ["spare one", json({ error: "invalid_grant" }, 400), "answered_unspent", "invalid_grant"],
    ["and no others change nothing", http(502), "uncertain", undefined],
  ])("%s", async (_, answer, expected, oauthError) => {
    const host = createHost({ main: expired() });
    const server = await startServer(says(answer));
    const call = refreshAs(host, "main", at(server, { classify: own }), { timeoutMs: 2_000 });
    const told = await typedRejection(call, "provider_refused");
    expect({ class: told.refreshFailure.class, oauthError: told.oauthError }).toEqual({ class: expected, oauthError });
  });

  test.each([
    ["a text", "E17"],
    ["a list", ["E17"]],
    ["an unknown class", { uncertain: ["E17"] }],
    ["a class without a list", { dead: "E17" }],
    ["a blank code", { dead: [" "] }],
  ])("are refused as %s", async (_, classify) => {
    const server = await startServer();
    const call = refreshAs(createHost({ main: expired() }), "main", at(server, { classify }));
    await typedRejection(call, "invalid_argument");
    expect(server.connections).toBe(0);
  });
});

describe("what a refusal by a token endpoint says", () => {
  test.each([
    [
      json(GRANT, 400),
      '127.0.0.1 answered with status 400 "invalid_grant"; the refresh token is refused for good; log in again',
    ],
    [
      http(502),
      "127.0.0.1 answered with status 502; it is not known yet whether the refresh token was used; a later call asks again",
    ],
    [
      http(429),
      "127.0.0.1 answered with status 429; the refresh token was not used; the provider is asked again after a pause",
    ],
    [
      json({ error: "invalid_client" }, 401),
      '127.0.0.1 answered with status 401 "invalid_client"; the refresh token was not used; check tokenEndpoint and the client',
    ],
    [
      http(521),
      "127.0.0.1 answered with status 521; a gateway did not reach the provider, so the refresh token was not used; a later call asks again",
    ],
    [
      http(308),
      "127.0.0.1 answered with status 308; redirects are not followed, so the refresh token was not used; correct tokenEndpoint",
    ],
  ])("%#", async (answer, expected) => {
    const server = await startServer(says(answer));
    const call = refreshAs(createHost({ main: expired() }), "main", at(server), { timeoutMs: 300 });
    expect((await rejection(call)).message).toBe(expected);
  });
});
