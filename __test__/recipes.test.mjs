/** The blocks of docs/recipes.md do what they say: many programs, one login, one call to the provider. */
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { expect, onTestFinished, test } from "vitest";
import { Grant, startProvider } from "../cli/provider.mjs";
import { ended } from "./support/child.mjs";
import { createHost } from "./support/host.mjs";

const ROOT = join(import.meta.dirname, "..");
const MAIN = join(ROOT, "cli", "main.mjs");
const MANY = 4;

/** Of each heading its blocks. */
const recipes = Object.fromEntries(
  readFileSync(join(ROOT, "docs", "recipes.md"), "utf8")
    .split(/^#+ /m)
    .slice(1)
    .map((section) => [
      section.split("\n", 1)[0],
      [...section.matchAll(/^```\w+\n(.*?)^```$/gms)].map(([, code]) => code),
    ]),
);
const [[login]] = [recipes.Recipes];

/** A provider and an API on loopback. @param {boolean} rotates whether each refresh token is good for one use */
async function startAcme(rotates = true) {
  const acme = new Grant((count) => ({ access: `SECRET-a${count}`, refresh: `r${rotates ? count : 0}` }));
  acme.served = [];
  const { url, close } = await startProvider(async (sent, request, response) => {
    if (request.url !== "/token") {
      acme.served.push(request.headers.authorization);
      return void response.end("Hello.");
    }
    acme.calls += 1;
    const [status, { refresh_token, ...answer }] = acme.exchange(sent.get("refresh_token"));
    return [status, rotates ? { ...answer, refresh_token } : answer];
  });
  onTestFinished(close);
  return Object.assign(acme, { url: new URL(url).origin });
}

/** A user with an expired login, stored as the recipes say, who has the command by its name. */
async function createUser(acme) {
  const host = createHost();
  const bin = join(host.root, "bin");
  mkdirSync(bin);
  writeFileSync(join(bin, "oauth-refresh-lock"), `#!/bin/sh\nexec "${process.execPath}" "${MAIN}" "$@"\n`);
  chmodSync(join(bin, "oauth-refresh-lock"), 0o755);
  const answer = { access_token: "SECRET-a0", refresh_token: "r0", expires: 1 };
  writeFileSync(join(host.root, "answer.json"), JSON.stringify(answer));
  const here = (code) => code.replaceAll(/https:\/\/(auth|api)\.acme\.example/g, acme.url);
  const run = async (command, ...args) => {
    const child = spawn(command, args, {
      cwd: host.root,
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        PATH: `${bin}:${process.env.PATH}`,
        HOME: process.env.HOME,
        OPENCLAW_STATE_DIR: host.stateDir,
        ACME_SECRET: "secret",
      },
    });
    const { stdout, stderr, status } = await ended(child);
    return { stdout, status, ...(status !== 0 && { stderr }) };
  };
  const shell = (code) => run("sh", "-c", here(code));
  const added = await shell(login);
  expect(added).toMatchObject({ status: 0, stdout: expect.stringMatching(/^Added acme:me in /) });
  return { host, here, run, shell };
}

const has = (program) => spawnSync(program, ["--version"]).status === 0;
const times = (count, call) => Promise.all(Array.from({ length: count }, call));
const SERVED = Array(MANY).fill("Bearer SECRET-a1");
const ONE_CALL = { calls: 1, reused: 0 };

test("every block of the recipes is known here", () => {
  const counted = Object.fromEntries(Object.entries(recipes).map(([name, { length }]) => [name, length]));
  expect(counted).toEqual({
    Recipes: 1,
    curl: 1,
    Python: 1,
    Codex: 1,
    "Claude Code": 1,
    MCP: 1,
    "MCP server": 1,
    "pm2, cluster": 2,
    "Docker Compose": 2,
    "How these were tried": 0,
  });
});

test.skipIf(!has("curl"))("curl", async () => {
  const acme = await startAcme();
  const { shell } = await createUser(acme);
  const said = await times(MANY, () => shell(recipes.curl[0]));
  expect(said).toEqual(Array(MANY).fill({ status: 0, stdout: "Hello." }));
  expect(acme).toMatchObject({ ...ONE_CALL, served: SERVED });
});

test.skipIf(!has("python3"))("Python", async () => {
  const acme = await startAcme();
  const { here, run } = await createUser(acme);
  const said = await times(MANY, () => run("python3", "-c", here(recipes.Python[0])));
  expect(said).toEqual(Array(MANY).fill({ status: 0, stdout: "Hello.\n" }));
  expect(acme).toMatchObject({ ...ONE_CALL, served: SERVED });
});

test("Codex: its command gives the token and nothing else", async () => {
  const acme = await startAcme();
  const { run } = await createUser(acme);
  const [toml] = recipes.Codex;
  // What these values are in TOML, they are in JSON.
  const [command, args] = ["command", "args"].map((key) => JSON.parse(toml.match(RegExp(`^${key} = (.*)$`, "m"))[1]));
  expect(toml.match(/^\[.*\]$/gm)).toEqual(["[model_providers.acme]", "[model_providers.acme.auth]"]);
  const said = await times(MANY, () => run(command, ...args));
  expect(said).toEqual(Array(MANY).fill({ status: 0, stdout: "SECRET-a1\n" }));
  expect(acme).toMatchObject(ONE_CALL);
});

