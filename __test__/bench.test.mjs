import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";

const BENCH = fileURLToPath(new URL("../bench/run.mjs", import.meta.url));

/** A short run without peers; what it takes is nobody's business here. */
async function page(...cases) {
  const out = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-bench-"));
  onTestFinished(() => rmSync(out, { recursive: true, force: true }));
  const only = cases.flatMap((name) => ["--only", name]);
  await promisify(execFile)(process.execPath, [BENCH, "--quick", "--alone", ...only, "--out", out]);
  return readFileSync(join(out, "benchmarks.md"), "utf8");
}

/** The cells of the row with this name. */
function row(text, name) {
  const line = text.split("\n").find((line) => line.startsWith(`| ${name} |`));
  return line
    ?.split("|")
    .slice(2, -1)
    .map((cell) => cell.trim());
}

test("the benchmarks measure, and say who is missing", async () => {
  const text = await page("pair", "storm");
  const [p50, p99] = row(text, "ours").map(Number);
  expect(p50).toBeGreaterThan(0);
  expect(p99).toBeGreaterThanOrEqual(p50);
  expect(row(text, "fs-ext")[0]).toBe("not available: left out (--alone)");
  const [, , calls, wrong] = row(text, "ours, refresh function");
  expect([calls, wrong]).toEqual(["1", "0"]);
});
