/** How `token` gets the next token: where a refresh token is sent, by which client, and what is asked again. */
import { readFileSync } from "node:fs";
import { expect, onTestFinished, test } from "vitest";
import { serve } from "../../cli/provider.mjs";
import { requestOf } from "../../cli/token.mjs";
import { inspectOAuthRefreshLocks, OAUTH_PRESETS, withOAuthProfileLock, withOAuthRefreshLock } from "../../index.mjs";
import tokenEndpoints from "../../lib/token-endpoint.js";
import { deferred } from "../support/events.mjs";
import { createHost, expired, PROFILE, usable } from "../support/host.mjs";
import { on } from "./cli.mjs";
import { cli, endpoint, LOGIN, startProvider } from "./logins.mjs";

const { asking, tokenEndpoint: tokenEndpointOf } = tokenEndpoints;

test("a login that was added with its endpoint needs no options any more", async () => {
  const provider = await startProvider();
  const host = createHost();
  const login = JSON.stringify({ refresh_token: "r0" });
  const secret = ["--client-secret-env", "ACME_SECRET"];
  const added = await cli(["login", "add", ...LOGIN, ...on(host), ...endpoint(provider), ...secret], { input: login });
  expect(added).toEqual({ stdout: `Added ${PROFILE} in ${host.storePath("main")}.\n`, stderr: "", status: 0 });
  const missing = await cli(["token", ...LOGIN, ...on(host)]);
  expect(missing).toMatchObject({ stdout: "", status: 1 });
  expect(missing.stderr).toMatch(/ACME_SECRET, which is not set/);
  expect(provider.calls).toBe(0);
  const token = await cli(["token", ...LOGIN, ...on(host)], { env: { ACME_SECRET: "s3cret" } });
  expect(token).toEqual({ stdout: "SECRET-a1\n", stderr: "", status: 0 });
  expect(provider.sent[0].authorization).toBe(`Basic ${btoa("agents:s3cret")}`);
  expect(readFileSync(host.storePath("main"), "utf8")).not.toContain("s3cret");
});

test("what a login was added with comes before its provider's preset, and what a command says before that", async () => {
  const [provider, other] = [await startProvider(), await startProvider()];
  const host = createHost();
  const login = ["openai-codex", "openai-codex:own"];
  const secret = ["--client-secret-env", "OWN_SECRET"];
  const add = (input, ...more) =>
    cli(["login", "add", ...login, ...on(host), ...more], { input: JSON.stringify(input) });
  const token = async (...more) => (await cli(["token", ...login, ...on(host), ...more])).stdout;
  expect(await add({ refresh_token: "r0" }, ...endpoint(provider), ...secret)).toMatchObject({ status: 0 });
  // Another client has not the stored one's secret.
  expect(await token("--client-id", "public")).toBe("SECRET-a1\n");
  expect(provider.sent[0]).toMatchObject({ client_id: "public", authorization: undefined });
  // Stored once more without a word, and then with another one, it is refreshed as it was, and as it is said.
  const again = await add({ refresh_token: "r1" });
  expect(again.stdout).toMatch(/^Replaced/);
  expect((await cli(["token", ...login, ...on(host)])).stderr).toMatch(/OWN_SECRET, which is not set/);
  expect(await add({ refresh_token: "r1" }, "--client-id", "public")).toMatchObject({ status: 0 });
  expect(await token()).toBe("SECRET-a2\n");
  expect(provider.sent[1]).toMatchObject({ client_id: "public", authorization: undefined });
  expect(await add({ refresh_token: "r3" }, ...endpoint(other))).toMatchObject({ status: 0 });
  await token();
  expect([provider.sent.length, other.sent.length]).toEqual([2, 1]);
});

test("a refresh token goes where its own login says, whatever was there when the command began", async () => {
  const [provider, other] = [await startProvider(), await startProvider()];
  const host = createHost();
  const add = (refresh, at, ...more) =>
    cli(["login", "add", ...LOGIN, ...on(host), ...endpoint(at), ...more], { input: JSON.stringify({ refresh }) });
  await add("r9", provider);
  // It waits for the lock.
  const held = deferred();
  const [taken, isTaken] = [deferred(), () => taken.promise];
  const holding = withOAuthProfileLock(
    ...LOGIN,
    () => {
      taken.resolve();
      return held.promise;
    },
    { stateDir: host.stateDir },
  );
  await isTaken();
  const waiting = cli(["token", ...LOGIN, ...on(host)]);
  const seen = async () => (await inspectOAuthRefreshLocks({ stateDir: host.stateDir }))[0].waiters;
  await expect.poll(seen).toBe(1);
  await add("r0", other);
  held.resolve();
  await holding;
  expect(await waiting).toEqual({ stdout: "SECRET-a1\n", stderr: "", status: 0 });
  expect([provider.calls, other.calls]).toEqual([0, 1]);
});

