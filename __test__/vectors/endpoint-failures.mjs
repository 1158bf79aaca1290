/** Everything that can go wrong with a call to a token endpoint, and what is to come of it. */
import { freePort, http, json, says, tokens } from "../support/token-server.mjs";

const html = (status, headers) => http(status, "<html><body>Sorry</body></html>", { "content-type": "text/html", ...headers });
const HOUR_SECONDS = 3600;
/** More than fits into the buffers between a client and a server that does not read. */
const HUGE = "x".repeat(16 << 20);
const GARBAGE = "garbage ".repeat(1 << 18);
const DEPTH = 10_000;
const deep = `${'{"a":'.repeat(DEPTH)}1${"}".repeat(DEPTH)}`;
const CALL_LIMIT_MS = 1_000;

const refused = (failure, status, oauthError) => ({ code: "provider_refused", class: failure, status, oauthError });
const dead = (status, oauthError) => refused("answered_dead", status, oauthError);
const unspent = (status, oauthError) => refused("answered_unspent", status, oauthError);
const unclear = (status, oauthError) => refused("uncertain", status, oauthError);
const invalid = (status = 200) => ({ code: "provider_answer_invalid", class: "uncertain", status });
const lost = (status) => ({ code: "provider_answer_lost", class: "uncertain", status });
const timedOut = { code: "refresh_call_timeout", class: "uncertain" };
const unreachable = { code: "provider_unreachable", class: "not_sent" };

const reset = (_, socket) => socket.resetAndDestroy();
/** Writes this, and resets the connection once the client has had it. */
const thenReset = (bytes) => (_, socket) => socket.write(bytes, () => setImmediate(() => socket.resetAndDestroy()));
const cutOff = (status, value) => {
  const bytes = json(value ?? tokens(), status);
  return (_, socket) => socket.end(bytes.subarray(0, bytes.length - 20));
};

/** Answers one byte at a time, forever. */
function drips(_, socket) {
  socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
  const timer = setInterval(() => socket.write("x"), 10);
  socket.once("close", () => clearInterval(timer));
}

/** Reads the beginning of what comes, and not the rest. */
function resetsEarly(socket) {
  socket.once("data", () => socket.resetAndDestroy());
}

/**
 * @typedef {object} Failure
 * @property {string} name
 * @property {import("../support/token-server.mjs").TokenServer["script"]} [script]
 * @property {(socket: import("node:net").Socket) => void} [onConnection]
 * @property {object | (() => Promise<object>)} [request] more of the request
 * @property {object} [options] of the call
 * @property {{ code: string, class: string, status?: number, oauthError?: string }} error
 * @property {number | [number, number]} [retryAfterMs] at least and at most
 * @property {number} [requests] how many reach the server whole; 1 if not given
 */

