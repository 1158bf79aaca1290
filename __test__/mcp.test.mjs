/** Clients of the official TypeScript SDK of MCP, 1.x and 2.x, with a stored login, at a real MCP server and a real OAuth server. */
import { createRequire } from "node:module";
import * as current from "@modelcontextprotocol/client";
import { Client as OldClient } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport as OldTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { createOAuthClient } from "../index.mjs";
import * as mcp from "../mcp.mjs";
import { answering, listen, rejection, typedRejection } from "./support/calls.mjs";
import { answer, createHost, PROFILE, PROVIDER, usable } from "./support/host.mjs";
import { startMcpServer } from "./support/mcp-server.mjs";
import { granted, server as provider, refreshAtServer } from "./support/real-provider.mjs";

const { mcpAuthProvider, mcpClientProvider } = mcp;

const clientOf = (host, refresh = refreshAtServer) =>
  createOAuthClient({ provider: PROVIDER, profileId: PROFILE, refresh, ...host.as("main") });

const NEW = (url, options) => [
  new current.Client({ name: "new", version: "1.0.0" }),
  new current.StreamableHTTPClientTransport(url, options),
];
const OLD = (url, options) => [new OldClient({ name: "old", version: "1.0.0" }), new OldTransport(url, options)];
/** How a login gets into a transport: the SDK, and its options. */
const WAYS = [
  ["2.x, as its authProvider", NEW, (client) => ({ authProvider: mcpAuthProvider(client) })],
  ["2.x, as its fetch", NEW, (client) => ({ fetch: client.fetch })],
  ["1.x, as its fetch", OLD, (client) => ({ fetch: client.fetch })],
];

async function connected([client, transport]) {
  await client.connect(transport);
  onTestFinished(() => client.close());
  return client;
}

/** Which token a tool was called with. */
async function whoami(client) {
  const { content } = await client.callTool({ name: "whoami", arguments: {} });
  return content[0].text.replace("Bearer ", "");
}

describe.each(WAYS)("%s:", (_, make, options) => {
  test("ten clients, an expiry and a refusal: two calls of the provider, and every answer", async () => {
    const host = createHost({ main: await granted() });
    const revoked = new Set();
    const server = await startMcpServer(
      async (access) => !revoked.has(access) && (await provider.isAccessTokenValid(access)),
    );
    // Two objects of one login in this process are no more than one.
    const logins = [clientOf(host), clientOf(host)];
    const made = Array.from({ length: 10 }, (_, index) => make(server.url, options(logins[index % 2])));
    const clients = await Promise.all(made.map(connected));
    const [first, ...others] = await Promise.all(clients.map(whoami));
    expect(others).toEqual(Array(9).fill(first));
    expect(provider.stats()).toMatchObject({ refreshCalls: 1, refreshed: 1 });

    revoked.add(first);
    // Each with several requests under way.
    const after = await Promise.all([...clients, ...clients, ...clients].map(whoami));
    expect(new Set(after).size).toBe(1);
    expect(after[0]).not.toBe(first);
    expect(provider.stats()).toMatchObject({ refreshCalls: 2, refreshed: 2, reuseErrors: 0, grantsRevoked: 0 });
    expect(server.asked.filter(({ path }) => path !== "/mcp")).toEqual([]);
  });

  test("a server that refuses every token costs one call", async () => {
    const refresh = vi.fn(async () => answer());
    const server = await startMcpServer(() => false);
    const client = clientOf(createHost({ main: usable() }), refresh);
    const error = await rejection(connected(make(server.url, options(client))));
    expect([error.status, error.code, error.data?.status]).toContain(401);
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(new Set(server.asked.map(({ path }) => path))).toEqual(new Set(["/mcp"]));
  });

  test("without a login nothing is sent, and the error says to log in", async () => {
    const server = await startMcpServer(() => true);
    const [client, transport] = make(server.url, options(clientOf(createHost())));
    const error = await rejection(client.connect(transport));
    expect({ name: error.name, code: error.code }).toEqual({ name: "OAuthRefreshLockError", code: "no_login" });
    expect(server.asked).toEqual([]);
  });
});