test("an agent that goes on with main's newer login asks where that says", async () => {
  const [provider, other] = [await startProvider(), await startProvider()];
  const host = createHost();
  const seed = (agent, refresh, { url: tokenEndpoint }, ago) =>
    host.seed(agent, expired({ refresh, email: "me@x.test", tokenEndpoint, clientId: "c", expires: Date.now() - ago }));
  seed("coder", "r9", provider, 120_000);
  const token = () => cli(["token", ...LOGIN, ...on(host), "--agent-dir", host.agentDir("coder")]);
  // Refused for good: r9 is none of its tokens.
  expect(await token()).toMatchObject({ status: 1, stdout: "" });
  seed("main", "r0", other, 60_000);
  expect(await token()).toMatchObject({ status: 0, stdout: "SECRET-a1\n" });
  expect([provider.calls, other.calls]).toEqual([1, 1]);
});

test.each([
  ["asks to slow down", (response) => response.writeHead(400).end(JSON.stringify({ error: "slow_down" }))],
  ["is unavailable", (response) => response.writeHead(400).end(JSON.stringify({ error: "temporarily_unavailable" }))],
  ["hangs up", (response) => response.socket.destroy()],
  ["is down", (response) => response.writeHead(503).end()],
])("a provider that %s once is asked again", async (_, fail) => {
  let asked = 0;
  const { url, close } = await serve((_request, response) => {
    asked += 1;
    if (asked === 1) fail(response);
    else response.end(JSON.stringify({ access_token: "SECRET-next", refresh_token: "r1", expires_in: 3600 }));
  });
  onTestFinished(close);
  const host = createHost();
  host.seed("main", expired({ refresh: "r0", tokenEndpoint: `${url}/token`, clientId: "c" }));
  expect(await cli(["token", ...LOGIN, ...on(host)])).toEqual({ stdout: "SECRET-next\n", stderr: "", status: 0 });
  expect(asked).toBe(2);
});

test.each([
  ["a login without a refresh token", { refresh: "" }],
  ["a tenant's login at another host", { enterpriseUrl: "tenant.example" }],
])("what can't work is not tried again: %s", async (_, login) => {
  const host = createHost();
  host.seed("main", expired(login));
  let made = 0;
  const refresh = asking(() => {
    made += 1;
    return { tokenEndpoint: "https://auth.example.test/token", clientId: "c" };
  });
  const call = withOAuthRefreshLock(...LOGIN, refresh, { stateDir: host.stateDir });
  await expect(call).rejects.toMatchObject({ name: "OAuthRefreshLockError" });
  expect(made).toBe(1);
});

test("a token that is still good is printed, however wrong it is stored how it is refreshed", async () => {
  const host = createHost();
  for (const wrong of [
    { tokenEndpoint: "http://x.example" },
    { tokenEndpoint: 7 },
    { clientId: 7 },
    { clientSecretEnv: "NOT_SET" },
  ]) {
    host.seed("main", usable({ access: "SECRET-access", ...wrong }));
    expect(await cli(["token", ...LOGIN, ...on(host)])).toEqual({ stdout: "SECRET-access\n", stderr: "", status: 0 });
    host.seed("main", expired(wrong));
    const { stdout, status } = await cli(["token", ...LOGIN, ...on(host), "--json"]);
    expect({ code: JSON.parse(stdout).error.code, status }).toEqual({
      code: expect.stringMatching(/^(no_token_endpoint|no_client_secret|invalid_argument)$/),
      status: 1,
    });
  }
});

test("a preset that asks for a client of one's own is told it, or refused", () => {
  const secret = () => "s3cret";
  const client = { clientId: "c", clientSecretEnv: "APP_SECRET" };
  for (const provider of ["github-app", "tiktok-business", "withings"]) {
    const { tokenEndpoint } = OAUTH_PRESETS[provider];
    const given = { tokenEndpoint, clientId: "c" };
    const request = requestOf(provider, client, secret);
    expect(request).toMatchObject({ ...given, clientSecret: "s3cret", clientAuth: "post" });
    // As the library takes it.
    tokenEndpointOf("refresh", request);
    tokenEndpointOf("refresh", requestOf(provider, { clientId: "c" }, secret));
    const refused = () => requestOf(provider, {}, secret);
    expect(refused).toThrow(
      expect.objectContaining({ code: "no_client", message: expect.stringMatching(/--client-id/) }),
    );
  }
  tokenEndpointOf("refresh", requestOf("anthropic", {}, secret));
});

test.each([false, true])("a tenant's refresh token goes to no other host (stored with that: %s)", async (isStored) => {
  const provider = await startProvider();
  const host = createHost();
  const login = expired({ refresh: "r0", enterpriseUrl: "tenant.example" });
  if (isStored)
    await cli(["login", "add", ...LOGIN, ...on(host), ...endpoint(provider)], { input: JSON.stringify(login) });
  else host.seed("main", login);
  const how = isStored ? [] : endpoint(provider);
  const { stdout, stderr, status } = await cli(["token", ...LOGIN, ...on(host), ...how]);
  expect({ stdout, status, calls: provider.calls }).toEqual({ stdout: "", status: 1, calls: 0 });
  expect(stderr).toMatch(/tenant\.example/);
});
