/** `login add`, `login remove` and `login list`. */
import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { createHost, expired, PROFILE, PROVIDER, storeText, usable } from "../support/host.mjs";
import { on } from "./cli.mjs";
import { cli, endpoint, LOGIN, startProvider } from "./logins.mjs";

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
