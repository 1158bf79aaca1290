/** Connections to a token endpoint: how they come about, how long they are kept, and what answers look like on them. */
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { refreshOAuthToken } from "../../index.mjs";
import { refreshAs, typedRejection } from "../support/calls.mjs";
import { createAuthority, NAME, withTls } from "../support/certificates.mjs";
import { createHost, expired, storeText } from "../support/host.mjs";
import {
  byTls,
  givesByHttp2,
  startHttp2Server,
  startResettingHttp2Server,
  surroundedBy,
  tunnelsTo,
} from "../support/network.mjs";
import { token } from "../support/secrets.mjs";
import { at, http, inTurn, json, startServer, tokens } from "../support/token-server.mjs";

/** For hangs. Whoever gives up earlier does so for another reason. */
const LONG_MS = 110_000;
const SHORT_MS = 300;

let authority;
let host;
beforeAll(async () => {
  authority = await createAuthority();
});
beforeEach(() => {
  host = createHost();
  surroundedBy({ SSL_CERT_FILE: authority.save(join(host.root, "root.pem")) });
});

/** The ways to speak HTTP: a server, and how it is asked. */
const WAYS = [
  ["plain HTTP/1.1", async () => [await startServer(), at]],
  ["HTTP/1.1 by TLS", async () => [await startServer(undefined, { create: withTls(authority.server) }), byTls]],
  ["HTTP/2", async () => [await startHttp2Server(authority.server), byTls]],
];

/** Expects that a login is refreshed by this request. */
async function expectRefreshed(server, request = at(server)) {
  const old = expired();
  host.seed("main", old);
  const { outcome, credential } = await refreshAs(host, "main", request);
  expect(outcome).toBe("refreshed");
  expect(server.presented.at(-1)).toBe(old.refresh);
  expect(host.store("main")).toBe(storeText(credential));
}

/** Asks without a lock, so that nobody asks again. */
const askedOnce = (request) => refreshOAuthToken({ ...request, refreshToken: token("refresh") });

describe.each(WAYS)("by %s", (_, start) => {
  test("two calls in a row use one connection", async () => {
    const [server, ask] = await start();
    for (let call = 1; call <= 2; call++) await expectRefreshed(server, ask(server));
    expect([server.requests.length, server.connections]).toEqual([2, 1]);
  });

  test("a connection that nobody uses is closed, and the next call makes another", async () => {
    const [server, ask] = await start();
    await expectRefreshed(server, ask(server));
    await server.log.seen({ type: "closed" });
    await expectRefreshed(server, ask(server));
    expect([server.requests.length, server.connections]).toEqual([2, 2]);
  });
});

describe("by HTTP/2", () => {
  test("the request is the same as ever", async () => {
    const server = await startHttp2Server(authority.server);
    await expectRefreshed(server, byTls(server));
    const [{ method, path, headers, body }] = server.requests;
    expect({ method, path, type: headers["content-type"] }).toEqual({
      method: "POST",
      path: "/token",
      type: "application/x-www-form-urlencoded",
    });
    expect(headers["content-length"]).toBe(String(body.length));
  });

  test("through a proxy", async () => {
    const server = await startHttp2Server(authority.server);
    const proxy = await startServer(tunnelsTo(server));
    surroundedBy({
      SSL_CERT_FILE: authority.save(join(host.root, "root.pem")),
      HTTPS_PROXY: `http://127.0.0.1:${proxy.port}`,
    });
    await expectRefreshed(server, { tokenEndpoint: `https://${NAME}/token`, clientId: "client" });
    expect(proxy.requests).toHaveLength(1);
  });

  test.each([
    ["a stream that is reset", (_, stream) => stream.close(8)],
    ["a session that ends", (_, stream) => stream.session.destroy()],
    [
      "a session that ends after the server has said which streams it looks at, ours among them",
      (_, stream) => {
        stream.session.goaway(2, stream.id);
        setImmediate(() => stream.session.destroy());
      },
    ],
  ])("%s leaves the call uncertain, and it is not made again", async (_, script) => {
    let isFirst = true;
    const server = await startHttp2Server(authority.server, (request, stream) => {
      (isFirst ? script : givesByHttp2)(request, stream);
      isFirst = false;
    });
    const error = await typedRejection(askedOnce(byTls(server)), "provider_answer_lost");
    expect(error.refreshFailure.class).toBe("uncertain");
    expect(server.requests).toHaveLength(1);
  });
});

