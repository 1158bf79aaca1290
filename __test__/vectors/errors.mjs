/** What refresh functions throw, in the shapes that clients and runtimes give it, and its class: one case a line. */
export const error = (fields, message = "the request failed", cause) => Object.assign(new Error(message, cause === undefined ? undefined : { cause }), fields);
const fetchFailed = (cause) => new TypeError("fetch failed", { cause });
const named = (name, fields, message) => error({ ...fields, name }, message);

/** As the MCP SDK's classes have it. */
class OAuthError extends Error {
  get errorCode() {
    return this.constructor.errorCode;
  }
}
class InvalidGrantError extends OAuthError {
  static errorCode = "invalid_grant";
}
class TooManyRequestsError extends OAuthError {
  static errorCode = "too_many_requests";
}

export const GRANT = { error: "invalid_grant", error_description: "The refresh token is invalid or expired." };
export const unread = (body, init = { status: 400 }) => new Response(body, init);

const CLIENTS = [
  ["the MCP SDK: invalid_grant", new InvalidGrantError("Unknown refresh token"), "answered_dead"],
  ["the MCP SDK: too many requests", new TooManyRequestsError("Slow down"), "answered_unspent"],
  ["the MCP SDK: no OAuth answer with status 429", error({ errorCode: "server_error" }, "HTTP 429: Invalid OAuth error response: SyntaxError. Raw body: <html>"), "answered_unspent"],
  ["MSAL", named("ServerError", { errorCode: "invalid_grant", errorNo: "700082", status: 400 }), "answered_dead"],
  ["MSAL: a throttled client", named("ServerError", { errorCode: "invalid_grant", errorNo: "50196", status: 400 }), "answered_unspent"],
  ["MSAL: interaction required", named("InteractionRequiredAuthError", { errorCode: "interaction_required", subError: "basic_action" }), "answered_dead"],
  ["oauth4webapi and openid-client 6", error({ code: "OAUTH_RESPONSE_BODY_ERROR", error: "invalid_grant", status: 400 }, "x", GRANT), "answered_dead"],
  ["openid-client 6: an answer that is none", error({ code: "OAUTH_RESPONSE_IS_NOT_CONFORM" }, "unexpected HTTP response status code", unread("", { status: 502 })), "uncertain"],
  ["openid-client 5", named("OPError", { ...GRANT, response: { statusCode: 400, body: GRANT } }), "answered_dead"],
  ["simple-oauth2", error({ isBoom: true, output: { statusCode: 400 }, data: { isResponseError: true, payload: GRANT } }), "answered_dead"],
  ["simple-oauth2: 503", error({ output: { statusCode: 503 }, data: { isResponseError: true, payload: "" } }), "answered_unspent"],
  ["simple-oauth2: refused, for which Boom makes up a status", error({ output: { statusCode: 502 }, code: "ECONNREFUSED", syscall: "connect" }), "not_sent"],
  ["google-auth-library", error({ code: "400", status: 400, response: { status: 400, data: GRANT } }, "invalid_grant"), "answered_dead"],
  ["axios", named("AxiosError", { code: "ERR_BAD_REQUEST", response: { status: 400, data: GRANT } }), "answered_dead"],
  ["axios: refused", named("AxiosError", { code: "ECONNREFUSED", cause: error({ code: "ECONNREFUSED", syscall: "connect" }) }), "not_sent"],
  ["axios: timed out", named("AxiosError", { code: "ECONNABORTED" }, "timeout of 1000ms exceeded"), "uncertain"],
  [
    "got",
    named("HTTPError", {
      code: "ERR_NON_2XX_3XX_RESPONSE",
      response: { statusCode: 400, body: JSON.stringify(GRANT) },
    }),
    "answered_dead",
  ],
  ["axios, asked for bytes", error({ response: { status: 400, data: Buffer.from(JSON.stringify(GRANT)) } }), "answered_dead"],
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
  ["Microsoft's conditional access", error({ status: 400, data: { error: "invalid_grant", error_codes: [53003], suberror: "message_only" } }), "answered_unspent"],
  ["another API's session", error({ code: "session_expired" }, "vault: denied"), "uncertain"],
  ["a gateway's session", error({ status: 401, data: { error: "session_expired" } }), "answered_unspent"],
  ["a proxy's login", error({ status: 407, data: { error: "login_required" } }), "answered_unspent"],
  ["a member's name", error({ status: 400, data: '{"error":"server_error","refresh_token_reused":false}' }), "answered_unspent"],
  ["a link in a page", error({ status: 404, data: '<a href="/docs#refresh_token_reused">x</a>' }), "answered_unspent"],
  ["a page with the sentence", error({ status: 400, data: "<p>refresh token has already been used</p>" }), "answered_unspent"],
  ["a database's list", error({ errors: [{ code: "invalid", field: "refresh_token" }] }), "uncertain"],
  ["an answer, thrown as it is", () => unread(JSON.stringify(GRANT)), "answered_dead"],
  ["an OpenAI client", error({ status: 401, error: { code: "refresh_token_reused", type: "x" } }), "answered_dead"],
  ["an AWS client", named("NotAuthorizedException", { $metadata: { httpStatusCode: 400 } }, "Refresh Token has expired"), "answered_dead"],
  ["an AWS client that is throttled", named("TooManyRequestsException", { $metadata: { httpStatusCode: 400 } }, "Rate exceeded"), "answered_unspent"],
  ["Supabase's client", named("AuthApiError", { status: 400, code: "refresh_token_already_used" }), "answered_dead"],
  ["Slack's client", error({ code: "slack_webapi_platform_error", data: { ok: false, error: "invalid_refresh_token" } }), "answered_dead"],
  ["discord.js", error({ status: 400, code: 0, rawError: GRANT }), "answered_dead"],
  ["arctic", named("OAuth2RequestError", { code: "invalid_grant", description: "x" }), "answered_dead"],
  ["pi-ai: the body in the message, twice", new Error('Anthropic token refresh request failed. details=Error: HTTP request failed. status=400; body={"error": "invalid_grant"}; ' + 'stack=Error: HTTP request failed. status=400; body={"error": "invalid_grant"} at f ({x})'), "answered_dead"],
];

