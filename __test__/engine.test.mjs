/** An engine that is too old is told so at the first call, and importing the package is no call. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import * as imported from "../index.mjs";

const ROOT = join(import.meta.dirname, "..");
const SAYS = /^oauth-refresh-lock needs Node 20 or newer, and this is v18\.20\.8;/;

/** Runs as on Node 18: what came later is not there. */
function onNode18(...args) {
  const directory = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-test-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const preload = join(directory, "node-18.cjs");
  // Arrays' later functions stay: Node's own modules use them.
  writeFileSync(
    preload,
    `Object.defineProperty(process.versions, "node", { value: "18.20.8" });
    for (const name of ["isWellFormed", "toWellFormed"]) delete String.prototype[name];`,
  );
  return spawnSync(process.execPath, ["--require", preload, ...args], { encoding: "utf8" });
}

test("every function says so, and what gives a promise rejects it", () => {
  const program = `
    const api = await import(${JSON.stringify(pathToFileURL(join(ROOT, "index.mjs")).href)});
    const told = ({ name, code, message }) => ({ name, code, message });
    const results = {};
    for (const [name, value] of Object.entries(api)) {
      if (typeof value !== "function") continue;
      try {
        results[name] = await value("p", "p:x", () => {}, {}).catch((error) => ({ ...told(error), rejects: true }));
      } catch (error) {
        results[name] = told(error);
      }
    }
    console.log(JSON.stringify(results));`;
  const { stdout, stderr } = onNode18("--input-type=module", "--eval", program);
  expect(stderr).toBe("");
  const results = JSON.parse(stdout);
  const functions = Object.entries(imported).flatMap(([name, value]) => (typeof value === "function" ? [name] : []));
  expect(Object.keys(results).sort()).toEqual(functions.sort());
  for (const { name, code, message } of Object.values(results)) {
    expect({ name, code }).toEqual({ name: "OAuthRefreshLockError", code: "addon_unavailable" });
    expect(message).toMatch(SAYS);
  }
  const rejecting = Object.keys(results).filter((name) => results[name].rejects);
  expect(rejecting.sort()).toEqual([
    "awaitOAuthRefreshClaim",
    "holdOAuthRefreshClaim",
    "inspectOAuthRefreshLocks",
    "refreshOAuthToken",
    "withOAuthProfileLock",
    "withOAuthRefreshLock",
  ]);
});

test.each(["status", "doctor", "storm"])("the command line says so: %s", (command) => {
  const { stdout, status } = onNode18(join(ROOT, "cli", "main.mjs"), command, "--json");
  expect(status).toBe(1);
  expect(JSON.parse(stdout).error).toMatchObject({ code: "addon_unavailable", message: expect.stringMatching(SAYS) });
});
