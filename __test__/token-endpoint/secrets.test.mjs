/**
 * Whatever becomes of a call to a token endpoint, none of its secrets is told: by an error, an event, a warning, or a file
 * but the store that holds the login.
 */
import { join, relative } from "node:path";
import { inspect } from "node:util";
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { inspectOAuthRefreshLocks, refreshOAuthToken, withOAuthRefreshLock } from "../../index.mjs";
import { listen, refreshAs, rejection, stopClock } from "../support/calls.mjs";
import { createHost, expired, PROFILE, PROVIDER } from "../support/host.mjs";
import { remember, token, toldIn } from "../support/secrets.mjs";
import { at, http, json, startServer, tokens } from "../support/token-server.mjs";
import { FAILURES } from "../vectors/endpoint-failures.mjs";

const base64 = (text) => Buffer.from(text).toString("base64");

/** The way to other hosts: a proxy that wants a password, and gives it back. */
beforeEach(async () => {
  const proxy = await startServer(({ headers }, socket) => {
    const told = headers["proxy-authorization"];
    socket.end(http(407, told, { "proxy-authenticate": `Basic realm="${told}"` }));
  });
  const password = token("proxy");
  remember(base64(`user:${password}`));
  vi.stubEnv("https_proxy", `http://user:${password}@127.0.0.1:${proxy.port}`);
  vi.stubEnv("no_proxy", "");
  vi.stubEnv("NO_PROXY", "");
  onTestFinished(() => {
    vi.unstubAllEnvs();
  });
});

/** What a request may hold that is secret, beside the refresh token. */
function secretRequest() {
  const clientSecret = token("client");
  remember(base64(`client:${clientSecret}`));
  return { clientSecret, headers: { "X-Api-Key": token("header"), Cookie: `session=${token("cookie")}` } };
}

/** All that reached the server, as an answer may give it back. */
const echo = ({ headers, body }) => `${body} ${Object.values(headers).join(" ")}`;
const presented = ({ body }) => new URLSearchParams(body).get("refresh_token");
const bare = (text) => Buffer.from(text);
const raw = (head, body = "") => bare(`HTTP/1.1 ${head}\r\ncontent-length: ${body.length}\r\n\r\n${body}`);

/** Servers that tell everyone what they were told: what they answer to a request. */
const ECHOES = [
  ["in the description of an error", (asked) => json({ error: "invalid_grant", error_description: echo(asked) }, 400)],
  ["in the description of another error", (asked) => json({ error: "nope", error_description: echo(asked) }, 400)],
  ["as the code of an error", (asked) => json({ error: presented(asked) }, 400)],
  ["as the code of an error, with status 200", (asked) => json({ error: presented(asked) })],
  ["as the code within an error", (asked) => json({ error: { code: presented(asked), message: echo(asked) } }, 401)],
  ["as the type of an error", (asked) => json({ error: { type: presented(asked) } }, 500)],
  ["as a form", (asked) => http(200, `error=${presented(asked)}&error_description=${encodeURIComponent(echo(asked))}`)],
  ["as the name of a member", (asked) => json({ [presented(asked)]: echo(asked) })],
  ["as the body, with status 400", (asked) => http(400, echo(asked))],
  ["as the body, with status 500", (asked) => http(500, echo(asked))],
  ["as the body, with status 200", (asked) => http(200, `You said: ${echo(asked)}`)],
  ["as tokens of no use", (asked) => json({ access_token: [echo(asked)], refresh_token: { is: echo(asked) } })],
  [
    "in the words of a reused token",
    (asked) => json({ message: `Refresh token has already been used: ${echo(asked)}` }, 401),
  ],
  ["where it redirects to", (asked) => http(302, "", { location: `https://elsewhere.example/?${presented(asked)}` })],
  ["as how long to wait", (asked) => http(429, echo(asked), { "retry-after": presented(asked) })],
  ["as a header", (asked) => http(403, "", { "www-authenticate": `Bearer realm="${presented(asked)}"` })],
  ["as a header that is none", (asked) => raw(`200 OK\r\n${echo(asked)}`)],
  ["as the reason", (asked) => raw(`400 ${presented(asked)}`, "{}")],
  ["as the status", (asked) => raw(presented(asked))],
  ["as the length", (asked) => json({}, 200, { "content-length": presented(asked) })],
  [
    "as the length of a chunk",
    (asked) => http(200, `${presented(asked)}\r\n`, { "content-length": null, "transfer-encoding": "chunked" }),
  ],
  ["in no HTTP", (asked) => bare(`${echo(asked)}\r\n\r\n`)],
  [
    "and cuts it off",
    (asked) => [raw("200 OK\r\ncontent-type: text/plain\r\nconnection: close", echo(asked)).subarray(0, -9)],
  ],
].map(([name, answer]) => ({
  name: `a server that gives back all it was given ${name}`,
  isTransient: name === "as how long to wait",
  script(asked, socket) {
    const [bytes] = [answer(asked)].flat();
    socket.end(bytes);
  },
}));

/** An error as anything may log it, with all its causes. */
function loggedAs(error) {
  const texts = [inspect(error, { depth: null, showHidden: true, getters: true })];
  for (let one = error; one instanceof Error; one = one.cause)
    texts.push(String(one), one.message, one.stack, JSON.stringify(one), JSON.stringify(Object.entries(one)));
  return texts.join("\n");
}

/** Listens to all that this thread says beside errors. */
function listenToAll() {
  const { events } = listen();
  const warnings = [];
  const onWarning = (warning) => warnings.push(inspect(warning, { depth: null }));
  process.on("warning", onWarning);
  onTestFinished(() => {
    process.off("warning", onWarning);
  });
  return () => inspect([events, warnings], { depth: null }) + JSON.stringify(events);
}

