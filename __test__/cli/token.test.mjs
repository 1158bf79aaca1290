/** `token`, `run` and `login`: what a shell, a helper script or another program uses. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Grant, serve, startProvider as startPlainProvider } from "../../cli/provider.mjs";
import { requestOf } from "../../cli/token.mjs";
import { inspectOAuthRefreshLocks, OAUTH_PRESETS, withOAuthProfileLock, withOAuthRefreshLock } from "../../index.mjs";
import tokenEndpoints from "../../lib/token-endpoint.js";
import { ended } from "../support/child.mjs";
import { startEtcdStandIn } from "../support/etcd-stand-in.mjs";
import { deferred } from "../support/events.mjs";
import { createHost, expired, PROFILE, PROVIDER, storeText, usable } from "../support/host.mjs";
import { MAIN, on } from "./cli.mjs";

const LOGIN = [PROVIDER, PROFILE];
const { asking, tokenEndpoint: tokenEndpointOf } = tokenEndpoints;

/** A provider whose refresh tokens are good for one use, and which counts its calls. */
async function startProvider() {
  const grant = new Grant((count) => ({ access: `SECRET-a${count}`, refresh: `r${count}` }));
  const sent = [];
  const { url, close } = await startPlainProvider(async (parameters, { headers }) => {
    sent.push({ ...Object.fromEntries(parameters), authorization: headers.authorization });
    grant.calls += 1;
    return grant.exchange(parameters.get("refresh_token"));
  });
  onTestFinished(close);
  return Object.assign(grant, { url, sent });
}

/** Not `spawnSync`: the provider is in this process. */
async function cli(args, { input = "", env } = {}) {
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { PATH: process.env.PATH, HOME: "/nonexistent", ...env },
  });
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  return ended(child);
}

const endpoint = ({ url }) => ["--token-endpoint", url, "--client-id", "agents"];

test("thirty processes that want the token of one expired login make one call", async () => {
  const provider = await startProvider();
  const host = createHost();
  host.seed("main", expired({ refresh: "r0" }));
  const ask = () => cli(["token", ...LOGIN, ...on(host), ...endpoint(provider)]);
  const given = await Promise.all(Array.from({ length: 30 }, ask));
  expect(new Set(given.map(({ stdout }) => stdout))).toEqual(new Set(["SECRET-a1\n"]));
  expect(given.filter(({ status, stderr }) => status !== 0 || stderr !== "")).toEqual([]);
  expect(provider).toMatchObject({ calls: 1, reused: 0 });
});

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

test("the client may stand in the JSON, and the rest on the command line; a secret in the wrong place is not shown", async () => {
  const host = createHost();
  const add = (login, ...more) =>
    cli(["login", "add", ...LOGIN, ...on(host), ...more], { input: JSON.stringify(login) });
  const at = ["--token-endpoint", "https://auth.example.test/token"];
  const added = await add({ refresh: "r0", clientId: "X" }, ...at, "--client-secret-env", "APP_SECRET");
  expect(added).toMatchObject({ status: 0 });
  const { clientId, clientSecretEnv } = JSON.parse(host.store("main")).profiles[PROFILE];
  expect({ clientId, clientSecretEnv }).toEqual({ clientId: "X", clientSecretEnv: "APP_SECRET" });
  // A blank one says nothing.
  expect(await add({ refresh: "r1", clientId: "" })).toMatchObject({ status: 0 });
  expect(JSON.parse(host.store("main")).profiles[PROFILE]).toMatchObject({
    clientId: "X",
    clientSecretEnv: "APP_SECRET",
  });
  const before = host.store("main");
  const wrong = await add({ refresh: "r2", clientSecretEnv: "s3cr-et!" });
  expect(wrong).toMatchObject({ status: 1, stderr: expect.not.stringContaining("s3cr-et") });
  expect(host.store("main")).toBe(before);
  host.seed("main", expired({ refresh: "r2", tokenEndpoint: at[1], clientId: "X", clientSecretEnv: "s3cr-et!" }));
  const token = await cli(["token", ...LOGIN, ...on(host)]);
  expect(token).toMatchObject({ status: 1, stderr: expect.not.stringContaining("s3cr-et") });
});