/** @type {Failure[]} the server refuses, or its answer is of no use */
const ANSWERED = [
  ["invalid_grant", json({ error: "invalid_grant" }, 400), dead(400, "invalid_grant")],
  ["GitHub's bad_refresh_token, with status 200", json({ error: "bad_refresh_token" }), dead(200, "bad_refresh_token")],
  ["OpenAI's refresh_token_reused", json({ error: { message: "Your refresh token has already been used", code: "refresh_token_reused" } }, 401), dead(401, "refresh_token_reused")],
  ["a reused token, in a description", json({ message: "Refresh token has already been used." }, 401), dead(401)],
  ["a page that tells of reused tokens", http(401, "<p>Refresh token has already been used.</p>"), unspent(401)],
  ["a form with bad_refresh_token", http(200, "error=bad_refresh_token&error_uri=x"), dead(200, "bad_refresh_token")],
  ["invalid_client", json({ error: "invalid_client" }, 401), unspent(401, "invalid_client")],
  ["invalid_request", json({ error: "invalid_request" }, 400), unspent(400, "invalid_request")],
  ["GitHub's incorrect_client_credentials, with status 200", json({ error: "incorrect_client_credentials" }), unspent(200, "incorrect_client_credentials")],
  ["404 with HTML", html(404), unspent(404)],
  ["400 that is cut off", cutOff(400, { error: "invalid_grant" }), unspent(400)],
  ["408", html(408), unclear(408)],
  ["500", http(500), unclear(500)],
  ["500 with invalid_grant", json({ error: "invalid_grant" }, 500), unclear(500, "invalid_grant")],
  ["502 with HTML", html(502), unclear(502)],
  ["500 with tokens", json(tokens(), 500), unclear(500)],
  ["an error code that is no code", json({ error: tokens().access_token }), invalid()],
  ["200 with HTML", html(200), invalid()],
  ["200 with nothing", http(200), invalid()],
  ["204", http(204, "", { "content-length": null }), invalid(204)],
  ["200 with JSON that is no object", json([tokens()]), invalid()],
  ["tokens that are no text", json(tokens({ access_token: 7, refresh_token: [] })), invalid()],
  ["blank tokens", json(tokens({ access_token: " ", refresh_token: "" })), invalid()],
  ["deep JSON", http(200, deep), invalid()],
  ["no end of garbage", http(200, GARBAGE), lost(200)],
  ["no end of garbage, with status 500", http(500, GARBAGE), unclear(500)],
  ["tokens after 1 MiB of blanks", http(200, `${" ".repeat(1 << 20)}${JSON.stringify(tokens())}`), lost(200)],
  ["chunks of garbage", http(200, "no chunk\r\nat all\r\n", { "content-length": null, "transfer-encoding": "chunked" }), lost(200)],
  ["an answer cut off", cutOff(200), lost(200)],
  ["a content-length that is too short", json(tokens(), 200, { "content-length": 30 }), invalid()],
  ["no HTTP", Buffer.from("220 mail.example.test ESMTP\r\n"), lost()],
  ["a connection reset once the request is read", reset, lost()],
  ["a connection closed once the request is read", (_, socket) => socket.end(), lost()],
  ["a connection reset after the headers", thenReset(http(200, "", { "content-length": 100 })), lost(200)],
  ["a connection reset within the answer", thenReset(http(200, '{"access', { "content-length": 100 })), lost(200)],
].map(([name, answer, error]) => ({ name, script: typeof answer === "function" ? answer : says(answer), error }));

const WAITS = [
  ["429, for seconds", 429, () => HOUR_SECONDS],
  ["503, for seconds", 503, () => HOUR_SECONDS],
  ["429, until a date", 429, () => new Date(Date.now() + HOUR_SECONDS * 1000).toUTCString()],
].map(([name, status, retryAfter]) => ({
  name: `the server wants a pause: ${name}`,
  script: (_, socket) => socket.write(html(status, { "retry-after": retryAfter() })),
  error: unspent(status),
  // A date has no fractions.
  retryAfterMs: [HOUR_SECONDS * 1000 - 60_000, HOUR_SECONDS * 1000],
}));

/** @type {Failure[]} the answer never comes, or nobody is there */
const UNANSWERED = [
  { name: "an answer that comes one byte at a time", script: drips, options: { callTimeoutMs: CALL_LIMIT_MS }, error: timedOut },
  { name: "a server that says nothing", script: () => {}, options: { callTimeoutMs: CALL_LIMIT_MS }, error: timedOut },
  { name: "100 Continue and no more", script: says(Buffer.from("HTTP/1.1 100 Continue\r\n\r\n")), options: { callTimeoutMs: CALL_LIMIT_MS }, error: timedOut },
  { name: "a connection reset within the request", onConnection: resetsEarly, request: { scope: HUGE }, error: lost(), requests: 0 },
  { name: "a server that does not read", onConnection: (socket) => socket.pause(), request: { scope: HUGE }, options: { callTimeoutMs: CALL_LIMIT_MS }, error: timedOut, requests: 0 },
  { name: "a port that nobody listens at", request: async () => ({ tokenEndpoint: `http://127.0.0.1:${await freePort()}/token` }), error: unreachable, requests: 0 },
  { name: "a host that does not exist", request: { tokenEndpoint: "https://no-such-host.invalid/token" }, error: unreachable, requests: 0 },
];

export const FAILURES = [...ANSWERED, ...WAITS, ...UNANSWERED];