const CONNECTIONS = [
  ["a proxy that refuses the tunnel", fetchFailed(named("AbortError", { code: "UND_ERR_ABORTED" }, "Proxy response (407) !== 200 when HTTP Tunneling")), "not_sent"],
  ["a request that was aborted", named("AbortError", { code: "UND_ERR_ABORTED" }, "Request aborted"), "uncertain"],
  ["a proxy without TLS", fetchFailed(error({ code: "UND_ERR_PRX_TLS" })), "not_sent"],
  ["Node's own proxy", error({ code: "ERR_PROXY_TUNNEL", statusCode: undefined }), "not_sent"],
  ["a DNS query", error({ code: "ENOTFOUND", syscall: "queryA" }), "not_sent"],
  ["Bun: refused", error({ code: "ConnectionRefused", errno: 0, path: "http://127.0.0.1:1/" }, "Unable to connect."), "not_sent"],
  ["Bun: closed", error({ code: "ConnectionClosed" }, "The socket connection was closed unexpectedly."), "uncertain"],
  ["Deno: refused", new TypeError("error sending request for url (http://127.0.0.1:1/): client error (Connect): tcp connect error: refused"), "not_sent"],
  ["Deno: reset", new TypeError("error sending request from 127.0.0.1:5 for http://127.0.0.1:1/ (127.0.0.1:1): client error (SendRequest): x"), "uncertain"],
  ["Deno's words, of something else", new Error("error sending request for url (http://10.0.0.1/): client error (Connect): tcp connect error"), "uncertain"],
  ["refused, after a reset", error({ code: "ECONNREFUSED" }, "gave up", error({ code: "ECONNRESET" })), "uncertain"],
  ["a refused code of another call", error({ code: "ECONNREFUSED", syscall: "read" }), "uncertain"],
  ["a reset before TLS is there", error({ code: "ECONNRESET" }, "Client network socket disconnected before secure TLS connection was established"), "not_sent"],
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
  ["several refused connections", new AggregateError([error({ syscall: "connect" }), error({ syscall: "connect" })]), "not_sent"],
  ["a refusal, and nobody there", new AggregateError([error(GRANT), error({ code: "ENOTFOUND" })]), "answered_dead"],
  ["a refusal, and a reset", new AggregateError([error(GRANT), error({ code: "ECONNRESET" })]), "uncertain"],
];

const cause = (fields, more) => Object.assign(new TypeError("fetch failed", { cause: Object.assign(new Error("x"), fields) }), more);
const body = (data) => Object.assign(new Error("failed"), { response: { status: 400, data } });

const MIXED = [
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
  ["OpenClaw's phrase", new Error('failed: {"message":"Your refresh token has already been used to generate a new access token."}'), "answered_dead"],
  ["a reuse code in a message", new Error('Token refresh failed (401): {"error":{"code":"refresh_token_expired"}}'), "answered_dead"],
  ["a text body", Object.assign(new Error("x"), { response: { status: 400, body: '{"error":"invalid_grant"}' } }), "answered_dead"],
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
      get: () => {
        throw new Error("no");
      },
    }),
    "uncertain",
  ],
  ["nothing known", new Error("whatever"), "uncertain"],
  ["a frozen error", Object.freeze(new Error("whatever")), undefined],
];

/** By what tells the class. */
export const ERRORS = {
  "its client's shape": CLIENTS,
  "its typed cause": CONNECTIONS,
  "nothing that its message says": WORDS,
  "its status": STATUSES,
  "what is nearest to the wire, and leaves most in doubt": CHAINS,
  "what it holds": MIXED,
};