test("what a login says itself of its client is stored, and another account's login inherits none", async () => {
  const provider = await startProvider();
  const host = createHost();
  const add = (login, ...more) =>
    cli(["login", "add", ...LOGIN, ...on(host), ...more], { input: JSON.stringify(login) });
  const stored = () => JSON.parse(host.store("main")).profiles[PROFILE];
  const secret = ["--client-secret-env", "APP_SECRET"];
  expect(await add({ refresh: "r0", email: "a@x.test" }, ...endpoint(provider), ...secret)).toMatchObject({
    status: 0,
  });
  await add({ refresh: "r1", email: "a@x.test", clientId: "its-own" }, "--token-endpoint", provider.url);
  expect(stored()).toMatchObject({ refresh: "r1", clientId: "its-own" });
  expect(stored().clientSecretEnv).toBeUndefined();
  const before = host.store("main");
  const other = { refresh: "r7", email: "b@x.test" };
  expect(await add(other, "--replace")).toMatchObject({ status: 1, stderr: expect.stringMatching(/--token-endpoint/) });
  const half = await add(other, "--replace", "--token-endpoint", provider.url, ...secret);
  expect(half).toMatchObject({ status: 1, stderr: expect.stringMatching(/clientId/) });
  expect(host.store("main")).toBe(before);
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

test("a token with a control character is neither stored nor printed", async () => {
  const provider = await startProvider();
  const host = createHost();
  const input = JSON.stringify({ access_token: "SEC\u0000RET", refresh_token: "r0" });
  const added = await cli(["login", "add", ...LOGIN, ...on(host), ...endpoint(provider)], { input });
  expect(added).toMatchObject({ status: 1, stderr: expect.stringMatching(/control characters/) });
  for (const access of ["SEC\u0000RET", "SEC\nRET"]) {
    host.seed("main", usable({ access }));
    for (const [command, ...more] of [["token"], ["run", "--", "true"]]) {
      const { stdout, stderr, status } = await cli([command, ...LOGIN, ...on(host), ...more]);
      expect({ stdout, status }).toEqual({ stdout: "", status: 1 });
      expect(stderr).toBe(`error: The access token of ${PROFILE} has control characters; log in again.\n`);
    }
  }
});

test("what stands in the place of a variable's name is shown to nobody", async () => {
  const host = createHost();
  for (const option of [
    ["--client-secret-env", "my$ecret!"],
    ["--coordinator-key-env", "my$ecret!"],
    ["--env", ""],
    ["--env", "A=my$ecret"],
  ]) {
    const { stdout, stderr, status } = await cli(["run", ...LOGIN, ...on(host), ...option, "--", "env"]);
    expect({ stdout, status }).toEqual({ stdout: "", status: 2 });
    expect(stderr).toMatch(/the name of a variable/);
    expect(stderr).not.toContain("ecret!");
  }
  expect(await cli(["token", ...LOGIN, ...on(host), "--timeout", "0"])).toMatchObject({ status: 2 });
});

test("an expiry that no calendar has keeps no token from its reader", async () => {
  const host = createHost();
  host.seed("main", usable({ access: "SECRET-access", expires: 1e17 }));
  const { stdout } = await cli(["token", ...LOGIN, ...on(host), "--json"]);
  expect(JSON.parse(stdout)).toEqual({ accessToken: "SECRET-access", tokenType: "Bearer", expires: 1e17 });
});

test("another program's login is not taken over", async () => {
  const provider = await startProvider();
  const host = createHost();
  const tokens = { access_token: "SECRET-a", refresh_token: "SECRET-r" };
  const own = { accessToken: "SECRET-a", refreshToken: "SECRET-r", expiresAt: Date.now() + 3_600_000 };
  for (const [program, file] of [
    ["Codex", { auth_mode: "chatgpt", OPENAI_API_KEY: null, tokens, last_refresh: "2026-11-30T00:00:00Z" }],
    ["Claude Code", { claudeAiOauth: own }],
    ["opencode", { anthropic: { type: "oauth", access: "SECRET-a", refresh: "SECRET-r", expires: 1 } }],
  ]) {
    const add = ["login", "add", ...LOGIN, ...on(host), ...endpoint(provider)];
    const { stdout, stderr, status } = await cli(add, { input: JSON.stringify(file) });
    expect({ stdout, status }).toEqual({ stdout: "", status: 1 });
    expect(stderr).toMatch(new RegExp(`^error: this is ${program}'s own login, .* log in once more`));
    expect(stderr).not.toContain("SECRET");
  }
  expect(existsSync(host.storePath("main"))).toBe(false);
});

test("each format is what its reader expects", async () => {
  const host = createHost();
  const { access, expires } = usable({});
  host.seed("main", usable({ access, expires }));
  const at = new Date(expires).toISOString();
  for (const [format, printed] of [
    ["json", { accessToken: access, tokenType: "Bearer", expires, expiresAt: at }],
    ["headers", { Authorization: `Bearer ${access}` }],
    [
      "exec-credential",
      {
        apiVersion: "client.authentication.k8s.io/v1",
        kind: "ExecCredential",
        status: { token: access, expirationTimestamp: at },
      },
    ],
  ]) {
    const { stdout } = await cli(["token", ...LOGIN, ...on(host), "--format", format]);
    expect(JSON.parse(stdout)).toEqual(printed);
  }
});

test("a token that lives too short for its reader is refreshed", async () => {
  const provider = await startProvider();
  const host = createHost();
  host.seed("main", usable({ refresh: "r0", expires: Date.now() + 600_000 }));
  const ask = (...more) => cli(["token", ...LOGIN, ...on(host), ...endpoint(provider), ...more]);
  await ask();
  expect(provider.calls).toBe(0);
  expect((await ask("--min-life", "1200")).stdout).toBe("SECRET-a1\n");
  // A fifth of an hour is all that a margin counts.
  const login = JSON.parse(host.store("main")).profiles[PROFILE];
  host.seed("main", { ...login, expires: Date.now() + 1_200_000 });
  const given = await Promise.all(Array.from({ length: 5 }, () => ask("--min-life", "1800")));
  expect(given.map(({ stdout }) => stdout)).toEqual(Array(5).fill("SECRET-a2\n"));
  expect(provider).toMatchObject({ calls: 2, reused: 0 });
});

test("a reader that needs longer than tokens live is told, and one that can be served while refreshing fails is served", async () => {
  const provider = await startProvider();
  const host = createHost();
  host.seed("main", expired({ refresh: "r0" }));
  const ask = (...more) => cli(["token", ...LOGIN, ...on(host), ...endpoint(provider), ...more]);
  const long = await ask("--min-life", "7200", "--json");
  expect(long).toMatchObject({ status: 1, stderr: expect.stringMatching(/^error: A new token lives for 3[56]\d\d s/) });
  expect(JSON.parse(long.stdout).error.code).toBe("short_life");
  expect(provider.calls).toBe(1);
  host.seed("main", usable({ access: "SECRET-good", refresh: "other" }));
  expect(await ask("--min-life", "7200")).toEqual({ stdout: "SECRET-good\n", stderr: "", status: 0 });
});

test("with --json an error says its code; a program's own --json is not ours", async () => {
  const host = createHost();
  host.seed("main", usable({ access: "SECRET-access" }));
  const token = (...args) => cli(["token", PROVIDER, ...args, ...on(host), "--json"]);
  expect(JSON.parse((await token(PROFILE)).stdout)).toMatchObject({ accessToken: "SECRET-access" });
  expect(JSON.parse((await token("acme:nobody")).stdout).error).toMatchObject({ code: "no_login" });
  const run = await cli(["run", PROVIDER, "acme:nobody", ...on(host), "--", "program", "--json"]);
  expect(run).toMatchObject({ stdout: "", status: 1 });
});

test("a token is printed on no terminal, unless that is wanted", async () => {
  const host = createHost();
  host.seed("main", usable({ access: "SECRET-access" }));
  const onTerminal = (...more) => {
    const command = [process.execPath, MAIN, "token", ...LOGIN, ...on(host), ...more]
      .map((word) => `'${word}'`)
      .join(" ");
    return spawnSync("script", ["-qec", command, "/dev/null"], { encoding: "utf8", input: "" });
  };
  const refused = onTerminal();
  expect(refused.stdout).not.toContain("SECRET");
  expect(refused).toMatchObject({ stdout: expect.stringContaining("not printed on a terminal"), status: 1 });
  expect(onTerminal("--force-tty").stdout).toContain("SECRET-access");
});

test("several hosts get one token by a coordinator, whose rows only their key opens", async () => {
  const provider = await startProvider();
  const { url } = await startEtcdStandIn();
  const hosts = Array.from({ length: 3 }, () => createHost());
  for (const host of hosts) host.seed("main", expired({ refresh: "r0" }));
  const [one, other, behind] = hosts;
  const plain = (host, ...more) => ["token", ...LOGIN, ...on(host), ...endpoint(provider), "--json", ...more];
  const shared = ["--timeout", "2", "--coordinator", url, "--coordinator-key-env", "HOSTS_KEY"];
  const ask = (host, key) => cli(plain(host, ...shared), { env: key && { HOSTS_KEY: key } });
  const token = ({ stdout }) => JSON.parse(stdout).accessToken;
  const code = ({ stdout }) => JSON.parse(stdout).error.code;
  expect(token(await ask(one, "first"))).toBe("SECRET-a1");
  expect(code(await ask(other))).toBe("no_coordinator_key");
  expect(code(await ask(other, "else"))).toBe("coordinator_unavailable");
  expect(token(await ask(other, "second\nfirst\n"))).toBe("SECRET-a1");

  // One command without the coordinator would spend what the others have.
  const login = JSON.parse(other.store("main")).profiles[PROFILE];
  other.seed("main", { ...login, expires: 1 });
  expect(code(await cli(plain(other)))).toBe("coordinator_unavailable");
  expect(provider.calls).toBe(1);
  expect(token(await cli(plain(other, "--coordinator-down", "alone")))).toBe("SECRET-a2");
  expect(token(await ask(behind, "first"))).toBe("SECRET-a1");
});

test("a program gets the token in its environment, and its exit is ours", async () => {
  const host = createHost();
  host.seed("main", usable({ access: "SECRET-access" }));
  const run = (script, ...more) => cli(["run", ...LOGIN, ...on(host), ...more, "--", "sh", "-c", script]);
  expect(await run('test "$ACCESS_TOKEN" = SECRET-access && exit 7')).toEqual({ stdout: "", stderr: "", status: 7 });
  expect((await run("echo $MY_KEY", "--env", "MY_KEY")).stdout).toBe("SECRET-access\n");
  expect(await run("kill -TERM $$")).toMatchObject({ status: 143 });
  const gone = await cli(["run", ...LOGIN, ...on(host), "--", "/nonexistent/program"]);
  expect(gone).toMatchObject({ status: 1, stderr: "error: /nonexistent/program can't be run (ENOENT).\n" });
});

test("what is no login changes nothing, and no secret is shown", async () => {
  const provider = await startProvider();
  const host = createHost();
  const held = storeText(usable({ accountId: "one", access: "SECRET-held" }));
  host.seed("main", held);
  const add = (input, ...more) =>
    cli(["login", "add", ...LOGIN, ...on(host), ...endpoint(provider), "--json", ...more], { input });
  const other = JSON.stringify({ access: "SECRET-new", refresh: "SECRET-next", accountId: "two" });
  for (const [input, code] of [
    ["", "invalid_argument"],
    ["not JSON SECRET", "invalid_argument"],
    ["[]", "invalid_argument"],
    ['{"access_token":7,"x":"SECRET"}', "invalid_argument"],
    ['{"access":"SECRET","provider":"else","expires":1}', "invalid_argument"],
    [JSON.stringify({ access: "SECRET", padding: "x".repeat(60_000) }), "invalid_argument"],
    ["x".repeat(3 << 20), "invalid_argument"],
    // Two logins under one name.
    [other, "identity_mismatch"],
  ]) {
    const { stdout, stderr, status } = await add(input);
    expect({ input: input.slice(0, 40), code: JSON.parse(stdout).error.code, status }).toEqual({
      input: input.slice(0, 40),
      code,
      status: 1,
    });
    expect(stdout + stderr).not.toContain("SECRET");
    expect(host.store("main")).toBe(held);
  }
  expect(await add(other, "--replace")).toMatchObject({ status: 0 });
  expect(JSON.parse(host.store("main")).profiles[PROFILE]).toMatchObject({ access: "SECRET-new", accountId: "two" });
});

test("a login of a provider that nobody can ask is refused before it is stored", async () => {
  const host = createHost();
  const { status, stderr } = await cli(["login", "add", ...LOGIN, ...on(host)], { input: '{"access":"a"}' });
  expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringMatching(/--token-endpoint and --client-id/) });
  for (const url of ["token", "ftp://127.0.0.1/token", "http://auth.acme.example/token"]) {
    const added = await cli(["login", "add", ...LOGIN, ...on(host), ...endpoint({ url })], { input: '{"access":"a"}' });
    expect(added).toMatchObject({ status: 1, stderr: expect.stringMatching(/tokenEndpoint must be/) });
  }
  expect(existsSync(host.storePath("main"))).toBe(false);
});

