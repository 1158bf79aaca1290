/**
 * A bundle of a program that uses this package, by the bundler that the tests have anyway. The usual ones: `npm run bundlers`.
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { rolldown } from "rolldown";
import { expect, onTestFinished, test } from "vitest";
import { copyPackage } from "./support/package-copy.mjs";

const ROOT = join(import.meta.dirname, "..");
const { packageOf, target } = createRequire(import.meta.url)("../lib/native.js");
const ADDON = `oauth-refresh-lock.${target()}.node`;

const PROGRAM = `
  import { withOAuthProfileLock } from "oauth-refresh-lock";
  const told = (error) => error.code + ": " + error.message;
  console.log(await withOAuthProfileLock("p", "x", () => "held", { stateDir: process.argv[2] }).catch(told));
`;

/** Bundles the program in a project where npm has installed the package and its platform's. Returns the bundle's directory. */
async function bundle() {
  const project = dirname(dirname(copyPackage({ addon: false })));
  const platform = join(project, "node_modules", packageOf(target()));
  mkdirSync(platform, { recursive: true });
  cpSync(join(ROOT, "npm", target(), "package.json"), join(platform, "package.json"));
  cpSync(join(ROOT, ADDON), join(platform, ADDON));
  const input = join(project, "app.mjs");
  writeFileSync(input, PROGRAM);
  const made = await rolldown({ input, platform: "node", logLevel: "silent" });
  const file = join(project, "dist", "app.mjs");
  await made.write({ file, format: "esm" });
  await made.close();
  return { file, elsewhere: () => moved(file) };
}

function moved(file) {
  const directory = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-bundle-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const there = join(directory, "app.mjs");
  cpSync(file, there);
  return there;
}

function run(file) {
  const directory = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-bundle-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const { stdout, stderr } = spawnSync(process.execPath, [file, directory], { cwd: "/", encoding: "utf8" });
  return stdout.trim() || stderr;
}

test("a bundle finds the addon in node_modules, or beside itself; else it says what to do, in one sentence", async () => {
  const { file, elsewhere } = await bundle();
  // The package is in it.
  expect(readFileSync(file, "utf8")).not.toContain(`from "oauth-refresh-lock"`);
  expect(run(file)).toBe("held");
  const alone = elsewhere();
  const [code, said] = run(alone).split(/: (.*)/s);
  expect(code).toBe("addon_unavailable");
  expect(said.split(". ").at(-1)).toBe(
    `Keep oauth-refresh-lock out of the bundle, or put ${packageOf(target())}'s file ${ADDON} beside it`,
  );
  cpSync(join(ROOT, ADDON), join(dirname(alone), ADDON));
  expect(run(alone)).toBe("held");
});
