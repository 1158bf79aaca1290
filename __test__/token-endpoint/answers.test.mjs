/** What a token endpoint may answer when it gives a token, and what becomes of it. */
import { describe, expect, test } from "vitest";
import { refreshOAuthToken } from "../../index.mjs";
import { listen, refreshAs, typedRejection } from "../support/calls.mjs";
import { createHost, expired, HOUR, MINUTE, storeText } from "../support/host.mjs";
import { token } from "../support/secrets.mjs";
import { at, gives, http, inTurn, json, jwt, says, startServer, tokens } from "../support/token-server.mjs";

const HALF_AN_HOUR = HOUR / 2;

/** Refreshes an expired login at a server that answers with these bytes. Expects one request and its tokens, durable. */
async function refreshed(bytes, given, { request, old = expired() } = {}) {
  const host = createHost({ main: old });
  const server = await startServer(says(bytes));
  const log = listen();
  const before = Date.now();
  const { outcome, credential } = await refreshAs(host, "main", at(server, request));
  const after = Date.now();
  expect(outcome).toBe("refreshed");
  expect(server.presented).toEqual([old.refresh]);
  expect(log.types()).toEqual(["acquired", "dispatched", "refreshed"]);
  expect(credential).toMatchObject({ access: given.access_token, refresh: given.refresh_token ?? old.refresh });
  expect(host.store("main")).toBe(storeText(credential));
  // The next caller is served what is stored.
  expect(await refreshAs(host, "main", at(server))).toEqual({ outcome: "fresh", credential });
  expect(server.requests).toHaveLength(1);
  return { credential, old, expectWithin: (instant, ms) => expectBetween(instant, before + ms, after + ms) };
}

function expectBetween(instant, low, high) {
  expect(instant).toBeGreaterThanOrEqual(low);
  expect(instant).toBeLessThanOrEqual(high);
}

describe("the access token expires", () => {
  test.each([
    ["after expires_in seconds", { expires_in: 7200 }, 2 * HOUR],
    ["after expires_in seconds, in quotes", { expires_in: "7200" }, 2 * HOUR],
    ["after expires_in seconds and a fraction", { expires_in: 7200.5 }, 2 * HOUR + 500],
    ["in half an hour, if nobody says", { expires_in: undefined }, HALF_AN_HOUR],
    ["in half an hour, if expires_in is null", { expires_in: null }, HALF_AN_HOUR],
    ["in half an hour, if expires_in is 0, as of tokens that do not expire", { expires_in: 0 }, HALF_AN_HOUR],
    ["in half an hour, if expires_in makes no sense", { expires_in: "soon" }, HALF_AN_HOUR],
  ])("%s", async (_, fields, lifetime) => {
    const given = tokens(fields);
    const { credential, expectWithin } = await refreshed(json(given), given);
    expectWithin(credential.expires, lifetime);
  });

  test("when it says so itself, if it is a JWT and there is no expires_in", async () => {
    const exp = Math.floor(Date.now() / 1000) + 5000;
    const given = tokens({ access_token: jwt({ exp }), expires_in: undefined });
    const { credential } = await refreshed(json(given), given);
    expect(credential.expires).toBe(exp * 1000);
  });

  test("after expires_in seconds, whatever it says itself", async () => {
    const exp = Math.floor(Date.now() / 1000) + 5000;
    const given = tokens({ access_token: jwt({ exp }) });
    const { credential, expectWithin } = await refreshed(json(given), given);
    expectWithin(credential.expires, HOUR);
  });
});

describe("the refresh token", () => {
  test("stays if there is no new one", async () => {
    const given = tokens({ refresh_token: undefined });
    const { credential, old } = await refreshed(json(given), given);
    expect(credential.refresh).toBe(old.refresh);
  });

  test.each([
    ["null", null],
    ["blank", "  "],
  ])("stays if the new one is %s", async (_, refresh_token) => {
    const given = tokens({ refresh_token });
    await refreshed(json(given), { ...given, refresh_token: undefined });
  });

  test.each(["refresh_token_expires_in", "refresh_expires_in"])("expires after %s seconds", async (name) => {
    const given = tokens({ [name]: 86_400 });
    const { credential, expectWithin } = await refreshed(json(given), given);
    expectWithin(credential.refreshExpires, 24 * HOUR);
  });
});