describe("1.x, as its authProvider:", () => {
  const options = (client) => ({ authProvider: mcpClientProvider(client) });

  test("ten clients with an expired login: one call of the provider, and none by the SDK", async () => {
    const host = createHost({ main: await granted() });
    const server = await startMcpServer(provider.isAccessTokenValid);
    const login = clientOf(host);
    const clients = await Promise.all(Array.from({ length: 10 }, () => connected(OLD(server.url, options(login)))));
    expect(new Set(await Promise.all(clients.map(whoami))).size).toBe(1);
    expect(provider.stats()).toMatchObject({ refreshCalls: 1, refreshed: 1 });
  });

  test("a refused token fails one request, and the next has another; the SDK looks for no provider", async () => {
    const fields = answer();
    const refresh = answering(fields);
    const login = usable();
    const revoked = new Set();
    const server = await startMcpServer((access) => !revoked.has(access));
    const client = await connected(OLD(server.url, options(clientOf(createHost({ main: login }), refresh))));
    expect(await whoami(client)).toBe(login.access);
    revoked.add(login.access);
    await typedRejection(whoami(client), "access_refused");
    expect(await whoami(client)).toBe(fields.access);
    expect(refresh).toHaveBeenCalledTimes(1);
    // A second one soon after is not replaced.
    revoked.add(fields.access);
    const { message } = await typedRejection(whoami(client), "access_refused");
    expect(message).toContain("log in");
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(new Set(server.asked.map(({ path }) => path))).toEqual(new Set(["/mcp"]));
  });

  test("a scope that is missing sends nobody to the provider", async () => {
    const refresh = answering();
    const login = usable();
    let isEnough = true;
    const server = await startMcpServer(() => isEnough);
    const client = await connected(OLD(server.url, options(clientOf(createHost({ main: login }), refresh))));
    isEnough = false;
    Object.assign(server.refusal, { status: 403, challenge: 'Bearer error="insufficient_scope", scope="admin"' });
    await typedRejection(whoami(client), "access_refused");
    expect(new Set(server.asked.map(({ path }) => path))).toEqual(new Set(["/mcp"]));
  });

  test("its SSE transport is refused the same way", async () => {
    const server = await startMcpServer(() => false);
    const transport = new SSEClientTransport(
      server.url,
      options(clientOf(createHost({ main: usable() }), answering())),
    );
    await typedRejection(transport.start(), "access_refused");
  });

  test("it hands out no refresh token, and leaves logging in to the host", async () => {
    const login = usable();
    const given = mcpClientProvider(clientOf(createHost({ main: login })));
    expect(await given.tokens()).toEqual({ access_token: login.access, token_type: "Bearer" });
    const steps = ["saveTokens", "redirectToAuthorization", "saveCodeVerifier", "codeVerifier"];
    for (const name of steps) await typedRejection((async () => given[name]())(), "no_login");
  });
});

describe("2.x does not say which token was refused:", () => {
  async function setUp() {
    const login = usable();
    const refresh = vi.fn(async () => answer());
    const client = clientOf(createHost({ main: login }), refresh);
    return { login, refresh, client, given: mcpAuthProvider(client) };
  }

  test("requests that were under way when it was replaced replace nothing; the one after them does", async () => {
    const { login, refresh, given } = await setUp();
    const before = await Promise.all(Array.from({ length: 3 }, () => given.token()));
    expect(before).toEqual(Array(3).fill(login.access));
    await given.onUnauthorized();
    const second = await given.token();
    await Promise.all(Array.from({ length: 2 }, () => given.onUnauthorized()));
    expect(await given.token()).toBe(second);
    expect(refresh).toHaveBeenCalledTimes(1);
    await given.onUnauthorized();
    expect(await given.token()).not.toBe(second);
    expect(refresh).toHaveBeenCalledTimes(2);
  });

  test("after half a minute a refusal is about the token in use", async () => {
    const { refresh, given } = await setUp();
    const now = vi.spyOn(performance, "now");
    onTestFinished(() => now.mockRestore());
    await Promise.all(Array.from({ length: 3 }, () => given.token()));
    await given.onUnauthorized();
    const second = await given.token();
    const later = performance.now() + 31_000;
    now.mockImplementation(() => later);
    await given.onUnauthorized();
    expect(await given.token()).not.toBe(second);
    expect(refresh).toHaveBeenCalledTimes(2);
  });

  test("a refusal before any token was given asks nobody", async () => {
    const { refresh, given } = await setUp();
    const log = listen();
    await given.onUnauthorized();
    expect(log.types()).toEqual([]);
    expect(refresh).not.toHaveBeenCalled();
  });
});

test.each([[undefined], [{}], ["client"]])("what is no client is refused: %s", async (client) => {
  for (const make of [mcpAuthProvider, mcpClientProvider])
    await typedRejection((async () => make(client))(), "invalid_argument");
});

test("it is imported and required by name, and is one", async () => {
  const required = createRequire(import.meta.url)("oauth-refresh-lock/mcp");
  const imported = await import("oauth-refresh-lock/mcp");
  expect(Object.keys(imported).sort()).toEqual(["mcpAuthProvider", "mcpClientProvider"]);
  expect({ ...imported }).toEqual({ ...required });
  expect({ ...mcp }).toEqual({ ...required });
});
