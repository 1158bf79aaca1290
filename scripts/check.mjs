// Formatting, lints and types, of both languages.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function run(command, ...args) {
  console.log(`> ${[command, ...args].join(" ")}`);
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (error || status !== 0) process.exit(status || 1);
}

const bin = (name) => join(root, "node_modules", ".bin", name);
run(process.execPath, "scripts/setup.mjs");
run("cargo", "fmt", "--check");
run("cargo", "clippy", "--locked", "--all-targets", "--features", "binding,faults", "--", "--deny", "warnings");
run("cargo", "clippy", "--locked", "--no-default-features", "--features", "binding", "--", "--deny", "warnings");
if (spawnSync("cargo", ["deny", "--version"], { cwd: root }).status === 0) {
  run("cargo", "deny", "--locked", "check", "licenses", "bans", "sources");
} else {
  console.error("NOT CHECKED: licences and sources of crates. `cargo install cargo-deny --locked` adds that check.");
}
run(process.execPath, "scripts/imports.mjs");
run(bin("biome"), "ci", "--error-on-warnings");
run(bin("tsc"), "--project", "__test__/types");
