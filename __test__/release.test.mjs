/** What scripts/pack.mjs refuses: packages that could be published and would not work. */
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { addonKind } from "../scripts/addon-kind.mjs";
import { startRegistry } from "./support/registry.mjs";

const ROOT = join(import.meta.dirname, "..");
const NAME = "oauth-refresh-lock";
const { packageOf, TARGETS, target } = createRequire(import.meta.url)("../lib/native.js");
const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));

function temporary() {
  const path = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-release-"));
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
  return { status, said: stdout + stderr, made: readdirSync(out).sort(), out };
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

test("with every platform's addon there are nine packages, each platform's has its addon, and npm publishes none without a repository", () => {
  vi.stubEnv("GITHUB_REPOSITORY", "");
  onTestFinished(() => vi.unstubAllEnvs());
  const addons = Object.fromEntries(TARGETS.map((target) => [target, header(target)]));
  const { status, said, made, out } = pack(["--all", "--addons", directoryOf(addons)]);
  expect({ status, said }).toMatchObject({ status: 0 });
  const expected = [NAME, ...TARGETS.map((target) => `${NAME}-${target}`)].map((name) => `${name}-${version}.tgz`);
  expect(made).toEqual(expected.sort());
  expect(said.trim().split("\n").at(-1)).toBe(`${NAME}-${version}.tgz`);
  const nowhere = ["--registry", "http://127.0.0.1:9/", "--//127.0.0.1:9/:_authToken=none", "--fetch-retries=0"];
  const { stderr } = spawnSync("npm", ["publish", join(out, made[0]), ...nowhere], { encoding: "utf8" });
  expect(stderr).toContain("EPRIVATE");
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

/** Publishing by scripts/publish.mjs, to a registry on loopback: in order, again after an interruption, and never other bytes. */
describe("publishing", async () => {
  const execFile = promisify((await import("node:child_process")).execFile);
  const MAIN = "oauth-refresh-lock";
  const NAMES = [...TARGETS.map(packageOf), MAIN];

  /** Packages that have our names, and nothing in them but `content`. Returns their directory. */
  async function packages({ version = "1.2.3", content = "as built", without = [], more = {} } = {}) {
    const directory = temporary();
    for (const [at, name] of NAMES.entries()) {
      if (without.includes(name)) continue;
      const staging = join(temporary(), "package");
      mkdirSync(staging);
      writeFileSync(join(staging, "package.json"), JSON.stringify({ name, version, description: content, ...more }));
      await execFile("tar", ["-czf", join(directory, `${at}.tgz`), "-C", join(staging, ".."), "package"]);
    }
    return directory;
  }

  async function publish(registry, directory, { args = [], env = {} } = {}) {
    const home = temporary();
    const userconfig = join(home, "npmrc");
    writeFileSync(userconfig, `${registry.url.replace("http:", "")}:_authToken=loopback\n`);
    const settings = {
      npm_config_registry: registry.url,
      npm_config_userconfig: userconfig,
      npm_config_cache: join(home, "cache"),
      npm_config_fetch_retries: "0",
      npm_config_update_notifier: "false",
    };
    const script = join(import.meta.dirname, "..", "scripts", "publish.mjs");
    const options = { cwd: home, env: { ...process.env, ...settings, ...env } };
    try {
      const { stdout } = await execFile(process.execPath, [script, "--packages", directory, ...args], options);
      return { status: 0, said: stdout };
    } catch ({ code, stdout, stderr }) {
      return { status: code, said: stdout + stderr };
    }
  }

  async function registryWith(options = {}) {
    const registry = await startRegistry(options);
    onTestFinished(registry.close);
    return registry;
  }

  const namesOf = ({ published }) => published.map(({ name }) => name);

  test("the platforms come first, this package when npm shows them all, and a second run publishes nothing", async () => {
    let hidden = 2;
    // The last platform's package takes a while to be shown; before it is, this package would be installed without its addon.
    const hide = (name) => name === NAMES.at(-2) && hidden-- > 0;
    const refuse = (name) => name === MAIN && hidden >= 0;
    const registry = await registryWith({ hide, refuse });
    const directory = await packages();
    expect(await publish(registry, directory)).toMatchObject({ status: 0 });
    const expected = NAMES.map((name) => ({ name, version: "1.2.3", tag: "latest", access: "public" }));
    expect(registry.published).toEqual(expected);

    const { status, said } = await publish(registry, directory);
    expect({ status, said }).toMatchObject({ status: 0 });
    for (const name of NAMES) expect(said).toContain(`${name}@1.2.3 is published already`);
    expect(registry.published).toEqual(expected);
  });

  test("after an interruption it goes on where it stopped; a pre-release is published for those who ask for it", async () => {
    let isRefusing = true;
    const registry = await registryWith({ refuse: (name) => isRefusing && name === NAMES[3] });
    const directory = await packages({ version: "1.3.0-rc.1" });
    const { status, said } = await publish(registry, directory);
    expect(status).toBe(1);
    expect(said).toContain(`npm did not take ${NAMES[3]}@1.3.0-rc.1`);
    expect(namesOf(registry)).toEqual(NAMES.slice(0, 3));
    isRefusing = false;
    expect(await publish(registry, directory)).toMatchObject({ status: 0 });
    expect(namesOf(registry)).toEqual(NAMES);
    expect(new Set(registry.published.map(({ tag }) => tag))).toEqual(new Set(["next"]));
  });

  test("other bytes under a version that is published are an error, and nothing more is published", async () => {
    const registry = await registryWith({ refuse: (name) => name === NAMES[1] });
    expect(await publish(registry, await packages())).toMatchObject({ status: 1 });
    const { status, said } = await publish(registry, await packages({ content: "built again" }));
    expect(status).toBe(1);
    expect(said).toContain(`npm has other bytes as ${NAMES[0]}@1.2.3`);
    expect(namesOf(registry)).toEqual([NAMES[0]]);
  });

  test.each(["homepage", "bugs", "repository"])(
    "a package whose %s is a placeholder is not published",
    async (field) => {
      const registry = await registryWith();
      const placeholder = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"))[field];
      const { status, said } = await publish(registry, await packages({ more: { [field]: placeholder } }));
      expect(status).toBe(1);
      expect(said).toContain("placeholder for its repository: pack it again, with GITHUB_REPOSITORY=owner/name");
      expect(registry.published).toEqual([]);
    },
  );

  test("a release that lacks a platform is not begun, nor is one by an npm that knows no trusted publishing", async () => {
    const registry = await registryWith();
    const [, lacking] = NAMES;
    const incomplete = await publish(registry, await packages({ without: [lacking] }));
    expect(incomplete.status).toBe(1);
    expect(incomplete.said).toContain(`lacks ${lacking}`);

    const bin = temporary();
    writeFileSync(join(bin, "npm"), "#!/bin/sh\necho 11.5.0\n", { mode: 0o755 });
    const env = { PATH: `${bin}${delimiter}${process.env.PATH}` };
    const old = await publish(registry, await packages(), { args: ["--provenance"], env });
    expect(old.status).toBe(1);
    expect(old.said).toContain("npm 11.5.1 or newer is needed to publish from a workflow, this is 11.5.0");
    expect(registry.published).toEqual([]);
  });
});

/** The workflow against the package: a platform, a Node or a script that one of them forgets is found here, not by a release. */
describe("the workflow", () => {
  const read = (...path) => readFileSync(join(ROOT, ...path), "utf8");
  const workflow = read(".github", "workflows", "ci.yml");

  /** By name: the text of each job. */
  const jobs = new Map(
    workflow
      .slice(workflow.indexOf("\njobs:\n"))
      .split(/^(?= {2}[\w-]+:$)/m)
      .slice(1)
      .map((text) => [/^ {2}([\w-]+):/.exec(text)[1], text]),
  );
  const found = (pattern, ...names) =>
    names.flatMap((name) => [...jobs.get(name).matchAll(pattern)].map(([, value]) => value));
  const list = (text) => text.split(",").map((item) => item.trim());

  test("every platform is built, and tested where it is to run", () => {
    expect([...jobs.keys()]).toEqual([
      "test",
      "build-linux",
      "build-native",
      "pack",
      "smoke",
      "smoke-linux",
      "publish",
    ]);
    const [linux] = found(/^ +target: \[(.*)\]$/gm, "build-linux");
    const built = [...list(linux), ...found(/\{ target: ([\w-]+),/g, "build-native")];
    expect(built.sort()).toEqual([...TARGETS].sort());
    expect(found(/\{ target: ([\w-]+),/g, "smoke", "smoke-linux").sort()).toEqual([...TARGETS].sort());
  });

  test("the packages are tested on every supported Node", () => {
    const [, supported] = /OTHER_NODES = \[(.*)\]/.exec(read("scripts", "test.mjs"));
    const nodes = found(/^ +node: \[(.*)\]$/gm, "smoke", "smoke-linux");
    expect(nodes).toEqual([supported, supported]);
    const { engines } = JSON.parse(read("package.json"));
    expect(engines.node).toBe(`>=${list(supported)[0]}`);
  });

  test("a published package has passed every other job, and is built on main without a token or npm's packages beside it", () => {
    const needs = (name) => found(/^ {4}needs: \[(.*)\]$/gm, name).flatMap(list);
    const passed = new Set();
    const visit = (name) => {
      passed.add(name);
      needs(name).forEach(visit);
    };
    visit("publish");
    expect([...passed].sort()).toEqual([...jobs.keys()].sort());
    expect(workflow).not.toMatch(/secrets\.|_TOKEN/);
    for (const name of ["build-linux", "build-native", "pack", "publish"])
      expect(jobs.get(name), name).not.toMatch(/npm (ci|install|run)\b/);
    expect(jobs.get("build-native")).toContain("scripts/setup.mjs --addon-only");
    // Elsewhere a token of GitHub's could be asked for, to publish as this workflow.
    for (const [name, text] of jobs) expect(text.includes("id-token: write"), name).toBe(name === "publish");
    for (const step of workflow.split(/^ +- /m).filter((step) => step.startsWith("uses: actions/checkout@")))
      expect(step).toContain("persist-credentials: false");
  });

  test("one exact Rust builds it all, and it is new enough", () => {
    const [, rust] = /^ {2}RUST: "(\d+\.\d+\.\d+)"$/m.exec(workflow);
    const [, least] = /^rust-version = "(.*)"$/m.exec(read("Cargo.toml"));
    expect(rust.localeCompare(least, "en", { numeric: true })).toBeGreaterThanOrEqual(0);
    const withRust = [...jobs].filter(([, text]) => text.includes("rustup ")).map(([name]) => name);
    expect(withRust).toEqual(["test", "build-linux", "build-native", "pack"]);
    for (const name of withRust) {
      expect(jobs.get(name), name).toMatch(/rustup toolchain install \$\{\{ env\.RUST \}\} --no-self-update/);
      expect(jobs.get(name), name).toMatch(/rustup default \$\{\{ env\.RUST \}\}/);
    }
  });

  test("every script that the workflow runs is there", () => {
    const { scripts } = JSON.parse(read("package.json"));
    const files = [...workflow.matchAll(/(?:node|sh) ((?:scripts|smoke)\/[\w./-]+)/g)].map(([, file]) => file);
    expect(new Set(files).size).toBe(5);
    expect(files.filter((file) => !existsSync(join(ROOT, file)))).toEqual([]);
    for (const [, name] of workflow.matchAll(/npm (?:run )?(\w+)$/gm)) expect(scripts).toHaveProperty(name);
  });
});
