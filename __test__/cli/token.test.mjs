/** `token` and `run`: what a shell, a helper script or another program uses. */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startEtcdStandIn } from "../support/etcd-stand-in.mjs";
import { createHost, expired, PROFILE, PROVIDER, usable } from "../support/host.mjs";
import { MAIN, on } from "./cli.mjs";
import { cli, endpoint, LOGIN, startProvider } from "./logins.mjs";

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
  expect(code(await cli(plain(other, "--coordinator-env", "NOT_SET")))).toBe("no_coordinator");
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