describe("an HTTP/2 stream that breaks off in the middle of its answer", () => {
  const CODES = { NO_ERROR: 0, INTERNAL_ERROR: 2, REFUSED_STREAM: 7, CANCEL: 8 };

  test.each(Object.entries(CODES))("with %s leaves the call uncertain: half a token is none", async (_, code) => {
    const body = `${new URLSearchParams(tokens())}`.slice(0, -30);
    const server = await startResettingHttp2Server(authority.server, body, code);
    const error = await typedRejection(askedOnce(byTls(server)), "provider_answer_lost");
    expect({ class: error.refreshFailure.class, status: error.status }).toEqual({ class: "uncertain", status: 200 });
  });

  test("is whole if its object is", async () => {
    const given = tokens();
    const server = await startResettingHttp2Server(authority.server, JSON.stringify(given), CODES.CANCEL);
    host.seed("main", expired());
    const { credential } = await refreshAs(host, "main", byTls(server));
    expect(credential).toMatchObject({ access: given.access_token, refresh: given.refresh_token });
  });
});

describe("a request that an HTTP/2 server says it will not look at", () => {
  const REFUSED_STREAM = 7;
  const refusals = [
    ["by REFUSED_STREAM", (_, stream) => stream.close(REFUSED_STREAM)],
    ["by GOAWAY, with the stream before ours for the last", (_, stream) => stream.session.goaway(0, stream.id - 2)],
    ["by GOAWAY for an error of ours", (_, stream) => stream.session.goaway(11, stream.id - 2)],
  ];
  /** The first request is answered, so that there is a stream before the next one; that one is refused. */
  const start = (refusal) => startHttp2Server(authority.server, inTurn(givesByHttp2, refusal, givesByHttp2));

  test.each(refusals)("%s is made again, with the same token", async (_, refusal) => {
    const server = await start(refusal);
    await expectRefreshed(server, byTls(server));
    await expectRefreshed(server, byTls(server));
    expect(server.requests).toHaveLength(3);
    expect(server.presented[2]).toBe(server.presented[1]);
  });

  test.each(refusals)("%s was not sent, and the message says which side did not want it", async (_, refusal) => {
    const server = await start(refusal);
    await expectRefreshed(server, byTls(server));
    const call = refreshOAuthToken(byTls(server, { refreshToken: token("refresh") }));
    const error = await typedRejection(call, "provider_unreachable");
    expect(error.refreshFailure).toEqual({ class: "not_sent" });
    expect(error.message).toMatch(/refused the request without looking at it; the login is as it was$/);
  });
});

describe("an answer's headers may be", () => {
  const lines = (count, bytes) =>
    Object.fromEntries(Array.from({ length: count }, (_, at) => [`x-policy-${at}`, "p".repeat(bytes)]));
  const HEADERS = [
    ["200", lines(200, 10)],
    ["64 KiB", lines(16, 4 << 10)],
    ["200, and 64 KiB", lines(200, 320)],
    ["one of 60 KiB", lines(1, 60 << 10)],
  ];

  test.each(HEADERS)("%s, by HTTP/1.1", async (_, headers) => {
    const server = await startServer((_, socket) => socket.write(json(tokens(), 200, headers)));
    await expectRefreshed(server);
    expect(server.requests).toHaveLength(1);
  });

  test.each(HEADERS)("%s, by HTTP/2", async (_, headers) => {
    const identity = { ...authority.server, maxSendHeaderBlockLength: 1 << 20 };
    const server = await startHttp2Server(identity, (_, stream) => {
      stream.respond({ ":status": 200, ...headers });
      stream.end(JSON.stringify(tokens()));
    });
    await expectRefreshed(server, byTls(server));
    expect(server.requests).toHaveLength(1);
  });

  test("too many, and then the message does not say that nobody answered", async () => {
    const server = await startServer((_, socket) => socket.write(json(tokens(), 200, lines(2_000, 10))));
    const error = await typedRejection(askedOnce(at(server)), "provider_answer_lost");
    expect(error.refreshFailure.class).toBe("uncertain");
    expect(error.message).toMatch(/no answer could be read \(the answer is not HTTP, or its headers are too long\)/);
  });
});

describe("over IPv6", () => {
  const hasLoopback = Object.values(networkInterfaces()).some((all) => all.some(({ address }) => address === "::1"));

  test.for(["http", "https"])("by %s", async (scheme, { skip }) => {
    if (!hasLoopback) skip("this machine has no ::1");
    const create = scheme === "https" ? withTls(authority.server) : undefined;
    const server = await startServer(undefined, { create, listen: { host: "::1" } });
    await expectRefreshed(server, at(server, { tokenEndpoint: `${scheme}://[::1]:${server.port}/token` }));
    expect(server.requests).toHaveLength(1);
  });
});

