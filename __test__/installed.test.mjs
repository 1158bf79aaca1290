/**
 * What is published, as a user gets it: packed, installed by npm from a registry into an empty project, imported, required,
 * type-checked and looked at by the tools that check packages.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";

const execFile = promisify((await import("node:child_process")).execFile);
const ROOT = join(import.meta.dirname, "..");
const { TARGETS, target } = createRequire(import.meta.url)("../lib/native.js");
const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
const NAME = "oauth-refresh-lock";
const BIN = join(ROOT, "node_modules", ".bin");

let workspace;
let packed;
let project;
let registry;

/** A registry that has our packages, and sends whoever asks for another one to the usual registry. */
async function startRegistry(directory, elsewhere) {
  const packages = new Map();
  for (const file of readdirSync(directory)) {
    const bytes = readFileSync(join(directory, file));
    const { stdout } = spawnSync("tar", ["-xzOf", join(directory, file), "package/package.json"], { encoding: "utf8" });
    const manifest = JSON.parse(stdout);
    packages.set(manifest.name, { file, bytes, manifest });
  }
  const server = createServer((request, response) => {
    const path = decodeURIComponent(request.url.slice(1));
    const { port } = server.address();
    const tarball = [...packages.values()].find(({ file }) => path === `-/${file}`);
    if (tarball) return response.end(tarball.bytes);
    const { manifest, bytes, file } = packages.get(path) ?? {};
    if (!manifest) {
      // A platform's package that was not built here.
      if (path.startsWith(NAME)) return response.writeHead(404).end("{}");
      return response.writeHead(302, { location: new URL(request.url.slice(1), elsewhere).href }).end();
    }
    const integrity = `sha512-${createHash("sha512").update(bytes).digest("base64")}`;
    const dist = { tarball: `http://127.0.0.1:${port}/-/${file}`, integrity };
    const { version } = manifest;
    const body = { name: path, "dist-tags": { latest: version }, versions: { [version]: { ...manifest, dist } } };
    response.setHeader("content-type", "application/json");
    return response.end(JSON.stringify(body));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

/** @param {string} command @param {string[]} args */
async function run(command, args, cwd = project) {
  try {
    const { stdout } = await execFile(command, args, { cwd, encoding: "utf8", maxBuffer: 1 << 24 });
    return stdout;
  } catch (error) {
    throw new Error(`${command} ${args.join(" ")}: ${error.stdout}${error.stderr}`);
  }
}

beforeAll(async () => {
  workspace = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-installed-"));
  packed = join(workspace, "packed");
  project = join(workspace, "project");
  mkdirSync(project);
  await run(process.execPath, [join(ROOT, "scripts", "pack.mjs"), "--out", packed], ROOT);
  const elsewhere = (await run("npm", ["config", "get", "registry", "--loglevel=error"])).trim();
  registry = await startRegistry(packed, elsewhere);
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "empty", private: true }));
  const quiet = ["--no-audit", "--no-fund", "--loglevel=error", "--cache", join(workspace, "cache")];
  await run("npm", ["install", NAME, "--registry", registry.url, ...quiet]);
});
afterAll(() => {
  registry?.close();
  rmSync(workspace, { recursive: true, force: true });
});

const installed = (...path) => join(project, "node_modules", ...path);

test("npm installs the package, and of the platforms' this one's alone", () => {
  const ours = readdirSync(installed()).filter((name) => name.startsWith(NAME));
  expect(ours.sort()).toEqual([NAME, `${NAME}-${target()}`].sort());
});

test("its platforms are optional dependencies of exactly its version, and nothing runs at installation", () => {
  const manifest = JSON.parse(readFileSync(installed(NAME, "package.json"), "utf8"));
  expect(manifest.optionalDependencies).toEqual(
    Object.fromEntries(TARGETS.map((name) => [`${NAME}-${name}`, version])),
  );
  expect(manifest).not.toHaveProperty("scripts");
  expect(manifest).not.toHaveProperty("devDependencies");
  expect(readdirSync(installed(NAME)).filter((name) => name.endsWith(".node"))).toEqual([]);
});

