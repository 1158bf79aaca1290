/** What scripts/pack.mjs refuses: packages that could be published and would not work. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { addonKind } from "../scripts/addon-kind.mjs";

const ROOT = join(import.meta.dirname, "..");
const NAME = "oauth-refresh-lock";
const { TARGETS, target } = createRequire(import.meta.url)("../lib/native.js");
const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));

function temporary() {
  const path = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-packing-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** The header of a library for a platform, as its format's description has it. */
function header(target) {
  const [os, cpu, libc] = target.split("-");
  const bytes = Buffer.alloc(128);
  const isArm = cpu === "arm64";
  if (os === "linux") {
    bytes.write("\x7fELF\x02\x01\x01", "latin1");
    bytes.writeUInt16LE(isArm ? 183 : 62, 18);
    if (libc === "gnu") bytes.write("GLIBC_2.17", 64);
  } else if (os === "darwin") {
    bytes.writeUInt32LE(0xfeedfacf, 0);
    bytes.writeUInt32LE(isArm ? 0x0100000c : 0x01000007, 4);
  } else {
    bytes.write("MZ", "latin1");
    bytes.writeUInt32LE(64, 60);
    bytes.write("PE\0\0", 64, "latin1");
    bytes.writeUInt16LE(isArm ? 0xaa64 : 0x8664, 68);
  }
  return bytes;
}

/** @param {Record<string, Buffer>} addons by the platform that they are named for */
function directoryOf(addons) {
  const directory = temporary();
  for (const [target, bytes] of Object.entries(addons)) writeFileSync(join(directory, `${NAME}.${target}.node`), bytes);
  return directory;
}

/** Packs in the clone, or in a copy of it. */
function pack(args, root = ROOT) {
  const out = join(temporary(), "out");
  mkdirSync(out);
  const command = [join(root, "scripts", "pack.mjs"), "--out", out, ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, command, { encoding: "utf8" });
  return { status, said: stdout + stderr, made: readdirSync(out).sort() };
}

/** A clone in which some files have another text. */
function cloneWith(changes) {
  const clone = temporary();
  const copied = ["lib", "npm", "scripts", ...Object.keys(changes).filter((file) => !file.includes("/"))];
  for (const name of readdirSync(ROOT)) {
    if (copied.includes(name)) cpSync(join(ROOT, name), join(clone, name), { recursive: true });
    else if (!name.startsWith(".") && name !== "target") symlinkSync(join(ROOT, name), join(clone, name));
  }
  for (const [file, change] of Object.entries(changes)) {
    const text = readFileSync(join(ROOT, file), "utf8");
    expect(change(text), file).not.toBe(text);
    writeFileSync(join(clone, file), change(text));
  }
  return clone;
}

test("with every platform's addon there are nine packages, and each platform's has its addon", () => {
  const addons = Object.fromEntries(TARGETS.map((target) => [target, header(target)]));
  const { status, said, made } = pack(["--all", "--addons", directoryOf(addons)]);
  expect({ status, said }).toMatchObject({ status: 0 });
  const expected = [NAME, ...TARGETS.map((target) => `${NAME}-${target}`)].map((name) => `${name}-${version}.tgz`);
  expect(made).toEqual(expected.sort());
  expect(said.trim().split("\n").at(-1)).toBe(`${NAME}-${version}.tgz`);
});

test("an addon's platform is told by its header", () => {
  for (const target of TARGETS) expect(addonKind(header(target))).toBe(target);
  expect(addonKind(readFileSync(join(ROOT, `${NAME}.${target()}.node`)))).toBe(target());
  for (const bytes of [
    Buffer.alloc(0),
    Buffer.alloc(128),
    Buffer.from("MZ".padEnd(128)),
    header("linux-x64-gnu").fill(0, 18, 20),
  ])
    expect(addonKind(bytes)).toBeUndefined();
});

test.each([
  ["another CPU's", "linux-x64-gnu", "linux-arm64-gnu"],
  ["another C library's", "linux-x64-musl", "linux-x64-gnu"],
  ["another system's", "darwin-arm64", "win32-arm64-msvc"],
])("%s addon is refused", (_, name, is) => {
  const { status, said, made } = pack(["--addons", directoryOf({ [name]: header(is) })]);
  expect({ status, made }).toEqual({ status: 1, made: [] });
  expect(said).toContain(`${NAME}.${name}.node is for ${is}`);
});

test("a missing platform is refused if all are asked for", () => {
  const { status, said, made } = pack(["--all", "--addons", directoryOf({ "darwin-x64": header("darwin-x64") })]);
  expect({ status, made }).toEqual({ status: 1, made: [] });
  expect(said).toMatch(/^missing: .*linux-x64-gnu\.node/);
  expect(said).not.toContain("darwin-x64");
});

test("a platform's package that would lack its addon is refused", () => {
  const file = "npm/darwin-x64/package.json";
  const clone = cloneWith({ [file]: (text) => text.replaceAll(`${NAME}.darwin-x64.node`, "other.node") });
  const { status, said, made } = pack(["--addons", directoryOf({ "darwin-x64": header("darwin-x64") })], clone);
  expect({ status, made }, said).toEqual({ status: 1, made: [] });
  expect(said).toContain(`${NAME}-darwin-x64-${version}.tgz would lack ${NAME}.darwin-x64.node`);
});

const ownVersion = (text) =>
  text.replace(`"oauth-refresh-lock"\nversion = "${version}"`, `"oauth-refresh-lock"\nversion = "9.9.9"`);
const firstVersion = (text) => text.replace(`"version": "${version}"`, `"version": "9.9.9"`);
test.each([
  ["Cargo.toml", ownVersion],
  ["Cargo.lock", ownVersion],
  ["package-lock.json", firstVersion],
  ["npm/win32-arm64-msvc/package.json", firstVersion],
])("a version that was forgotten in %s is refused", (file, change) => {
  const { status, said, made } = pack(["--addons", temporary()], cloneWith({ [file]: change }));
  expect({ status, made }, said).toEqual({ status: 1, made: [] });
  expect(said).toBe(`package.json has version ${version}; ${file} has 9.9.9\n`);
});
