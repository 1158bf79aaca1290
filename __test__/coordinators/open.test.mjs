/** Coordinators by URL. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { startEtcd, startPostgres } from "../../scripts/hosts/engines.mjs";
import { describeWith, expectRight, newKey, own, thrownBy } from "./support/engines.mjs";

const require = createRequire(import.meta.url);
const { openCoordinator } = require("../../lib/coordinators/open.js");
const { survey } = require("../../lib/inspect.js");
const { postgresSchema } = require("../../lib/coordinators/postgres.js");

describeWith(["postgres"], "a URL of PostgreSQL", () => {
  test("gives one coordinator for a process, with the password in the URL", async () => {
    const postgres = await own(startPostgres({ password: "p@ss/word" }));
    postgres.sql(postgresSchema());
    const coordinator = openCoordinator(postgres.url);
    expect(openCoordinator(postgres.url)).toBe(coordinator);
    await expectRight(coordinator);
    const wrong = openCoordinator(postgres.url.replace("p%40ss", "sesame"));
    const error = await thrownBy(wrong.load(newKey()));
    expect([error.message, String(error.cause), wrong.name].join()).not.toMatch(/sesame|word@/);
  });

  test("without a password says so, and leaves no connection open", async () => {
    const postgres = await own(startPostgres({ password: "right" }));
    const coordinator = openCoordinator(postgres.url.replace(":right@", "@"));
    const sockets = () => process.getActiveResourcesInfo().filter((kind) => kind === "TCPSocketWrap").length;
    const before = sockets();
    for (let times = 0; times < 10; times++) {
      const error = await thrownBy(coordinator.load(newKey()));
      expect(error.message).toMatch(/asks for a password, and none was given; name it/);
    }
    // The server waits for a password for a minute.
    await expect.poll(sockets, { timeout: 20_000 }).toBeLessThanOrEqual(before);
  });
});

describeWith(["postgres"], "a survey", () => {
  test("finds a table that no claim could be made in, and makes none", async () => {
    const postgres = await own(startPostgres());
    const stateDir = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-survey-"));
    onTestFinished(() => rmSync(stateDir, { recursive: true }));
    const problem = async () => (await survey(stateDir, { coordinator: postgres.url })).coordinator.problem?.message;
    expect(await problem()).toMatch(/is not there; create it/);
    postgres.sql(postgresSchema().replace(" PRIMARY KEY", ""));
    expect(await problem()).toMatch(/no primary key/);
    postgres.sql("ALTER TABLE oauth_refresh_lock ADD PRIMARY KEY (key)");
    expect(await problem()).toBeUndefined();
    expect(postgres.sql("SELECT count(*) FROM oauth_refresh_lock")).toBe("0");
  });
});

describeWith(["etcd"], "a URL of etcd", () => {
  test("gives one coordinator for a process, with user and password in the URL", async () => {
    const users = { app: { password: "p@ss:w/rd", prefix: "oauth-refresh-lock/" } };
    const etcd = await own(startEtcd({ auth: { rootPassword: "root", users } }));
    const url = `etcd://app:${encodeURIComponent("p@ss:w/rd")}@127.0.0.1:1,127.0.0.1:${etcd.port}`;
    const coordinator = openCoordinator(url);
    expect(openCoordinator(url)).toBe(coordinator);
    await expectRight(coordinator);
  });
});

test.each([
  ["etcd://127.0.0.1:1", "127.0.0.1:1"],
  ["etcd://127.255.255.254", "127.255.255.254:2379"],
  ["etcds://[::1]:1", "[::1]:1"],
])("%s is asked at %s", async (url, at) => {
  const error = await thrownBy(openCoordinator(url).load(newKey()));
  expect(error.message).toContain(` at ${at}: `);
});

test.each([
  ["redis://app:sesame@host"],
  ["https://app:sesame@host"],
  ["app:sesame@host:5432"],
  [""],
  ["postgres://"],
  ["postgres:///sesame"],
  ["postgres://app:sesame@host:port/db"],
  ["postgres://app:sesame%zz@host/db"],
  ["postgres://app:se#same@host/db"],
  ["postgres://app:se@sa/me#same@host/db"],
  ["postgres://app:se@sa/same@host/db"],
  ["etcd://"],
  ["etcd://app:sesame@"],
  ["etcd://app:sesame%zz@host:2379"],
  ["etcd://host:2379,host:port"],
  ["etcd://host:2379,"],
  ["etcd://host:2379/sesame"],
  ["etcd://host:2379?password=sesame"],
  [7],
])("%j is refused at once, without being shown", (url) => {
  const refused = () => openCoordinator(url);
  expect(refused).toThrow(expect.objectContaining({ code: "invalid_argument" }));
  expect(refused).not.toThrow(/sesame|se#same/);
});

test("without the package pg it says what to install", () => {
  const dir = mkdtempSync(join(tmpdir(), "no-pg-"));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  const root = join(import.meta.dirname, "..", "..");
  for (const name of ["lib", "package.json"]) cpSync(join(root, name), join(dir, name), { recursive: true });
  const program = `
    try { require("./lib/coordinators/open.js").openCoordinator("postgres://app:sesame@host/db"); }
    catch ({ code, message }) { console.log(JSON.stringify({ code, message })); }`;
  const { stdout } = spawnSync(process.execPath, ["--eval", program], { cwd: dir, encoding: "utf8" });
  expect(JSON.parse(stdout)).toEqual({
    code: "invalid_argument",
    message: 'a coordinator "postgres://…" needs the package "pg"; install it beside this one: npm install pg',
  });
});