test("logins are listed by agent, and one that is removed is gone", async () => {
  const host = createHost();
  for (const agent of ["main", "coder"]) host.seed(agent, usable({}));
  const list = async () => JSON.parse((await cli(["login", "list", ...on(host), "--json"])).stdout).logins;
  expect(await list()).toMatchObject([{ provider: PROVIDER, profileId: PROFILE, agents: ["coder", "main"] }]);
  const remove = () => cli(["login", "remove", ...LOGIN, ...on(host), "--agent-dir", host.agentDir("coder")]);
  expect(await remove()).toMatchObject({ status: 0 });
  expect(await list()).toMatchObject([{ agents: ["main"] }]);
  expect(await remove()).toMatchObject({ status: 1, stderr: expect.stringMatching(/There is no login/) });
  const unknown = await cli(["token", PROVIDER, "acme:nobody", ...on(host)]);
  expect(unknown).toMatchObject({ status: 1, stdout: "", stderr: expect.stringMatching(/login add/) });
});

test("where OpenClaw keeps its logins in SQLite that is told, and not that there is no login", async () => {
  const host = createHost();
  mkdirSync(join(host.stateDir, "state"));
  writeFileSync(join(host.stateDir, "state", "openclaw.sqlite"), "");
  for (const command of [
    ["token", ...LOGIN],
    ["login", "remove", ...LOGIN],
  ]) {
    const { stdout } = await cli([...command, ...on(host), "--json"]);
    expect(JSON.parse(stdout).error.code).toBe("sqlite_store");
  }
});

test("a torn store is told, and left as it is", async () => {
  const host = createHost();
  host.seed("main", usable({}));
  const torn = host.store("main").slice(0, 80);
  writeFileSync(host.storePath("main"), torn);
  for (const args of [
    ["token", ...LOGIN],
    ["login", "remove", ...LOGIN],
  ]) {
    expect(await cli([...args, ...on(host)])).toMatchObject({ status: 1, stderr: expect.stringMatching(/damaged/) });
  }
  const list = await cli(["login", "list", ...on(host)]);
  expect(list).toEqual({
    stdout: `No usable OAuth logins in ${host.stateDir}.\n`,
    stderr: expect.stringMatching(/damaged/),
    status: 1,
  });
  const { logins, problems } = JSON.parse((await cli(["login", "list", ...on(host), "--json"])).stdout);
  expect({ logins, problems }).toMatchObject({ logins: [], problems: [{ code: "store_invalid" }] });
  expect(host.store("main")).toBe(torn);
});
