/**
 * The presets: that they are what a call takes, where their facts come from, and how their providers' answers are read.
 *
 * Nobody's host is asked: tokens go to loopback, and whatever would go elsewhere meets a proxy there that refuses.
 */
import { readFileSync } from "node:fs";
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { OAUTH_PRESETS, refreshOAuthToken } from "../index.mjs";
import { refreshAs, stopClock, typedRejection } from "./support/calls.mjs";
import { createHost, expired, HOUR, MINUTE, storeText } from "./support/host.mjs";
import { token } from "./support/secrets.mjs";
import { json, jwt, says, startServer, tokens } from "./support/token-server.mjs";

const FILE = JSON.parse(readFileSync(new URL("../presets.json", import.meta.url), "utf8"));
const PRESETS = Object.entries(OAUTH_PRESETS);
/** What an app's own preset lacks. */
const APP = { clientId: "client", clientSecret: token("client") };
const OWN = { "github-app": APP, "tiktok-business": APP, withings: APP };

/** On the way to every host but this one. */
let proxy;
beforeEach(async () => {
  proxy = await startServer((_, socket) => socket.end("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"));
  vi.stubEnv("https_proxy", `http://127.0.0.1:${proxy.port}`);
  vi.stubEnv("no_proxy", "");
  vi.stubEnv("NO_PROXY", "");
  onTestFinished(() => {
    vi.unstubAllEnvs();
  });
});

test("there is one for each of six logins", () => {
  const names = ["openai-codex", "anthropic", "github-app", "github-copilot", "tiktok-business", "withings"];
  expect(Object.keys(OAUTH_PRESETS)).toEqual(names);
});

describe.each(PRESETS)("the preset %s", (name, preset) => {
  const whole = { ...preset, ...OWN[name] };

  test("is frozen through and through", () => {
    const expectFrozen = (value) => {
      expect(Object.isFrozen(value)).toBe(true);
      if (typeof value === "object" && value !== null) Object.values(value).forEach(expectFrozen);
    };
    expect(Object.isFrozen(OAUTH_PRESETS)).toBe(true);
    expectFrozen(preset);
    expect(preset).toEqual(FILE[name].request);
  });

  test("names a source for each fact", () => {
    const { request, replay, sources } = FILE[name];
    const facts = new Set([...Object.keys(request), "replay"]);
    expect(Object.keys(sources).sort()).toEqual([...facts].sort());
    for (const source of Object.values(sources)) expect(source).toMatch(/^[\w-]+(\.[\w-]+)+\/\S/);
    expect(replay).toMatch(/\S/);
  });

  test("is a request that a call takes", async () => {
    const alone = refreshOAuthToken({ ...whole, refreshToken: token("refresh") }, { signal: AbortSignal.abort() });
    expect((await typedRejection(alone, "caller_aborted")).refreshFailure).toEqual({ class: "not_sent" });
    expect(await refreshAs(createHost(), "main", whole)).toBeNull();
    expect(proxy.connections).toBe(0);
  });
});

test.each(Object.keys(OWN))("the preset %s wants the app's own client", async (name) => {
  const call = refreshAs(createHost(), "main", OAUTH_PRESETS[name]);
  expect((await typedRejection(call, "invalid_argument")).message).toContain("clientId");
});

describe("the token of an enterprise's login", () => {
  const login = () => expired({ enterpriseUrl: "https://octo.example" });

  test.each([
    ["github-app", "octo.example:443"],
    ["github-copilot", "api.octo.example:443"],
  ])("goes to its host alone with the preset %s", async (name, host) => {
    const server = await startServer();
    const old = login();
    const agents = createHost({ main: old });
    const request = { ...OAUTH_PRESETS[name], ...OWN[name], tokenEndpoint: server.url };
    stopClock();
    await typedRejection(refreshAs(agents, "main", request, { timeoutMs: 200 }), "provider_unreachable");
    expect(proxy.requests.map(({ method, path }) => [method, path])).toEqual([["CONNECT", host]]);
    expect(server.connections).toBe(0);
    expect(agents.store("main")).toBe(storeText(old));
  });

  test.each(["openai-codex", "anthropic"])("goes nowhere with the preset %s", async (name) => {
    const server = await startServer();
    const request = { ...OAUTH_PRESETS[name], tokenEndpoint: server.url };
    const call = refreshAs(createHost({ main: login() }), "main", request);
    expect((await typedRejection(call, "invalid_argument")).message).toContain("octo.example");
    expect([server.connections, proxy.connections]).toEqual([0, 0]);
  });
});

/** Refreshes at a server that answers with this. */
async function refreshed(name, answer, old = expired()) {
  const server = await startServer(says(json(answer)));
  const host = createHost({ main: old });
  const request = { ...OAUTH_PRESETS[name], ...OWN[name], tokenEndpoint: server.url };
  const { outcome, credential } = await refreshAs(host, "main", request);
  expect(outcome).toBe("refreshed");
  expect(host.store("main")).toBe(storeText(credential));
  expect(proxy.connections).toBe(0);
  const [{ method, headers, body }] = server.requests;
  expect(server.requests).toHaveLength(1);
  return { credential, old, method, headers, body };
}

