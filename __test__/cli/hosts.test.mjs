/** `status`, `doctor` and `inspectOAuthRefreshLocks` about logins that several hosts share. */
import { once } from "node:events";
import { hostname } from "node:os";
import { text } from "node:stream/consumers";
import { inspectOAuthRefreshLocks, withOAuthRefreshLock } from "oauth-refresh-lock";
import { expect, test } from "vitest";
import { startEtcdStandIn } from "../support/etcd-stand-in.mjs";
import { deferred } from "../support/events.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER } from "../support/host.mjs";
import { on, startCli } from "./cli.mjs";

/** Not as the others run it: the engine is in this process. */
async function run(command, host, url, { args = [], env } = {}) {
  const child = startCli([command, "--state-dir", host.stateDir, "--coordinator", url, "--json", ...args], env);
  const [stdout, [status]] = await Promise.all([text(child.stdout), once(child, "close")]);
  return { status, ...JSON.parse(stdout) };
}

async function twoHosts() {
  const engine = await startEtcdStandIn();
  const login = expired();
  const [one, other] = [createHost(), createHost()];
  for (const host of [one, other]) host.seed("main", login);
  const refresh = (host, ask, options) =>
    withOAuthRefreshLock(PROVIDER, PROFILE, ask, host.as("main", { coordinator: engine.url, ...options }));
  return { engine, one, other, refresh };
}

/** Puts another state into the only row. */
function put(engine, change) {
  const [[key, row]] = engine.rows;
  const value = change(JSON.parse(atob(row.value)));
  engine.rows.set(key, { ...row, value: btoa(JSON.stringify(value)) });
}

const findings = async (host, url, more) =>
  (await run("doctor", host, url, more)).findings.map(({ level, code }) => [level, code]);

test("what another host does is shown", async () => {
  const { engine, one, other, refresh } = await twoHosts();
  const [asked, given] = [deferred(), deferred()];
  const refreshing = refresh(one, () => {
    asked.resolve();
    return given.promise;
  });
  await asked.promise;
  const { status, keys } = await run("status", other, engine.url);
  expect({ status, keys }).toMatchObject({ status: 0, keys: [{ lastRefresh: `asking: ${hostname()}` }] });
  expect(keys[0].rows).toEqual([{ state: "sent", host: hostname(), pid: process.pid, attempts: 0 }]);
  expect(await findings(other, engine.url)).toEqual([]);
  const shown = await text(startCli(["status", ...on(other), "--coordinator", engine.url]).stdout);
  expect(shown).toMatch(/\nCoordinator: etcd\.\n$/);

  put(engine, (row) => ({ ...row, state: "lost" }));
  expect((await run("status", other, engine.url)).keys[0].lastRefresh).toBe(`lost: ${hostname()}`);
  expect(await findings(other, engine.url)).toEqual([["error", "lost_host"]]);

  given.resolve(answer());
  await refreshing;
  expect((await run("status", other, engine.url)).keys[0].lastRefresh).toBe("new elsewhere");
  expect(await findings(other, engine.url)).toEqual([]);
  const adopted = await refresh(other, () => expect.unreachable("asked twice"));
  expect(adopted).toMatchObject({ outcome: "adopted", adoptedFrom: { host: hostname() } });
  const [{ shared }] = await inspectOAuthRefreshLocks({ stateDir: other.stateDir, coordinator: engine.url });
  expect(shared).toEqual({ owed: 0, rows: [{ state: "free" }] });
});

test.each([
  ["a newer release's", { v: 2, state: "quux" }, "newer release"],
  ["no row of ours", "abc", "did not write"],
  ["one without its host", { v: 1, state: "sent" }, "did not write"],
])("a row that keeps every call from refreshing is an error: %s", async (_, row, why) => {
  const { engine, one, refresh } = await twoHosts();
  const error = await refresh(
    one,
    () => {
      put(engine, () => row);
      throw new Error("reset");
    },
    { timeoutMs: 1_000, uncertain: "fail" },
  ).catch((error) => error);
  expect(error.message).toBe("reset");
  put(engine, () => row);
  const { status, keys, problems } = await run("status", one, engine.url);
  expect({ status, problems }).toMatchObject({ status: 1, problems: [{ code: "coordinator_unavailable" }] });
  expect(keys[0].rows).toMatchObject([{ state: "unknown", problem: { message: expect.stringContaining(why) } }]);
  expect(await findings(one, engine.url)).toContainEqual(["error", "coordinator_unavailable"]);
});

