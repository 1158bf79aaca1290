/** `fetch` of a client, against a real server: when it sends a request, sends it again, and asks for another token. */
import * as undici from "undici";
import { describe, expect, test, vi } from "vitest";
import { answering, held, listen, rejection, typedRejection } from "./support/calls.mjs";
import { setUp } from "./support/client-fetch.mjs";
import { answer, expired, MINUTE, PROFILE } from "./support/host.mjs";
import { startResource } from "./support/resource-server.mjs";
import { toldIn } from "./support/secrets.mjs";
import { at, gives, startServer } from "./support/token-server.mjs";

const BODY = "what is sent";

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

  test("with a token that no header can carry is not sent, and its error does not quote it", async () => {
    const { client, host, login, resource } = await setUp();
    host.seed("main", { ...login, access: "SEC\nRET" });
    const error = await typedRejection(client.fetch(resource.url), "store_invalid");
    expect(`${error.stack}`).not.toContain("RET");
    expect(resource.asked).toEqual([]);
    // As `Headers` does.
    host.seed("main", { ...login, access: `${login.access}\n` });
    expect((await client.fetch(resource.url)).status).toBe(200);
  });

  test.each([
    ["sooner", (expires) => expires - MINUTE],
    ["at the same time", (expires) => expires],
  ])(
    "whose token was refused gets another that expires %s, of a provider that keeps its refresh token",
    async (_, end) => {
      const refresh = vi.fn(async ({ expires }) => ({
        access: `next-${refresh.mock.calls.length}`,
        expires: end(expires),
      }));
      const { client, login, host, resource } = await setUp({ refresh });
      for (const refused of [login.access, "next-1"]) {
        resource.revoke(refused);
        expect((await client.fetch(resource.url)).status).toBe(200);
      }
      expect(resource.asked.at(-1).access).toBe("next-2");
      expect(JSON.parse(host.store("main")).profiles[PROFILE]).toMatchObject({
        access: "next-2",
        refresh: login.refresh,
      });
    },
  );

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

test("a token that is due is sent all the same, and the refresh goes on behind", async () => {
  const slow = held();
  const { client, login, resource } = await setUp({
    login: expired({ expires: Date.now() + 2 * MINUTE }),
    refresh: slow.refresh,
  });
  expect((await client.fetch(resource.url)).status).toBe(200);
  expect(resource.asked.map(({ access }) => access)).toEqual([login.access]);
  await slow.called;
  const log = listen();
  slow.answer(answer());
  await log.seen({ type: "refreshed" });
});