test("Claude Code: its helper gives the token and nothing else, good for longer than it is kept", async () => {
  const acme = await startAcme();
  const { shell } = await createUser(acme);
  const { apiKeyHelper, env } = JSON.parse(recipes["Claude Code"][0]);
  const said = await times(MANY, () => shell(apiKeyHelper));
  expect(said).toEqual(Array(MANY).fill({ status: 0, stdout: "SECRET-a1\n" }));
  expect(acme).toMatchObject(ONE_CALL);
  expect(Number(env.CLAUDE_CODE_API_KEY_HELPER_TTL_MS)).toBeLessThan(300_000);
});

test("MCP: the helper gives headers", async () => {
  const acme = await startAcme();
  const { shell } = await createUser(acme);
  const { headersHelper } = JSON.parse(recipes.MCP[0]).mcpServers.acme;
  const said = await times(MANY, () => shell(headersHelper));
  const headers = said.map(({ stdout }) => JSON.parse(stdout));
  expect(headers).toEqual(Array(MANY).fill({ Authorization: "Bearer SECRET-a1" }));
  expect(acme).toMatchObject(ONE_CALL);
});

test("MCP server: one call by all that are started", async () => {
  const acme = await startAcme();
  const { host, here } = await createUser(acme);
  mkdirSync(join(host.root, "node_modules"));
  symlinkSync(ROOT, join(host.root, "node_modules", "oauth-refresh-lock"));
  const sdk = "@modelcontextprotocol";
  symlinkSync(join(ROOT, "node_modules", sdk), join(host.root, "node_modules", sdk));
  writeFileSync(join(host.root, "server.mjs"), here(recipes["MCP server"][0]));
  const env = { HOME: process.env.HOME, OPENCLAW_STATE_DIR: host.stateDir };
  const said = await times(MANY, async () => {
    const client = new Client({ name: "agent", version: "1.0.0" });
    onTestFinished(() => client.close());
    await client.connect(
      new StdioClientTransport({ command: process.execPath, args: ["server.mjs"], cwd: host.root, env }),
    );
    return (await client.callTool({ name: "me", arguments: {} })).content[0].text;
  });
  expect(said).toEqual(Array(MANY).fill("Hello."));
  expect(acme).toMatchObject({ ...ONE_CALL, served: SERVED });
});

test.each([
  ["rotates the refresh token", true],
  ["does not", false],
])("cluster: one call by all processes, if the provider %s", async (_, rotates) => {
  const acme = await startAcme(rotates);
  const { host, here, run } = await createUser(acme);
  mkdirSync(join(host.root, "node_modules"));
  symlinkSync(ROOT, join(host.root, "node_modules", "oauth-refresh-lock"));
  const worker = `${here(recipes["pm2, cluster"][0])}\nprocess.send(headers, () => process.exit());`;
  writeFileSync(join(host.root, "worker.mjs"), worker);
  const program = `
    import cluster from "node:cluster";
    cluster.setupPrimary({ exec: "worker.mjs", execArgv: [] });
    cluster.on("message", (_, headers) => console.log(JSON.stringify(headers)));
    for (let at = 0; at < ${MANY}; at += 1) cluster.fork();
  `;
  const { status, stdout } = await run(process.execPath, "--input-type=module", "--eval", program);
  expect(status).toBe(0);
  expect(stdout).toBe(`${JSON.stringify({ Authorization: SERVED[0] })}\n`.repeat(MANY));
  expect(acme).toMatchObject(ONE_CALL);
  const [start] = recipes["pm2, cluster"].slice(1);
  expect(start).toMatch(/^OPENCLAW_STATE_DIR=\/\S+ pm2 start worker\.mjs -i \d+\n$/);
});

test("Compose: services that share a login have one volume, one path and one user, and the login is stored there", async () => {
  const [yaml, add] = recipes["Docker Compose"];
  const [, services, volumes] = yaml.match(/^services:\n(.*)^volumes:\n(.*)$/ms);
  const [first, ...others] = services.split(/^ {2}\w+:\n/m).slice(1);
  const shared = (service) => service.replace(/^ {4}image: .*\n/m, "");
  expect(others.map(shared)).toEqual([shared(first)]);
  const [, path] = first.match(/^ {6}OPENCLAW_STATE_DIR: (\/\w+)$/m);
  const [, volume] = first.match(RegExp(`^ {6}- (\\w+):${path}$`, "m"));
  expect(volumes).toBe(`  ${volume}: {}\n`);

  // In place of the containers: two processes with that directory.
  const acme = await startAcme();
  const { host, shell } = await createUser(acme);
  const prefix = "docker compose run --rm -T web ";
  expect(add.startsWith(prefix)).toBe(true);
  expect(await shell(add.slice(prefix.length))).toMatchObject({ status: 0 });
  const said = await times(2, () => shell("oauth-refresh-lock token acme acme:me"));
  expect(said).toEqual(Array(2).fill({ status: 0, stdout: "SECRET-a1\n" }));
  expect(acme).toMatchObject(ONE_CALL);
  expect(readdirSync(host.stateDir).sort()).toEqual(["agents", "locks"]);
});