describe("an answer is understood", () => {
  const deep = `${"[".repeat(10_000)}${"]".repeat(10_000)}`;
  const besides = (given, more) => `{"more":${more},${JSON.stringify(given).slice(1)}`;
  const padded = (given) => `${" ".repeat((1 << 20) - JSON.stringify(given).length)}${JSON.stringify(given)}`;
  test.each([
    ["as a form, as GitHub's", (given) => http(200, `${new URLSearchParams(given)}`, { "content-type": "text/plain" })],
    ["as a form with a line's end", (given) => http(200, `${new URLSearchParams(given)}\n`)],
    ["after a byte order mark", (given) => http(200, `\uFEFF${JSON.stringify(given)}`)],
    ["with no content type", (given) => json(given, 200, { "content-type": null })],
    ["with the wrong content type", (given) => json(given, 200, { "content-type": "text/html" })],
    ["with a charset", (given) => json(given, 200, { "content-type": "application/json; charset=utf-8" })],
    ["with the wrong charset", (given) => json(given, 200, { "content-type": "application/json; charset=utf-16" })],
    ["with status 201", (given) => json(given, 201)],
    ["of 1 MiB", (given) => http(200, padded(given))],
    ["in chunks", (given) => chunked(JSON.stringify(given))],
    ["without a length, to the connection's end", (given) => [json(given, 200, { "content-length": null }), "end"]],
    ["after 100 Continue", (given) => Buffer.concat([interim(100), json(given)])],
    ["after 103 Early Hints, twice", (given) => Buffer.concat([interim(103), interim(103), json(given)])],
    ["with members in disorder", (given) => json(Object.fromEntries(Object.entries(given).reverse()))],
    ["with JSON besides that is 10,000 levels deep", (given) => http(200, besides(given, deep))],
    ["with lists and objects besides", (given) => json({ ...given, scope: ["a"], more: { access_token: 1 } })],
  ])("%s", async (_, bytes) => {
    const given = tokens();
    const [answer, how] = [bytes(given)].flat();
    const host = createHost({ main: expired() });
    const server = await startServer((_, socket) => (how ? socket.end(answer) : socket.write(answer)));
    const { outcome, credential } = await refreshAs(host, "main", at(server));
    expect(outcome).toBe("refreshed");
    expect(credential).toMatchObject({ access: given.access_token, refresh: given.refresh_token });
    expect(host.store("main")).toBe(storeText(credential));
    expect(server.requests).toHaveLength(1);
  });

  test("with a member twice: the last one counts, as for JSON.parse", async () => {
    const given = tokens();
    const body = `{"access_token":"${token("first")}","expires_in":1,${JSON.stringify(given).slice(1)}`;
    expect(JSON.parse(body)).toEqual(given);
    const { credential, expectWithin } = await refreshed(http(200, body), given);
    expectWithin(credential.expires, HOUR);
  });

  test("byte by byte", async () => {
    const given = tokens();
    const host = createHost({ main: expired() });
    const server = await startServer((_, socket) => drip(socket, json(given)));
    expect((await refreshAs(host, "main", at(server))).credential.access).toBe(given.access_token);
    expect(server.requests).toHaveLength(1);
  });

  const interim = (status) => Buffer.from(`HTTP/1.1 ${status} Interim\r\nlink: </x>; rel=preload\r\n\r\n`);
  function chunked(body) {
    const middle = body.length >> 1;
    const chunks = [body.slice(0, middle), body.slice(middle), ""];
    const spelled = chunks.map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join("");
    const head = http(200, "", { "content-length": null, "transfer-encoding": "chunked" });
    return Buffer.concat([head, Buffer.from(spelled)]);
  }
  async function drip(socket, bytes) {
    socket.setNoDelay();
    for (const byte of bytes) {
      socket.write(Buffer.of(byte));
      await new Promise(setImmediate);
    }
  }
});

describe("a connection that", () => {
  test("the server has closed meanwhile costs the next call nothing", async () => {
    const host = createHost({ main: expired() });
    const server = await startServer(
      inTurn((request, socket) => gives()(request, { write: (b) => socket.end(b) }), gives()),
    );
    await refreshAs(host, "main", at(server));
    await server.log.seen({ type: "closed" });
    const { outcome } = await refreshAs(host, "main", at(server), { forceRefresh: true });
    expect(outcome).toBe("refreshed");
    expect([server.requests.length, server.connections]).toEqual([2, 2]);
  });

  test("has more bytes than its answer is not used again", async () => {
    const given = tokens();
    const host = createHost({ main: expired() });
    const more = json(tokens());
    const server = await startServer(inTurn(says(Buffer.concat([json(given), more])), gives()));
    const first = await refreshAs(host, "main", at(server));
    expect(first.credential.access).toBe(given.access_token);
    const second = await refreshAs(host, "main", at(server), { forceRefresh: true });
    expect(server.presented[1]).toBe(given.refresh_token);
    expect(more.includes(second.credential.access)).toBe(false);
    expect([server.requests.length, server.connections]).toEqual([2, 2]);
  });
});