test("every platform has its package, in the same version", () => {
  expect(readdirSync(join(ROOT, "npm")).sort()).toEqual([...TARGETS].sort());
  for (const name of TARGETS) {
    const manifest = JSON.parse(readFileSync(join(ROOT, "npm", name, "package.json"), "utf8"));
    const [os, cpu, libc] = name.split("-");
    const isLinux = os === "linux";
    const { name: packageName, version: its, os: oses, cpu: cpus, libc: libcs, main } = manifest;
    expect({ packageName, its, oses, cpus, libcs, main }).toEqual({
      packageName: `${NAME}-${name}`,
      its: version,
      oses: [os],
      cpus: [cpu],
      libcs: isLinux ? [libc === "gnu" ? "glibc" : "musl"] : undefined,
      main: `${NAME}.${name}.node`,
    });
  }
});

test("imported and required, across processes, it works", async () => {
  cpSync(join(ROOT, "smoke"), join(project, "smoke"), { recursive: true });
  const said = await run(process.execPath, ["--test-reporter=tap", "smoke/smoke.mjs"]);
  expect(said).toMatch(/^# pass 6$/m);
  expect(said).toMatch(/^# fail 0$/m);
});

test("its command line runs by its name", async () => {
  const directory = join(project, "state");
  const said = await run("npx", ["--no-install", NAME, "status", "--state-dir", directory]);
  expect(said).toBe(`No OAuth logins and no locks in ${directory}.\n`);
  expect(await run("npx", ["--no-install", NAME, "storm", "--processes", "3", "--latency", "0"])).toContain(
    "1 call to the",
  );
});

test.each([
  ["nodenext", { module: "nodenext", moduleResolution: "nodenext" }],
  ["bundler", { module: "preserve", moduleResolution: "bundler" }],
])("its types hold under strict with %s", async (name, options) => {
  const directory = join(project, name);
  mkdirSync(directory);
  const source = `
    import { withOAuthRefreshLock, type RefreshResult } from "oauth-refresh-lock";
    const result: Promise<RefreshResult | null> = withOAuthRefreshLock("p", "x", async ({ refresh }) => ({ access: refresh }));
    // @ts-expect-error: a provider is text
    void withOAuthRefreshLock(1, "x", () => null);
    export { result };
  `;
  writeFileSync(join(directory, "use.mts"), source);
  writeFileSync(join(directory, "use.cts"), source);
  const compilerOptions = {
    ...options,
    strict: true,
    noEmit: true,
    target: "es2022",
    lib: ["es2022", "dom"],
    types: [],
  };
  writeFileSync(join(directory, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*"] }));
  await run(join(BIN, "tsc"), ["--project", "."], directory);
});

test("publint and are-the-types-wrong find nothing", async () => {
  const file = join(packed, `${NAME}-${version}.tgz`);
  expect(await run(join(BIN, "publint"), [file, "--strict"])).toContain("All good!");
  expect(await run(join(BIN, "attw"), [file, "--no-color"])).toContain("No problems found");
});

test("without its platform's package it is imported all the same, and says what was looked for and what to do", async () => {
  const copy = join(workspace, "bare");
  cpSync(installed(NAME), join(copy, "node_modules", NAME), { recursive: true });
  const program = `
    import { withOAuthProfileLock } from "oauth-refresh-lock";
    const error = await withOAuthProfileLock("p", "x", () => {}).catch((error) => error);
    console.log(JSON.stringify({ code: error.code, message: error.message }));
  `;
  const { code, message } = JSON.parse(await run(process.execPath, ["--input-type=module", "--eval", program], copy));
  expect(code).toBe("addon_unavailable");
  for (const part of [target(), `${NAME}-${target()}`, "--omit=optional", "npm run build"])
    expect(message).toContain(part);
});

test("an addon that can't be loaded is not taken for one that is missing", async () => {
  const copy = join(workspace, "broken");
  const platform = `${NAME}-${target()}`;
  for (const name of [NAME, platform]) cpSync(installed(name), join(copy, "node_modules", name), { recursive: true });
  writeFileSync(join(copy, "node_modules", platform, `${NAME}.${target()}.node`), "no addon");
  const program = `
    const { resolveOAuthRefreshLockPath } = require("oauth-refresh-lock");
    try { resolveOAuthRefreshLockPath("p", "x"); } catch ({ code, message }) { console.log(JSON.stringify({ code, message })); }
  `;
  const { code, message } = JSON.parse(await run(process.execPath, ["--eval", program], copy));
  expect(code).toBe("addon_unavailable");
  expect(message).toContain("it is there but can't be loaded");
});