test("a row that only another key opens is an error, unless the command has that key", async () => {
  const { engine, one, other, refresh } = await twoHosts();
  await refresh(one, () => answer(), { coordinatorKey: "hosts' own" });
  const code = "coordinator_unavailable";
  expect(await findings(other, engine.url)).toEqual([["error", code]]);
  const { status, keys, problems } = await run("status", other, engine.url);
  expect({ status, problems }).toMatchObject({ status: 1, problems: [{ code }] });
  expect(keys[0].rows).toMatchObject([
    { state: "unknown", problem: { message: expect.stringMatching(/can't be opened/) } },
  ]);
  const withKey = { args: ["--coordinator-key-env", "HOSTS_KEY"], env: { HOSTS_KEY: "hosts' own\n" } };
  expect(await findings(other, engine.url, withKey)).toEqual([]);
  expect((await run("status", other, engine.url, withKey)).keys[0].lastRefresh).toBe("new elsewhere");
  const look = (more) => inspectOAuthRefreshLocks({ stateDir: one.stateDir, coordinator: engine.url, ...more });
  expect((await look({ coordinatorKey: "hosts' own" }))[0].shared.rows).toEqual([{ state: "free" }]);
  const address = { args: ["--coordinator-env", "ENGINE"], env: { ENGINE: engine.url } };
  const child = startCli(["status", ...on(one), ...address.args], address.env);
  expect(await text(child.stdout)).toMatch(/\nCoordinator: etcd\.\n$/);
});

test("an engine that can be read only is an error, and is not written", async () => {
  const { engine, one } = await twoHosts();
  engine.way.isReadOnly = true;
  expect(await findings(one, engine.url)).toEqual([["error", "coordinator_unavailable"]]);
  const { status, problems } = await run("status", one, engine.url);
  expect({ status, problems }).toMatchObject({ status: 1, problems: [{ code: "coordinator_unavailable" }] });
  engine.way.isReadOnly = false;
  expect(await findings(one, engine.url)).toEqual([]);
  expect(engine.rows.size).toBe(0);
});

test("what the coordinator has not been told is shown, and so is one that can't be reached", async () => {
  const { engine, one, refresh } = await twoHosts();
  const result = await refresh(one, () => {
    engine.stop();
    return answer();
  });
  expect(result).toMatchObject({ outcome: "refreshed", notShared: { code: "coordinator_unavailable" } });
  const [{ shared }] = await inspectOAuthRefreshLocks({ stateDir: one.stateDir });
  expect(shared).toEqual({ owed: 1, rows: undefined });
  expect(await findings(one, engine.url)).toEqual([
    ["warning", "coordinator_owed"],
    ["error", "coordinator_unavailable"],
  ]);
  const { status, keys, problems } = await run("status", one, engine.url);
  expect({ status, problems }).toMatchObject({ status: 1, problems: [{ code: "coordinator_unavailable" }] });
  expect(keys[0].lastRefresh).toBe("not shared yet");
});

test.each([
  [
    "an address",
    () => new Error("can't reach postgres://me:SECRET@SECRET/SECRET SECRET@db.example/x"),
    "//db.example/x",
  ],
  ["what can't be read", () => ({ message: { toString: null } }), "its function failed"],
])("an engine's own words are shown without a password: %s", async (_, made, shown) => {
  const { one } = await twoHosts();
  const fails = () => Promise.reject(made());
  const coordinator = { name: "mine", load: fails, compareAndSwap: fails };
  const call = withOAuthRefreshLock(
    PROVIDER,
    PROFILE,
    () => answer(),
    one.as("main", { coordinator, timeoutMs: 1_000 }),
  );
  const error = await call.catch((error) => error);
  expect(error).toMatchObject({ code: "coordinator_unavailable", message: expect.stringContaining(shown) });
  expect(error.message).not.toContain("SECRET");
});

test("an address that is none is refused, and a password in it is not shown", async () => {
  const host = createHost();
  for (const url of ["redis://u:SECRET@h", "postgres://u:SECRET@", "etcd://u:SECRET@"]) {
    const { status, error } = await run("status", host, url);
    expect({ status, code: error.code }).toEqual({ status: 1, code: "invalid_argument" });
    expect(error.message).not.toContain("SECRET");
  }
});
