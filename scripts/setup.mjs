// Installs what is missing and builds the addon, so that every npm command works on a fresh clone.
// `--addon-only` installs nothing: no package's script is to run beside an addon that is shipped.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, renameSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { built, libraryAmong } from "./cargo.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { target } = createRequire(import.meta.url)("../lib/native.js");

function fail(message) {
  console.error(message);
  process.exit(1);
}

function newer(file, than) {
  return !existsSync(than) || statSync(file).mtimeMs > statSync(than).mtimeMs;
}

if (Number(process.versions.node.split(".")[0]) < 20) {
  fail(`Node 20 or newer is needed, this is ${process.version}; get it at https://nodejs.org`);
}
if (spawnSync("cargo", ["--version"]).error) {
  fail("The Rust toolchain (cargo) is needed to build the addon; get it at https://rustup.rs");
}
const installs = !process.argv.includes("--addon-only");
if (installs && newer(join(root, "package-lock.json"), join(root, "node_modules", ".package-lock.json"))) {
  const npm = process.env.npm_execpath ? [process.execPath, [process.env.npm_execpath]] : ["npm", []];
  const args = [...npm[1], "ci", "--no-audit", "--no-fund", "--loglevel=error"];
  const { status, error } = spawnSync(npm[0], args, { cwd: root, stdio: ["ignore", 2, 2] });
  if (error || status !== 0) fail(`\`npm ci\` failed${error ? `: ${error.message}` : ""}`);
}

// As a cdylib alone: beside an rlib, link-time optimisation leaves a fifth more in it.
const build = ["rustc", "--release", "--locked", "--lib", "--crate-type", "cdylib", "--features", "binding"];
const library = libraryAmong(built(...build));
const addon = join(root, `oauth-refresh-lock.${target()}.node`);
// By rename: a process that has the old addon open must not see its bytes change.
copyFileSync(library, `${addon}.tmp`);
renameSync(`${addon}.tmp`, addon);
