/** The package at another place, as an installation has it. */
import { chmodSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

const ROOT = join(import.meta.dirname, "..", "..");
const { name, files } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));

/** What an agent's process needs besides the package. */
const TEST_FILES = ["__test__/support", "node_modules/oauth4webapi"];

/** The beginning of a program that tells which addons it has loaded. */
export const LOADED = `
  const loaded = [];
  const { dlopen } = process;
  process.dlopen = (module, ...rest) => { loaded.push(module.filename); return dlopen.call(process, module, ...rest); };
`;

/**
 * Copies what is published, with the addon unless told otherwise, and with an agent's process if asked to. Returns the
 * directory; all may read it.
 */
export function copyPackage({ addon = true, tests = false } = {}) {
  const parent = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-copy-"));
  onTestFinished(() => rmSync(parent, { recursive: true, force: true }));
  chmodSync(parent, 0o755);
  const copy = join(parent, "node_modules", name);
  const addons = readdirSync(ROOT).filter((file) => file.endsWith(".node"));
  for (const file of ["package.json", ...files, ...(addon ? addons : []), ...(tests ? TEST_FILES : [])]) {
    cpSync(join(ROOT, file), join(copy, file), { recursive: true });
  }
  return copy;
}
