/** `fetch` of a client, against a real server: which headers, bodies, Requests and functions like `fetch` it takes. */
import { Readable } from "node:stream";
import vm from "node:vm";
import nodeFetch from "node-fetch";
import * as undici from "undici";
import { describe, expect, test, vi } from "vitest";
import { answering, rejection, typedRejection, unwanted } from "./support/calls.mjs";
import { setUp } from "./support/client-fetch.mjs";
import { answer, expired } from "./support/host.mjs";

const BODY = "what is sent";

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
