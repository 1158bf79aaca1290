/** `storm`: what it shows is what happens. And that no command shows a token. */
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { missing, startEtcd } from "../../scripts/hosts/engines.mjs";
import { createHost, expired, usable } from "../support/host.mjs";
import { cli, cliJson, startCli, widest } from "./cli.mjs";

test("with us, one call serves everyone, and nothing is left behind", () => {
  const { root } = createHost();
  const before = readdirSync(root);
  const report = cliJson(["storm", "--processes", "6", "--latency", "20"], { TMPDIR: root });
  expect(report).toMatchObject({
    status: 0,
    processes: 6,
    lock: true,
    calls: 1,
    reused: 0,
    revoked: false,
    fresh: 6,
    stored: 6,
  });
  expect(report.agents.filter(({ outcome }) => outcome === "refreshed")).toHaveLength(1);
  expect(report.agents.every(({ isFresh }) => isFresh)).toBe(true);
  expect(readdirSync(root)).toEqual(before);
});

test.each(["SIGINT", "SIGTERM"])("ended by %s it leaves nothing behind, and ends by it", async (signal) => {
  const { root } = createHost();
  const before = readdirSync(root);
  const storm = startCli(["storm", "--processes", "2", "--latency", "60000"], { TMPDIR: root });
  await vi.waitFor(() => expect(readdirSync(root)).toHaveLength(before.length + 1), { timeout: 20_000 });
  storm.kill(signal);
  expect(await once(storm, "exit")).toEqual([null, signal]);
  expect(readdirSync(root)).toEqual(before);
});

test("it leaves nothing behind either when nobody reads what it says", () => {
  const { root } = createHost();
  const before = readdirSync(root);
  const storm = `"$0" "$1" storm --processes 2 --latency 0 | head -c 1`;
  const main = join(import.meta.dirname, "..", "..", "cli", "main.mjs");
  const { stdout } = spawnSync("sh", ["-c", storm, process.execPath, main], {
    encoding: "utf8",
    env: { PATH: process.env.PATH, TMPDIR: root },
  });
  expect(stdout).toBe("2");
  expect(readdirSync(root)).toEqual(before);
});

test("without us, everyone calls, and the login is revoked", () => {
  const report = cliJson(["storm", "--processes", "4", "--latency", "20", "--no-lock"]);
  expect(report).toMatchObject({ status: 1, lock: false, calls: 4, reused: 3, revoked: true, fresh: 1, stored: 1 });
  expect(report.agents.filter(({ code }) => code === "invalid_grant")).toHaveLength(3);
});

test("hosts that don't know of each other make a call each", () => {
  const report = cliJson(["storm", "--processes", "4", "--hosts", "2", "--latency", "20"]);
  expect(report).toMatchObject({ status: 1, hosts: 2, coordinator: null, calls: 2, reused: 1, revoked: true });
});

test.skipIf(missing("postgres") && missing("etcd"))("hosts that share the login make one", () => {
  const module = join(import.meta.dirname, "..", "support", "oauth", "storm.mjs");
  const report = cliJson(["storm", "--processes", "6", "--hosts", "3", "--latency", "20", "--provider", module]);
  expect(report).toMatchObject({ status: 0, hosts: 3, calls: 1, reused: 0, revoked: false, fresh: 6, stored: 6 });
});

test.skipIf(missing("etcd"))("a coordinator that knows an earlier storm does not disturb the next", async () => {
  const engine = await startEtcd();
  onTestFinished(() => engine.remove());
  for (const _ of [1, 2]) {
    const report = cliJson([
      "storm",
      "--processes",
      "4",
      "--hosts",
      "2",
      "--latency",
      "20",
      "--coordinator",
      engine.url,
    ]);
    expect(report).toMatchObject({ status: 0, coordinator: "etcd", calls: 1, reused: 0, fresh: 4, stored: 4 });
  }
});

test("a coordinator that nobody answers for is told of before anything begins", () => {
  const { status, error } = cliJson(["storm", "--hosts", "2", "--coordinator", "etcd://127.0.0.1:1"]);
  expect({ status, code: error.code }).toEqual({ status: 1, code: "coordinator_unavailable" });
  expect(error.message).toContain("at 127.0.0.1:1: ");
});

test("a coordinator that can't be is refused before anything begins", () => {
  const { status, error } = cliJson(["storm", "--coordinator", "nonsense"]);
  expect({ status, code: error.code }).toEqual({ status: 1, code: "invalid_argument" });
});

test("as text it fits 80 columns and says how it ended", () => {
  const { stdout, stderr, status } = cli(["storm", "--processes", "3", "--latency", "0"]);
  expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
  expect(stdout).toMatch(/^1 call to the provider$/m);
  expect(stdout).toMatch(/^3 of 3 agents have its newest token, 3 have it in their store$/m);
  expect(widest(stdout)).toBeLessThanOrEqual(80);
});

test("no command shows a secret", () => {
  const credentials = [expired({ idToken: "the id token" }), usable()];
  const host = createHost({ main: credentials[0], sub: credentials[1] });
  const secrets = [...credentials.flatMap(({ access, refresh }) => [access, refresh]), "the id token", "kept"];
  const dir = ["--state-dir", host.stateDir];
  for (const args of [["status"], ["doctor"], ["doctor", "--fix"], ["path", "acme", "acme:owner"]]) {
    for (const more of [[], ["--json"]]) {
      const { stdout, stderr } = cli([...args, ...dir, ...more]);
      expect(stdout).not.toBe("");
      for (const secret of secrets) expect(stdout + stderr, args.join(" ")).not.toContain(secret);
    }
  }
});
