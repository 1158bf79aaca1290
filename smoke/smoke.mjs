// What has to work wherever the package is installed: `node smoke/smoke.mjs`. Without a test runner, a compiler or any other
// package, so that it runs on every platform, in an emulator too.
// `SMOKE_NODE`: a JSON array, the command that starts Node, if it is more than Node's own path.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { on, once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import * as api from "oauth-refresh-lock";

const [NODE, ...NODE_ARGS] = JSON.parse(process.env.SMOKE_NODE ?? "null") ?? [process.execPath];
const AGENT = fileURLToPath(new URL("agent.mjs", import.meta.url));
const WORKERS = fileURLToPath(new URL("workers.mjs", import.meta.url));
const AGENTS = 5;
const EXPIRED = { type: "oauth", provider: "smoke", access: "old", refresh: "r0", expires: 1, accountId: "one" };

let stateDir;
const children = [];
const servers = [];
before(() => {
  stateDir = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-smoke-"));
});
after(async () => {
  // A test that failed left them: this process would never end.
  for (const server of servers) server.close();
  for (const child of children) {
    const isGone = child.exitCode !== null || child.signalCode !== null;
    if (!isGone) await Promise.all([once(child, "exit"), child.kill("SIGKILL")]);
  }
  rmSync(stateDir, { recursive: true, force: true, maxRetries: 10 });
});

const agentDir = (name) => join(stateDir, "agents", name, "agent");
const storeOf = (name) => join(agentDir(name), "auth-profiles.json");
const read = (name) => JSON.parse(readFileSync(storeOf(name), "utf8")).profiles["smoke:login"];

function write(name, credential) {
  mkdirSync(agentDir(name), { recursive: true, mode: 0o700 });
  const store = { version: 1, profiles: { "smoke:login": credential } };
  writeFileSync(storeOf(name), `${JSON.stringify(store, null, 2)}\n`, { mode: 0o600 });
}

/** A process, and what it has to say. */
async function startAgent() {
  const child = spawn(NODE, [...NODE_ARGS, AGENT], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  children.push(child);
  const messages = on(child, "message");
  const next = async () => (await messages.next()).value[0];
  assert.deepEqual(await next(), { ready: true });
  return { child, next };
}

/** A token endpoint whose refresh tokens can be used once. */
async function startProvider() {
  const stats = { calls: 0, live: "r0" };
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    stats.calls += 1;
    const isLive = new URLSearchParams(body).get("refresh_token") === stats.live;
    stats.live = `r${stats.calls}`;
    response.writeHead(isLive ? 200 : 400, { "content-type": "application/json" });
    const tokens = {
      access_token: `a${stats.calls}`,
      refresh_token: stats.live,
      token_type: "Bearer",
      expires_in: 3600,
    };
    response.end(JSON.stringify(isLive ? tokens : { error: "invalid_grant" }));
  });
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  return { stats, url: `http://127.0.0.1:${port}/token` };
}

/** The next event of a type that this package publishes. */
function event(type) {
  return new Promise((resolve) => {
    subscribe("oauth-refresh-lock", function listener(message) {
      if (message.type !== type) return;
      unsubscribe("oauth-refresh-lock", listener);
      resolve(message);
    });
  });
}

test("import and require give the same", () => {
  const required = createRequire(import.meta.url)("oauth-refresh-lock");
  assert.equal(required.withOAuthRefreshLock, api.withOAuthRefreshLock);
});

test("the lock's name is OpenClaw's", () => {
  const path = api.resolveOAuthRefreshLockPath("openai-codex", "openai-codex:default", { stateDir });
  const name = "sha256-cee1bbaed8073aace8170859a25616882c288ceeaa1119df363bf01cc0cdab65";
  assert.equal(path, join(stateDir, "locks", "oauth-refresh", name));
});

test("the gate refuses another account", () => {
  assert.equal(api.isSafeToCopyOAuthIdentity({ accountId: "one" }, { accountId: "two" }), false);
  assert.equal(api.isSafeToCopyOAuthIdentity({ accountId: "one" }, { accountId: " one " }), true);
});

test("processes with one expired login make one call, and all end on its token", async () => {
  const names = Array.from({ length: AGENTS }, (_, at) => `agent-${at}`);
  for (const name of ["main", ...names]) write(name, EXPIRED);
  const provider = await startProvider();
  const agents = await Promise.all(names.map(() => startAgent()));
  const options = { stateDir, mainAgentDir: agentDir("main"), tokenEndpoint: provider.url };
  agents.forEach(({ child }, at) => {
    child.send({ action: "refresh", options: { ...options, agentDir: agentDir(names[at]) } });
  });
  const results = await Promise.all(agents.map(({ next }) => next()));
  assert.deepEqual(
    results.map(({ access }) => access),
    Array(AGENTS).fill("a1"),
    JSON.stringify(results),
  );
  assert.equal(results.filter(({ outcome }) => outcome === "refreshed").length, 1);
  assert.equal(provider.stats.calls, 1);
  for (const name of ["main", ...names]) {
    const { access, refresh, accountId } = read(name);
    assert.deepEqual({ access, refresh, accountId }, { access: "a1", refresh: "r1", accountId: "one" }, name);
  }
});

test("a refresh function is called once for many callers", async () => {
  write("main", { ...EXPIRED, refresh: "another login" });
  let calls = 0;
  const refresh = () => ({ access: `f${++calls}`, refresh: "r9", expires: Date.now() + 3_600_000 });
  const call = () =>
    api.withOAuthRefreshLock("smoke", "smoke:login", refresh, { stateDir, agentDir: agentDir("main") });
  const results = await Promise.all([call(), call(), call()]);
  assert.deepEqual(
    results.map(({ credential }) => credential.access),
    ["f1", "f1", "f1"],
  );
  assert.equal(calls, 1);
});

test("a holder that is killed is followed at once; one that lives is waited for", async () => {
  const { child, next } = await startAgent();
  child.send({ action: "hold", options: { stateDir } });
  assert.deepEqual(await next(), { held: true });
  const impatient = api.withOAuthProfileLock("smoke", "smoke:held", () => "taken", { stateDir, timeoutMs: 50 });
  await assert.rejects(impatient, { code: "file_lock_timeout" });
  const [report] = (await api.inspectOAuthRefreshLocks({ stateDir })).filter(({ holder }) => holder);
  assert.equal(report.holder.pid, child.pid);
  // Far less than the time after which a lock is reclaimed whoever holds it.
  const options = { stateDir, timeoutMs: 20_000 };
  const waiting = event("waiting");
  let isTaken = false;
  const taken = api.withOAuthProfileLock("smoke", "smoke:held", () => (isTaken = true), options);
  await waiting;
  await setImmediate();
  assert.equal(isTaken, false, "a lock was taken from a holder that lives");
  child.kill("SIGKILL");
  assert.equal(await taken, true);
});

test("worker threads load the addon and end, and so does their process", async () => {
  const provider = await startProvider();
  const options = [0, 1, 2].map((at) => {
    const name = `worker-${at}`;
    write(name, { ...EXPIRED, refresh: `r${at}` });
    const own = { stateDir: join(stateDir, name), agentDir: agentDir(name), mainAgentDir: agentDir(name) };
    return { ...own, tokenEndpoint: provider.url };
  });
  const child = spawn(NODE, [...NODE_ARGS, WORKERS, JSON.stringify(options)], { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  let said = "";
  child.stdout.setEncoding("utf8").on("data", (text) => {
    said += text;
  });
  assert.deepEqual(await once(child, "close"), [0, null], said);
  assert.deepEqual(JSON.parse(said), ["a1", "a2", "a3"]);
});
