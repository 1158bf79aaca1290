/**
 * Errors of refresh functions, in the shapes that clients and runtimes give them: what the next caller may do after each.
 */
import http2 from "node:http2";
import { createServer } from "node:net";
import tls from "node:tls";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { refreshAs, rejection, typedRejection } from "./support/calls.mjs";
import { createHost, expired, IMPATIENT, MINUTE } from "./support/host.mjs";
import { at, http, json, says, startServer } from "./support/token-server.mjs";
import { ERRORS, error, GRANT, unread } from "./vectors/errors.mjs";

/** What a refresh that fails with this tells of it, beside the token that is still good: who has none waits for what passes. */
async function failure(thrown, options) {
  const host = createHost({ main: expired({ expires: Date.now() + MINUTE }) });
  const error = typeof thrown === "function" ? await thrown() : thrown;
  const refresh = () => Promise.reject(error);
  const { refreshError } = await refreshAs(host, "main", refresh, options);
  expect(error instanceof Error ? refreshError : refreshError.cause).toBe(error);
  return refreshError.refreshFailure;
}

describe.each(Object.entries(ERRORS))("an error is classified by %s:", (_, cases) => {
  test.each(cases)("%s", async (_, thrown, expected) => {
    expect((await failure(thrown))?.class).toBe(expected);
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

  test("for a server that hangs up once it has the request is uncertain", async () => {
    const server = createServer((socket) => socket.once("data", () => socket.destroy()));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void server.close());
    const hungUp = () => fetch(`http://127.0.0.1:${server.address().port}`, { method: "POST" }).catch((error) => error);
    expect((await failure(hungUp)).class).toBe("uncertain");
  });
});

describe("an answer that nobody has read", () => {
  test("can still be read by the program that handed it on", async () => {
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
    const told = await failure(thrown, { classify: (seen) => seen.ours });
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
    ["talks nonsense", () => "dead"],
    ["is asynchronous", async () => "answered_dead"],
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
    const classify = () => Promise.reject(new Error("a bug"));
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
    const call = refreshAs(createHost({ main: expired() }), "main", () => null, { classify: {} });
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
    const call = refreshAs(host, "main", at(server, { classify: own }), IMPATIENT);
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
    const call = refreshAs(createHost({ main: expired() }), "main", at(server), IMPATIENT);
    expect((await rejection(call)).message).toBe(expected);
  });
});