/** The files of a host that tell a secret. */
const tellers = (host) =>
  Object.entries(host.tree()).flatMap(([path, shown]) => (toldIn(path + shown).length > 0 ? [path] : []));

describe("none is told by", () => {
  test.each([...FAILURES, ...ECHOES].map((failure) => [failure.name, failure]))("%s", async (_, failure) => {
    const { script = () => {}, onConnection, options } = failure;
    const server = await startServer(script, { onConnection });
    const more = typeof failure.request === "function" ? await failure.request() : failure.request;
    const request = at(server, { ...secretRequest(), ...more });
    const host = createHost({ main: expired({ idToken: token("id") }) });
    const said = listenToAll();
    // Who may be asked again in a moment is, unless the caller has no patience.
    const isUnreachable = failure.error?.code === "provider_unreachable";
    if (isUnreachable) stopClock();
    const timeoutMs = isUnreachable || failure.isTransient ? 200 : 60_000;

    const errors = [
      await rejection(refreshAs(host, "main", request, { timeoutMs, uncertain: "fail", ...options })),
      // And what the next one is told.
      await rejection(refreshAs(host, "main", request, { timeoutMs: 200, uncertain: "fail", ...options })),
      await rejection(
        refreshOAuthToken({ ...request, refreshToken: token("refresh") }, { timeoutMs: options?.callTimeoutMs }),
      ),
    ];
    await new Promise(setImmediate);
    for (const error of errors) {
      expect(error.name).toBe("OAuthRefreshLockError");
      expect(toldIn(loggedAs(error))).toEqual([]);
    }
    expect(toldIn(said())).toEqual([]);
    expect(toldIn(inspect(await inspectOAuthRefreshLocks({ stateDir: host.stateDir }), { depth: null }))).toEqual([]);
    expect(tellers(host)).toEqual([relative(host.root, host.storePath("main"))]);
  });

  test("a refresh that succeeds, nor is the request's own kept", async () => {
    const given = tokens({ id_token: token("id") });
    const server = await startServer((_, socket) => socket.write(json(given)));
    const host = createHost({ main: expired() });
    const request = at(server, secretRequest());
    const said = listenToAll();
    await refreshAs(host, "main", request);
    await new Promise(setImmediate);
    expect(toldIn(said())).toEqual([]);
    expect(tellers(host)).toEqual([relative(host.root, host.storePath("main"))]);
    const own = [request.clientSecret, ...Object.values(request.headers)];
    expect(own.filter((secret) => host.store("main").includes(secret))).toEqual([]);
  });

  test("an answer that no store takes: it is in the journal alone", async () => {
    const host = createHost({ main: expired() });
    const server = await startServer((_, socket) => {
      host.block("main");
      socket.write(json(tokens()));
    });
    const said = listenToAll();
    const { notSaved } = await refreshAs(host, "main", at(server, secretRequest()));
    await new Promise(setImmediate);
    expect(toldIn(said() + inspect(notSaved))).toEqual([]);
    const [journal, store] = tellers(host).sort((one) => (one.endsWith(".journal") ? -1 : 1));
    expect([tellers(host).length, store]).toEqual([2, relative(host.root, host.storePath("main"))]);
    expect(journal).toMatch(/\.journal$/);
    expect(join(host.root, journal).startsWith(join(host.stateDir, "locks"))).toBe(true);
  });

  test.each([
    ["clientSecret", (secret) => ({ clientSecret: { secret } })],
    ["tokenEndpoint", (secret) => ({ tokenEndpoint: `https://user:${secret}@auth.example.test/` })],
    ["tokenEndpoint", (secret) => ({ tokenEndpoint: `http://auth.example.test/${secret}` })],
    ["headers", (secret) => ({ headers: { "X-Key": `${secret}\n` } })],
    ["headers", (secret) => ({ headers: { "X-Key": [secret] } })],
    ["headers", (secret) => ({ headers: { Authorization: `Bearer ${secret}` } })],
    ["resource", (secret) => ({ resource: secret })],
    ["encoding", (secret) => ({ encoding: secret })],
    ["maxParallel", (secret) => ({ maxParallel: secret })],
  ])("a %s that is refused", async (member, wrong) => {
    const request = { tokenEndpoint: "https://auth.example.test/token", clientId: "client", ...wrong(token("wrong")) };
    for (const call of [
      withOAuthRefreshLock(PROVIDER, PROFILE, request, createHost().as("main")),
      refreshOAuthToken({ ...request, refreshToken: token("refresh") }, { signal: AbortSignal.abort() }),
    ]) {
      const error = await rejection(call);
      expect(error.code).toBe("invalid_argument");
      expect(error.message).toContain(member);
      expect(toldIn(loggedAs(error))).toEqual([]);
    }
  });

  test.each([
    ["socks5", (secret) => `socks5://user:${secret}@127.0.0.1:1`],
    ["no URL", (secret) => `http://user:${secret}@`],
    ["nobody", (secret) => `http://user:${secret}@127.0.0.1:1`],
  ])("a proxy that can't be used: %s", async (_, proxy) => {
    vi.stubEnv("https_proxy", proxy(token("proxy")));
    const request = { tokenEndpoint: "https://no-such-host.invalid/token", clientId: "client" };
    const error = await rejection(refreshOAuthToken({ ...request, refreshToken: token("refresh") }));
    expect(error.code).toBe("provider_unreachable");
    expect(toldIn(loggedAs(error))).toEqual([]);
  });
});