describe("connectTimeoutMs ends the wait for", () => {
  /** Expects that somebody who hears the caller out, and says nothing, is left after this limit. */
  async function expectLeft(mute, request, options) {
    const started = performance.now();
    const call = refreshOAuthToken({ ...request, refreshToken: token("refresh") }, options);
    const error = await typedRejection(call, "provider_unreachable");
    expect(error.refreshFailure.class).toBe("not_sent");
    const tookMs = performance.now() - started;
    expect(tookMs).toBeGreaterThanOrEqual(SHORT_MS);
    expect(tookMs).toBeLessThan(LONG_MS / 2);
    await mute.log.seen({ type: "closed" });
    expect(mute.connections).toBe(1);
  }

  const IMPATIENT = [{ connectTimeoutMs: SHORT_MS }, { timeoutMs: LONG_MS }];
  const startMute = () => startServer(() => {}, { onConnection: (socket) => socket.resume() });

  test("a handshake", async () => {
    const mute = await startMute();
    const [limit, options] = IMPATIENT;
    await expectLeft(mute, byTls(mute, limit), options);
  });

  test("a proxy", async () => {
    const mute = await startServer(() => {});
    surroundedBy({ HTTPS_PROXY: `http://127.0.0.1:${mute.port}` });
    const [limit, options] = IMPATIENT;
    await expectLeft(mute, { tokenEndpoint: `https://${NAME}/token`, clientId: "client", ...limit }, options);
    expect(mute.requests).toHaveLength(1);
  });

  test("a handshake behind a proxy", async () => {
    const mute = await startMute();
    const proxy = await startServer(tunnelsTo(mute));
    surroundedBy({ HTTPS_PROXY: `http://127.0.0.1:${proxy.port}` });
    const [limit, options] = IMPATIENT;
    await expectLeft(mute, { tokenEndpoint: `https://${NAME}/token`, clientId: "client", ...limit }, options);
  });

  test("no answer: that may take longer", async () => {
    const server = await startServer((_, socket) => {
      const timer = setTimeout(() => socket.write(json(tokens())), 3 * SHORT_MS);
      onTestFinished(() => clearTimeout(timer));
    });
    await expectRefreshed(server, at(server, { connectTimeoutMs: SHORT_MS }));
  });

  test("nobody, if the call's own limit is shorter", async () => {
    const mute = await startMute();
    await expectLeft(mute, byTls(mute, { connectTimeoutMs: LONG_MS }), { timeoutMs: SHORT_MS });
  });
});

describe("an answer is read whole that", () => {
  const HINTS = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n";
  const body = () => JSON.stringify(tokens());
  const chunk = (text) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;
  const chunked = { "content-length": null, "transfer-encoding": "chunked" };
  const inChunks = (end) => {
    const text = body();
    return http(200, `${chunk(text.slice(0, 10))}${chunk(text.slice(10))}0\r\n${end}\r\n`, chunked);
  };

  async function drip(socket, bytes) {
    socket.setNoDelay?.();
    for (const byte of bytes) {
      await new Promise((resolve) => socket.write(Uint8Array.of(byte), resolve));
      await new Promise(setImmediate);
    }
  }

  test.each([
    [
      "comes after early hints",
      (_, socket) => socket.write(Buffer.concat([Buffer.from(HINTS.repeat(2)), json(tokens())])),
    ],
    ["comes after early hints, later", (_, socket) => socket.write(HINTS, () => socket.write(json(tokens())))],
    ["comes in chunks", (_, socket) => socket.write(inChunks(""))],
    ["comes in chunks with trailers", (_, socket) => socket.write(inChunks("x-sum: 7\r\nx-more: yes\r\n"))],
    ["comes byte by byte", (_, socket) => drip(socket, json(tokens()))],
    ["comes in chunks byte by byte", (_, socket) => drip(socket, inChunks("x-sum: 7\r\n"))],
    ["ends with the connection", (_, socket) => socket.end(http(200, body(), { "content-length": null }))],
  ])("%s", async (_, script) => {
    const server = await startServer(script);
    await expectRefreshed(server);
    expect(server.requests).toHaveLength(1);
  });

  test("comes by HTTP/2 after early hints, in pieces, with trailers", async () => {
    const server = await startHttp2Server(authority.server, async (_, stream) => {
      stream.additionalHeaders({ ":status": 103, link: "</style.css>; rel=preload" });
      stream.respond({ ":status": 200 }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "7" }));
      await drip(stream, Buffer.from(body()));
      stream.end();
    });
    await expectRefreshed(server, byTls(server));
  });
});