test("a refresh token without an access token is kept, since the old one is spent", async () => {
  const old = expired();
  const host = createHost({ main: old });
  const alone = token("refresh");
  const server = await startServer(inTurn(says(json({ refresh_token: alone })), gives()));
  await typedRejection(refreshAs(host, "main", at(server)), "invalid_refresh_result");
  expect((await refreshAs(host, "main", at(server))).outcome).toBe("refreshed");
  expect(server.presented).toEqual([old.refresh, alone]);

  const asked = await startServer(says(json({ refresh_token: alone })));
  expect(await refreshOAuthToken(at(asked, { refreshToken: old.refresh }))).toEqual({ access: "", refresh: alone });
});

describe("a token that is no valid text is stored by nobody:", () => {
  const bytes = (text) => http(200, Buffer.from(text, "latin1"));
  const unusable = [
    ["a number", "7"],
    ["an object", '{"a":1}'],
    ["a list", "[]"],
    ["bytes that are no UTF-8", '"r\xff\xfe"'],
    ["half a surrogate pair", '"r\\ud800"'],
  ];

  test.each(unusable)("a refresh token that is %s, although the access token is good", async (_, value) => {
    const bad = bytes(`{"access_token":"a","refresh_token":${value},"expires_in":3600}`);
    const told = await startServer(says(bad));
    const call = refreshOAuthToken(at(told, { refreshToken: token("refresh") }));
    const error = await typedRejection(call, "provider_answer_invalid");
    expect({ class: error.refreshFailure.class, status: error.status }).toEqual({ class: "uncertain", status: 200 });
    expect(error.message).toMatch(
      /a refresh_token that is not valid text; it was not stored; it is not known yet whether/,
    );

    const old = expired();
    const host = createHost({ main: old });
    const server = await startServer(inTurn(says(bad), gives()));
    const { outcome, credential } = await refreshAs(host, "main", at(server));
    expect(outcome).toBe("refreshed");
    expect(server.presented).toEqual([old.refresh, old.refresh]);
    expect(host.store("main")).toBe(storeText(credential));
  });

  test.each(unusable)("an access token that is %s, but the good refresh token beside it is kept", async (_, value) => {
    const old = expired();
    const host = createHost({ main: old });
    const next = token("refresh");
    const first = bytes(`{"access_token":${value},"refresh_token":"${next}","expires_in":3600}`);
    const server = await startServer(inTurn(says(first), gives()));
    await typedRejection(refreshAs(host, "main", at(server)), "invalid_refresh_result");
    expect((await refreshAs(host, "main", at(server))).outcome).toBe("refreshed");
    expect(server.presented).toEqual([old.refresh, next]);
  });
});

describe("an answer in an envelope", () => {
  test.each([
    ["body", (given) => ({ status: 0, body: given })],
    [["data", "tokens"], (given) => ({ data: { tokens: given } })],
  ])("named %s is understood", async (envelope, wrap) => {
    const given = tokens();
    await refreshed(json(wrap(given)), given, { request: { envelope } });
  });

  test("is not looked for by itself", async () => {
    const server = await startServer(says(json({ body: tokens() })));
    const call = refreshOAuthToken(at(server, { refreshToken: token("refresh") }));
    await typedRejection(call, "provider_answer_invalid");
  });
});

test("expiresInUnit has lifetimes count milliseconds", async () => {
  const given = tokens({ expires_in: 2 * HOUR, refresh_token_expires_in: 24 * HOUR });
  const { credential, expectWithin } = await refreshed(json(given), given, { request: { expiresInUnit: "ms" } });
  expectWithin(credential.expires, 2 * HOUR);
  expectWithin(credential.refreshExpires, 24 * HOUR);
});

test.each([
  [{ envelope: 7 }, "refresh.envelope"],
  [{ envelope: [""] }, "refresh.envelope"],
  [{ envelope: Array(9).fill("a") }, "envelope"],
  [{ expiresInUnit: "m" }, "refresh.expiresInUnit"],
])("%o is refused before anything is sent", async (request, words) => {
  const server = await startServer();
  const call = refreshAs(createHost({ main: expired() }), "main", at(server, request));
  expect((await typedRejection(call, "invalid_argument")).message).toContain(words);
  expect(server.connections).toBe(0);
});

test("a lifetime shorter than the margin costs one call, not one for every request", async () => {
  const host = createHost({ main: expired() });
  const server = await startServer(gives({ expires_in: MINUTE / 1000 }));
  const { credential } = await refreshAs(host, "main", at(server));
  // The margin is at most a fifth of the token's life.
  expect(await refreshAs(host, "main", at(server))).toEqual({ outcome: "fresh", credential });
  expect(server.requests).toHaveLength(1);
});
