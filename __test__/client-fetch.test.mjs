/** `fetch` of a client, against a real server: what it sends, when it asks for another token, and what it refuses. */
import { Readable } from "node:stream";
import vm from "node:vm";
import nodeFetch from "node-fetch";
import * as undici from "undici";
import { describe, expect, test, vi } from "vitest";
import { createOAuthClient } from "../index.mjs";
import { answering, held, rejection, typedRejection, unwanted } from "./support/calls.mjs";
import { answer, createHost, expired, MINUTE, PROFILE, PROVIDER, usable } from "./support/host.mjs";
import { startResource } from "./support/resource-server.mjs";
import { toldIn } from "./support/secrets.mjs";
import { at, gives, startServer } from "./support/token-server.mjs";

const BODY = "what is sent";

/** A client of a new login, and the server that it talks to. */
async function setUp({ login = usable(), refresh = answering(), answers, ...options } = {}) {
  const resource = await startResource(answers);
  const host = createHost({ main: login });
  const client = createOAuthClient({
    provider: PROVIDER,
    profileId: PROFILE,
    refresh,
    ...host.as("main"),
    ...options,
  });
  return { client, login, resource, host, refresh };
}

describe("a request", () => {
  test("goes out with the token, and its answer comes back as it is", async () => {
    const { client, login, resource, refresh } = await setUp();
    const response = await client.fetch(`${resource.url}/a`);
    expect(response).toBeInstanceOf(Response);
    expect([response.status, await response.text()]).toEqual([200, "200"]);
    expect(resource.asked.map(({ method, path, access }) => ({ method, path, access }))).toEqual([
      { method: "GET", path: "/a", access: login.access },
    ]);
    expect(refresh).not.toHaveBeenCalled();
  });

  test("whose token was refused is sent once more, with the next one", async () => {
    const fields = answer();
    const { client, login, resource, refresh } = await setUp({ refresh: answering(fields) });
    resource.revoke(login.access);
    const response = await client.fetch(resource.url, { method: "POST", body: BODY });
    expect([response.status, await response.text()]).toEqual([200, "200"]);
    expect(resource.asked.map(({ access, body }) => [access, body.toString()])).toEqual([
      [login.access, BODY],
      [fields.access, BODY],
    ]);
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test.each([400, 403, 404, 500, 503])("that is answered by %s is not sent again", async (status) => {
    const { client, resource, refresh } = await setUp({ answers: () => ({ status }) });
    expect((await client.fetch(resource.url)).status).toBe(status);
    expect(resource.asked).toHaveLength(1);
    expect(refresh).not.toHaveBeenCalled();
  });

  test("that is refused with any token: one more, one refresh, and the refusal comes back", async () => {
    const refresh = vi.fn(async () => answer());
    const { client, resource } = await setUp({ refresh, answers: () => ({ status: 401, body: "never" }) });
    const first = await client.fetch(resource.url);
    expect([first.status, await first.text()]).toEqual([401, "never"]);
    expect(resource.asked).toHaveLength(2);
    // The new token has just been refused: another would be too.
    const second = await client.fetch(resource.url);
    expect([second.status, await second.text()]).toEqual([401, "never"]);
    expect(resource.asked).toHaveLength(3);
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test("fails with the refresh's error, if no other token can be had", async () => {
    const refused = Object.assign(new Error("refused"), { error: "invalid_grant" });
    const { client, login, resource } = await setUp({ refresh: vi.fn(() => Promise.reject(refused)) });
    resource.revoke(login.access);
    expect(await rejection(client.fetch(resource.url))).toBe(refused);
    await typedRejection(client.fetch(resource.url), "grant_dead");
    expect(resource.asked).toHaveLength(2);
  });
});

test("200 requests at once with one revoked token: one refresh, 200 answers", async () => {
  const server = await startServer(gives());
  const { client, login, resource } = await setUp({ refresh: at(server) });
  resource.revoke(login.access);
  const responses = await Promise.all(
    Array.from({ length: 200 }, (_, index) =>
      client.fetch(`${resource.url}/${index}`, { method: "POST", body: `${index}` }),
    ),
  );
  expect(responses.map(({ status }) => status)).toEqual(Array(200).fill(200));
  await Promise.all(responses.map((response) => response.text()));
  expect(server.requests).toHaveLength(1);
  const accepted = resource.asked.filter(({ access }) => access !== login.access);
  expect(resource.asked).toHaveLength(400);
  expect(new Set(accepted.map(({ access }) => access)).size).toBe(1);
  expect(new Set(accepted.map(({ path, body }) => `${path}=/${body}`)).size).toBe(200);
  for (const { path, body } of accepted) expect(path).toBe(`/${body}`);
});

describe("headers", () => {
  const other = vm.runInNewContext("({ pairs: [['x-one', '1']], record: { 'x-one': '1' } })");
  test.each([
    ["a record", { "x-one": "1" }],
    ["pairs", [["x-one", "1"]]],
    ["Headers", new Headers({ "x-one": "1" })],
    ["a Map", new Map([["x-one", "1"]])],
    ["undici's Headers", new undici.Headers({ "x-one": "1" })],
    ["another realm's record", other.record],
    ["another realm's pairs", other.pairs],
  ])("are kept: %s", async (_, headers) => {
    const { client, login, resource } = await setUp();
    await client.fetch(resource.url, { headers });
    expect(resource.asked[0].headers).toMatchObject({ "x-one": "1", authorization: `Bearer ${login.access}` });
  });

  test.each([[{ Authorization: "Bearer none" }], [new Headers({ authorization: "Basic bm9uZQ==" })]])(
    "of the caller's own account give way to the login's, and are not changed",
    async (headers) => {
      const before = [...new Headers(headers)];
      const { client, login, resource } = await setUp();
      await client.fetch(resource.url, { headers });
      expect(resource.asked[0].headers.authorization).toBe(`Bearer ${login.access}`);
      expect([...new Headers(headers)]).toEqual(before);
    },
  );
});

/** Sends it to a server that has revoked the token, and expects it to arrive twice. */
async function sentTwice(make, options) {
  const fields = answer();
  const { client, login, resource } = await setUp({ refresh: answering(fields), ...options });
  resource.revoke(login.access);
  const response = await client.fetch(...make(`${resource.url}/path`));
  expect(response.status).toBe(200);
  expect(resource.asked.map(({ access }) => access)).toEqual([login.access, fields.access]);
  const [first, second] = resource.asked;
  expect(second.method).toBe(first.method);
  expect(second.path).toBe(first.path);
  return [first, second];
}

describe("a body that can be sent again:", () => {
  const bytes = Buffer.from(BODY);
  const form = new FormData();
  form.set("field", BODY);
  test.each([
    ["text", BODY],
    ["a Buffer", bytes],
    ["a Uint8Array", new Uint8Array(bytes)],
    ["an ArrayBuffer", new Uint8Array(bytes).buffer],
    ["another realm's ArrayBuffer", vm.runInNewContext("new Uint8Array([1, 2, 3]).buffer")],
    ["a DataView", new DataView(new Uint8Array(bytes).buffer)],
    ["URLSearchParams", new URLSearchParams({ field: BODY })],
    ["a Blob", new Blob([BODY], { type: "text/x-mine" })],
    ["a File", new File([BODY], "mine.txt")],
  ])("%s", async (_, body) => {
    const [first, second] = await sentTwice((url) => [url, { method: "PUT", body }]);
    expect(first.method).toBe("PUT");
    expect(first.body.length).toBeGreaterThan(0);
    expect(second.body).toEqual(first.body);
    expect(second.headers["content-type"]).toBe(first.headers["content-type"]);
  });

  test("a form", async () => {
    for (const { body } of await sentTwice((url) => [url, { method: "POST", body: form }]))
      expect(body.toString()).toContain(BODY);
  });
});

describe("a body that can't be sent again is refused before anything is asked or sent:", () => {
  test.each([
    ["a ReadableStream", () => new Blob([BODY]).stream()],
    ["a stream of Node's", () => Readable.from([BODY])],
    [
      "an async iterable",
      () =>
        (async function* () {
          yield Buffer.from(BODY);
        })(),
    ],
  ])("%s", async (_, make) => {
    const refresh = unwanted();
    const { client, resource } = await setUp({ login: expired(), refresh });
    const sending = client.fetch(resource.url, { method: "POST", body: make(), duplex: "half" });
    const { message } = await typedRejection(sending, "invalid_argument");
    expect(message).toContain("Buffer");
    expect(message).toContain("headers()");
    expect(resource.asked).toEqual([]);
    expect(refresh).not.toHaveBeenCalled();
  });
});

describe("a Request", () => {
  const init = { method: "PATCH", body: BODY, headers: { "x-one": "1", "content-type": "text/x-mine" } };
  const expectWhole = (entries) => {
    for (const { method, body, headers } of entries) {
      expect([method, body.toString()]).toEqual(["PATCH", BODY]);
      expect(headers).toMatchObject({ "x-one": "1", "content-type": "text/x-mine" });
    }
  };

  test("is sent twice, with its body, its headers and its method", async () => {
    expectWhole(await sentTwice((url) => [new Request(url, init)]));
    expectWhole(await sentTwice((url) => [new Request(url, init), { body: null }]));
  });

  test("of undici's is sent, too", async () => {
    expectWhole(await sentTwice((url) => [new undici.Request(url, init)]));
    await sentTwice((url) => [new undici.Request(url)]);
  });

  test("as the second argument of a URL has its body as a stream: it is refused", async () => {
    const { client, resource } = await setUp();
    const sending = client.fetch(new URL(resource.url), new Request(resource.url, init));
    await typedRejection(sending, "invalid_argument");
  });

  test("gives way to what is beside it", async () => {
    const [first, second] = await sentTwice((url) => [
      new Request(url, init),
      { method: "PUT", body: "another", headers: { "x-two": "2" } },
    ]);
    for (const { method, body, headers } of [first, second]) {
      expect([method, body.toString(), headers["x-one"], headers["x-two"]]).toEqual(["PUT", "another", undefined, "2"]);
    }
  });

  test("without a body, and a URL, are sent", async () => {
    await sentTwice((url) => [new Request(url)]);
    await sentTwice((url) => [new URL(url)]);
  });

  test("has its signal heard", async () => {
    const { client, resource } = await setUp();
    const signal = AbortSignal.abort(new Error("enough"));
    expect(await rejection(client.fetch(new Request(resource.url, { signal })))).toMatchObject({ message: "enough" });
    expect(resource.asked).toEqual([]);
  });
});

describe("a signal", () => {
  test("that has aborted: nothing is sent, and its reason comes back, as from the global fetch", async () => {
    const { client, resource } = await setUp();
    const error = await rejection(client.fetch(resource.url, { signal: AbortSignal.abort() }));
    expect(error.name).toBe("AbortError");
    expect(resource.asked).toEqual([]);
  });

  test("ends the wait for a refresh; the refresh goes on", async () => {
    const slow = held();
    const { client, login, resource } = await setUp({ refresh: slow.refresh });
    resource.revoke(login.access);
    const controller = new AbortController();
    const leaving = client.fetch(resource.url, { signal: controller.signal });
    await slow.called;
    const reason = new Error("enough");
    controller.abort(reason);
    expect(await rejection(leaving)).toBe(reason);
    const fields = answer();
    slow.answer(fields);
    expect((await client.fetch(resource.url)).status).toBe(200);
    expect(resource.asked.at(-1).access).toBe(fields.access);
  });

  test("can be used elsewhere afterwards", async () => {
    const { client, resource } = await setUp();
    const { signal } = new AbortController();
    await client.token({ signal });
    const response = await undici.fetch(resource.url, { signal });
    expect(response.status).toBe(401);
  });

  test("ends a request", async () => {
    const controller = new AbortController();
    const { client, resource } = await setUp({
      answers: () => {
        controller.abort();
        return undefined;
      },
    });
    expect((await rejection(client.fetch(resource.url, { signal: controller.signal }))).name).toBe("AbortError");
  });
});

describe("a redirect", () => {
  test("to another origin gets no token, and its refusal is no reason for another", async () => {
    const other = await startResource();
    const { client, login, resource, refresh } = await setUp({
      answers: () => ({ status: 307, headers: { location: `${other.url}/there` } }),
    });
    const response = await client.fetch(resource.url, { method: "POST", body: BODY });
    expect(response.status).toBe(401);
    expect(other.asked.map(({ path, access }) => ({ path, access }))).toEqual([{ path: "/there", access: undefined }]);
    expect(toldIn(JSON.stringify(other.asked[0].headers))).toEqual([]);
    expect(resource.asked.map(({ access }) => access)).toEqual([login.access]);
    expect(refresh).not.toHaveBeenCalled();
  });

  test("within the origin keeps the token, and its refusal counts", async () => {
    const fields = answer();
    const { client, login, resource } = await setUp({
      refresh: answering(fields),
      answers: ({ path }) => (path === "/" ? { status: 307, headers: { location: "/there" } } : undefined),
    });
    resource.revoke(login.access);
    expect((await client.fetch(resource.url)).status).toBe(200);
    expect(resource.asked.map(({ path, access }) => `${path} ${access}`)).toEqual([
      `/ ${login.access}`,
      `/there ${login.access}`,
      `/ ${fields.access}`,
      `/there ${fields.access}`,
    ]);
  });

  test("is left to the caller, if the caller wants that", async () => {
    const { client, resource } = await setUp({ answers: () => ({ status: 302, headers: { location: "/there" } }) });
    expect((await client.fetch(resource.url, { redirect: "manual" })).status).toBe(302);
    expect(resource.asked).toHaveLength(1);
  });
});

describe("a fetch of the host's own is used:", () => {
  test.each([
    ["node-fetch", nodeFetch],
    ["undici", undici.fetch],
  ])("%s", async (_, fetch) => {
    const [first, second] = await sentTwice((url) => [url, { method: "POST", body: BODY }], { fetch });
    expect([first.body.toString(), second.body.toString()]).toEqual([BODY, BODY]);
  });

  test("with the members that only it knows", async () => {
    const fetch = vi.fn(async () => new Response("mine"));
    const { client, login } = await setUp({ fetch });
    const agent = {};
    expect(await (await client.fetch("https://acme.example/", { agent })).text()).toBe("mine");
    const [[url, init]] = fetch.mock.calls;
    expect(url).toBe("https://acme.example/");
    expect(init.agent).toBe(agent);
    expect(init.headers.get("authorization")).toBe(`Bearer ${login.access}`);
  });

  test("undici's, with its own Request", async () => {
    const init = { method: "POST", body: BODY };
    const [, second] = await sentTwice((url) => [new undici.Request(url, init)], { fetch: undici.fetch });
    expect(second.body.toString()).toBe(BODY);
  });
});

test("a token that is due is sent all the same, and the refresh goes on behind", async () => {
  const slow = held();
  const { client, login, resource } = await setUp({
    login: expired({ expires: Date.now() + 2 * MINUTE }),
    refresh: slow.refresh,
  });
  expect((await client.fetch(resource.url)).status).toBe(200);
  expect(resource.asked.map(({ access }) => access)).toEqual([login.access]);
  await slow.called;
  slow.answer(answer());
});