describe("asked as the preset says, the answer tells who it is for:", () => {
  const [accountId, email] = ["account-1", "owner@example.test"];
  const codex = (profile) => jwt({ "https://api.openai.com/auth": { chatgpt_account_id: accountId }, ...profile });

  test.each([
    ["openai-codex", "an id_token", () => tokens({ id_token: codex({ email }) })],
    [
      "openai-codex",
      "an access token",
      () => tokens({ access_token: codex({ "https://api.openai.com/profile": { email } }) }),
    ],
    ["anthropic", "the answer itself", () => tokens({ account: { uuid: accountId, email_address: email } })],
  ])("%s, by %s", async (name, _, given) => {
    const answer = given();
    const { credential, old, method, headers, body } = await refreshed(name, answer);
    expect(credential).toMatchObject({ access: answer.access_token, refresh: answer.refresh_token, accountId, email });
    expect([method, headers["content-type"]]).toEqual(["POST", "application/json"]);
    expect(JSON.parse(body)).toEqual({
      grant_type: "refresh_token",
      refresh_token: old.refresh,
      client_id: OAUTH_PRESETS[name].clientId,
    });
  });

  test.each([
    ["openai-codex", () => tokens({ id_token: codex() })],
    ["anthropic", () => tokens({ account: { uuid: accountId } })],
  ])("%s, and another account's is refused", async (name, answer) => {
    const old = expired({ accountId: "account-2" });
    const host = createHost({ main: old });
    const server = await startServer(says(json(answer())));
    const call = refreshAs(host, "main", { ...OAUTH_PRESETS[name], tokenEndpoint: server.url });
    await typedRejection(call, "identity_mismatch");
    expect(host.store("main")).toBe(storeText(old));
  });
});

describe("the answer is found in its envelope:", () => {
  test.each([
    ["tiktok-business", (given) => ({ code: 0, message: "OK", request_id: "r", data: { ...given, open_id: "o" } })],
    ["withings", (given) => ({ status: 0, body: { ...given, userid: "363" } })],
  ])("%s", async (name, wrap) => {
    const given = tokens();
    const { credential, old, headers, body } = await refreshed(name, wrap(given));
    expect(credential).toMatchObject({ access: given.access_token, refresh: given.refresh_token });
    const isJson = headers["content-type"] === "application/json";
    expect(isJson ? JSON.parse(body) : Object.fromEntries(new URLSearchParams(body))).toEqual({
      grant_type: "refresh_token",
      refresh_token: old.refresh,
      client_id: APP.clientId,
      client_secret: APP.clientSecret,
    });
  });
});

describe("GitHub Copilot", () => {
  const exchanged = (fields) => ({
    token: token("copilot"),
    expires_at: Math.floor(Date.now() / 1000) + 1800,
    refresh_in: 1500,
    ...fields,
  });

  test("exchanges the GitHub token, which stays", async () => {
    const answer = exchanged();
    const before = Date.now();
    const { credential, old, method, headers, body } = await refreshed("github-copilot", answer);
    expect(credential).toMatchObject({ access: answer.token, refresh: old.refresh });
    expect([method, body, headers.authorization]).toEqual(["GET", "", `token ${old.refresh}`]);
    expect(headers["x-github-api-version"]).toBe("2025-04-01");
    // By our clock, as the earlier of both.
    expect(credential.expires).toBeGreaterThanOrEqual(before + 26 * MINUTE);
    expect(credential.expires).toBeLessThanOrEqual(Date.now() + 26 * MINUTE);
  });

  test.each([
    ["expires_at, if refresh_in is later", (at) => ({ expires_at: at, refresh_in: 7200 })],
    ["expires_at, if it is all there is", (at) => ({ expires_at: at, refresh_in: undefined })],
  ])("says by %s when the token expires", async (_, fields) => {
    const instant = Math.floor((Date.now() + HOUR) / 1000);
    const { credential } = await refreshed("github-copilot", exchanged(fields(instant)));
    expect(credential.expires).toBe(instant * 1000);
  });

  test("is asked once by twenty callers", async () => {
    const host = createHost({ main: expired() });
    const answer = exchanged();
    const waiting = [];
    const server = await startServer((_, socket) => waiting.push(socket));
    const request = { ...OAUTH_PRESETS["github-copilot"], tokenEndpoint: server.url };
    const calls = Array.from({ length: 20 }, () => refreshAs(host, "main", request));
    await server.requested();
    for (const socket of waiting) socket.write(json(answer));
    const results = await Promise.all(calls);
    expect(new Set(results.map(({ credential }) => credential.access))).toEqual(new Set([answer.token]));
    expect(results.filter(({ outcome }) => outcome === "refreshed")).toHaveLength(1);
    expect(server.requests).toHaveLength(1);
  });
});
