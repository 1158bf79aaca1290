/** Hosts that share a grant, on real engines: `npm run hosts`. With names, those files of `__test__/hosts` alone. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import Table from "cli-table3";
import { faultyPackage } from "../../__test__/faults/support/package.mjs";
import { missing } from "./engines.mjs";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const ENGINES = ["postgres", "etcd"];
const absent = ENGINES.filter((name) => missing(name));
for (const name of absent) console.error(`NOT TESTED: ${missing(name)}`);
if (absent.length === ENGINES.length) process.exit(1);

// Once, and not by each file that needs it at the same time.
faultyPackage();
const directory = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-hosts-"));
const report = join(directory, "figures");
const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
const config = join(root, "scripts", "hosts", "vitest.config.mjs");
const child = spawn(process.execPath, [vitest, "run", "--config", config, ...process.argv.slice(2)], {
  cwd: root,
  stdio: "inherit",
  env: { ...process.env, HOSTS_REPORT: report },
});
const [status] = await once(child, "close");
if (existsSync(report)) print(readFileSync(report, "utf8").trim().split("\n"));
rmSync(directory, { recursive: true });
for (const name of absent) console.error(`NOT TESTED: ${missing(name)}`);
process.exit(status ?? 1);

function print(lines) {
  const table = new Table({
    head: ["scenario", "engine", "calls", "reused", "served", "otherwise", "as expected"],
    style: { head: [], border: [], compact: true },
  });
  const rows = lines.map((line) => JSON.parse(line));
  rows.sort((one, other) => one.scenario.localeCompare(other.scenario) || one.engine.localeCompare(other.engine));
  for (const { scenario, engine, calls, reused, served, of, troubles, isAsExpected } of rows) {
    const otherwise = Object.entries(troubles).map(([what, count]) => `${count} ${what}`);
    table.push([
      scenario,
      engine,
      calls,
      reused,
      `${served} of ${of}`,
      otherwise.join(", "),
      isAsExpected ? "yes" : "NO",
    ]);
  }
  console.log(`${table}`);
}
