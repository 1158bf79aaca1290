// Builds the addon for the platforms that this machine is not, and tries what can be tried here.
//   npm run cross [-- --only TARGET]
// Needs Linux on x64, Python 3 with venv, and a Rust toolchain with its standard library's source: rustup's (`rustup component
// add rust-src`) or Debian's (packages rustc-web, cargo-web, rust-web-src). Zig, the linker for all of them, comes from PyPI. To run
// what was built for arm64: Debian's qemu-user, libc6-arm64-cross and libstdc++6-arm64-cross.
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { foreignNode } from "./fetch.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const cross = join(root, "target", "cross");
/** RHEL 7's. Node 20 needs 2.28, so this is no limit of ours. */
const OLDEST_GLIBC = [2, 17];
const ARM64_ROOT = "/usr/aarch64-linux-gnu";

/** By our name: Rust's name, and, where it can't be linked, by what it is compiled without that. */
const TARGETS = {
  "linux-x64-gnu": { rust: "x86_64-unknown-linux-gnu", glibc: true },
  "linux-arm64-gnu": { rust: "aarch64-unknown-linux-gnu", glibc: true, emulator: ["qemu-aarch64", "-L", ARM64_ROOT] },
  "linux-x64-musl": { rust: "x86_64-unknown-linux-musl" },
  "linux-arm64-musl": { rust: "aarch64-unknown-linux-musl" },
  // Linking needs Apple's SDK.
  "darwin-x64": { rust: "x86_64-apple-darwin", check: "cargo-zigbuild" },
  "darwin-arm64": { rust: "aarch64-apple-darwin", check: "cargo-zigbuild" },
  // Microsoft's linker and C headers can't be had here: without the token endpoint there is no C in it.
  "win32-x64-msvc": { rust: "x86_64-pc-windows-msvc", check: "cargo", features: ["--no-default-features"] },
  "win32-arm64-msvc": { rust: "aarch64-pc-windows-msvc", check: "cargo", features: ["--no-default-features"] },
};

const { values } = parseArgs({ options: { only: { type: "string", multiple: true } } });
const chosen = values.only ?? Object.keys(TARGETS);
for (const name of chosen)
  if (!TARGETS[name]) fail(`there is no target "${name}"; there are ${Object.keys(TARGETS).join(", ")}`);

function fail(message) {
  console.error(message);
  process.exit(1);
}

/** @param {string} command @param {string[]} args @param {NodeJS.ProcessEnv} [env] */
function run(command, args, env = {}) {
  console.log(`\n> ${[command, ...args].join(" ")}`);
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
  if (error || status !== 0) fail(`failed: ${command} ${args.join(" ")}${error ? `: ${error.message}` : ""}`);
}

/** A toolchain that has the standard library's source, so that it can be built for any platform. */
function toolchain() {
  for (const rustc of ["rustc", "/usr/bin/rustc"]) {
    const { stdout, status } = spawnSync(rustc, ["--print", "sysroot"], { encoding: "utf8" });
    const source = status === 0 && join(stdout.trim(), "lib", "rustlib", "src", "rust", "library", "Cargo.lock");
    if (source && existsSync(source)) return { RUSTC: rustc, CARGO: rustc.replace(/rustc$/, "cargo") };
  }
  return fail("no Rust toolchain here has its source: `rustup component add rust-src`, or Debian's rust-web-src");
}

/** Zig and cargo-zigbuild, in an environment of their own. */
function zig() {
  const bin = join(cross, "venv", "bin");
  if (!existsSync(join(bin, "zig"))) {
    mkdirSync(cross, { recursive: true });
    run("python3", ["-m", "venv", join(cross, "venv")]);
    run(join(bin, "pip"), [
      "install",
      "--quiet",
      "--require-hashes",
      "-r",
      join(root, "scripts/cross-requirements.txt"),
    ]);
    writeFileSync(join(bin, "zig"), `#!/bin/sh\nexec "${join(bin, "python")}" -m ziglang "$@"\n`);
    chmodSync(join(bin, "zig"), 0o755);
  }
  return bin;
}

const { RUSTC, CARGO } = toolchain();
const environment = {
  RUSTC,
  CARGO,
  // `-Z build-std` on a stable toolchain.
  RUSTC_BOOTSTRAP: "1",
  CARGO_TARGET_DIR: join(cross, "build"),
  PATH: [dirname(CARGO), zig(), process.env.PATH].filter((path) => path !== ".").join(delimiter),
};
const COMMON = ["--locked", "--lib", "--features", "binding", "-Z", "build-std=std,panic_unwind"];

function check({ rust, check: by, features = [] }) {
  run(by === "cargo" ? CARGO : by, ["check", ...COMMON, ...features, "--target", rust], {
    ...environment,
    RUSTFLAGS: "--deny warnings",
  });
}

/** @returns {string} the addon */
function build(name, { rust, glibc }) {
  const target = glibc ? `${rust}.${OLDEST_GLIBC.join(".")}` : rust;
  // musl is linked statically by default, which no addon can be.
  const flags = name.endsWith("musl") ? "-C target-feature=-crt-static" : "";
  const args = ["rustc", "--release", ...COMMON, "--crate-type", "cdylib", "--target", target];
  run("cargo-zigbuild", args, { ...environment, RUSTFLAGS: flags });
  const file = `liboauth_refresh_lock.${name.startsWith("darwin") ? "dylib" : "so"}`;
  mkdirSync(join(cross, "addons"), { recursive: true });
  const addon = join(cross, "addons", `oauth-refresh-lock.${name}.node`);
  copyFileSync(join(environment.CARGO_TARGET_DIR, rust, "release", file), addon);
  return addon;
}

/** The newest glibc that a library asks for, as its version table says. */
function newestGlibc(addon) {
  const versions = [...readFileSync(addon, "latin1").matchAll(/GLIBC_(\d+)\.(\d+)/g)];
  return versions
    .map(([, ...parts]) => parts.map(Number))
    .sort(([a, b], [c, d]) => a - c || b - d)
    .at(-1);
}

function refuseNewGlibc(name, addon) {
  const newest = newestGlibc(addon);
  if (name.endsWith("musl") ? newest : newest[0] !== OLDEST_GLIBC[0] || newest[1] > OLDEST_GLIBC[1])
    fail(`${addon} needs glibc ${newest.join(".")}`);
}

/** Runs the smoke test in an emulator. */
function emulate(name, addon, emulator) {
  const node = foreignNode(20, name.replace(/-gnu$/, ""));
  const command = [...emulator, node];
  const beside = join(root, `oauth-refresh-lock.${name}.node`);
  copyFileSync(addon, beside);
  try {
    const [program, ...args] = command;
    run(program, [...args, join("smoke", "smoke.mjs")], { SMOKE_NODE: JSON.stringify(command) });
  } finally {
    rmSync(beside);
  }
}

const canEmulate = existsSync(ARM64_ROOT) && spawnSync("qemu-aarch64", ["--version"]).status === 0;
const results = [];
for (const name of chosen) {
  const target = TARGETS[name];
  if (target.check) {
    check(target);
    results.push([name, `compiles${target.features ? " without its token endpoint" : ""}, not linked`]);
    continue;
  }
  const addon = build(name, target);
  if (name.startsWith("linux")) refuseNewGlibc(name, addon);
  if (target.emulator && canEmulate) emulate(name, addon, target.emulator);
  results.push([name, target.emulator && canEmulate ? "builds, runs under emulation" : "builds"]);
}
console.log("");
for (const [name, result] of results) console.log(`${name.padEnd(18)} ${result}`);
