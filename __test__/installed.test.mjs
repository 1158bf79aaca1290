/**
 * What is published, as a user gets it: packed, installed by npm from a registry into an empty project, imported, required,
 * type-checked and looked at by the tools that check packages.
 */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startRegistry } from "./support/registry.mjs";

const execFile = promisify((await import("node:child_process")).execFile);
const ROOT = join(import.meta.dirname, "..");
const { TARGETS, packageOf, target } = createRequire(import.meta.url)("../lib/native.js");
const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
const NAME = "oauth-refresh-lock";
const BIN = join(ROOT, "node_modules", ".bin");
const PLATFORM = packageOf(target());
const REPOSITORY = { type: "git", url: "git+https://github.com/acme/oauth-refresh-lock.git" };

let workspace;
let packed;
let project;
let registry;

async function run(command, args, cwd = project, env = {}) {
  const options = { cwd, encoding: "utf8", maxBuffer: 1 << 24, env: { ...process.env, ...env } };
  try {
    const { stdout } = await execFile(command, args, options);
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
  const env = { GITHUB_REPOSITORY: "acme/oauth-refresh-lock" };
  await run(process.execPath, [join(ROOT, "scripts", "pack.mjs"), "--out", packed], ROOT, env);
  const elsewhere = (await run("npm", ["config", "get", "registry", "--loglevel=error"])).trim();
  registry = await startRegistry({ directory: packed, elsewhere });
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "empty", private: true }));
  const quiet = ["--no-audit", "--no-fund", "--loglevel=error", "--cache", join(workspace, "cache")];
  await run("npm", ["install", NAME, "--registry", registry.url, ...quiet]);
});
afterAll(() => {
  registry?.close();
  rmSync(workspace, { recursive: true, force: true });
});

const installed = (...path) => join(project, "node_modules", ...path);

const manifestIn = (...path) => JSON.parse(readFileSync(join(...path, "package.json"), "utf8"));

test("npm installs the package, and of the platforms' this one's alone", () => {
  expect(
    readdirSync(installed())
      .filter((name) => name.includes(NAME))
      .sort(),
  ).toEqual([`@${NAME}`, NAME].sort());
  expect(readdirSync(installed(`@${NAME}`))).toEqual([target()]);
});

test("its platforms are optional dependencies of exactly its version, and nothing runs at installation", () => {
  const manifest = manifestIn(installed(NAME));
  expect(manifest.optionalDependencies).toEqual(
    Object.fromEntries(TARGETS.map((name) => [`@${NAME}/${name}`, version])),
  );
  expect(manifest).not.toHaveProperty("scripts");
  expect(manifest).not.toHaveProperty("devDependencies");
  expect(readdirSync(installed(NAME)).filter((name) => name.endsWith(".node"))).toEqual([]);
});

test("every platform has its package, in the same version", () => {
  expect(readdirSync(join(ROOT, "npm")).sort()).toEqual([...TARGETS].sort());
  for (const name of TARGETS) {
    const manifest = manifestIn(ROOT, "npm", name);
    const [os, cpu, libc] = name.split("-");
    const isLinux = os === "linux";
    const { name: packageName, version: its, os: oses, cpu: cpus, libc: libcs, main, publishConfig } = manifest;
    expect({ packageName, its, oses, cpus, libcs, main, publishConfig }).toEqual({
      packageName: `@${NAME}/${name}`,
      its: version,
      oses: [os],
      cpus: [cpu],
      libcs: isLinux ? [libc === "gnu" ? "glibc" : "musl"] : undefined,
      main: `${NAME}.${name}.node`,
      publishConfig: { access: "public" },
    });
    expect(readFileSync(join(ROOT, "npm", name, "README.md"), "utf8")).toContain(`# @${NAME}/${name}\n`);
  }
});

test("a clone can't be published; what is packed can, and says what repository it is from", () => {
  for (const path of [[ROOT], ...TARGETS.map((name) => [ROOT, "npm", name])]) {
    const manifest = manifestIn(...path);
    expect([path, manifest.private]).toEqual([path, true]);
  }
  // Nobody's, and scripts/publish.mjs refuses it.
  expect(manifestIn(ROOT).repository.url).toContain("/OWNER/");
  for (const name of [NAME, PLATFORM]) {
    const manifest = manifestIn(installed(name));
    expect([name, manifest.private, manifest.repository]).toEqual([name, undefined, REPOSITORY]);
  }
  const { homepage, bugs } = manifestIn(installed(NAME));
  const home = "https://github.com/acme/oauth-refresh-lock";
  expect({ homepage, bugs }).toEqual({ homepage: `${home}#readme`, bugs: `${home}/issues` });
});

test("npm would publish it as it is packed", async () => {
  const home = join(workspace, "publisher");
  mkdirSync(home);
  // No login is needed to try, nor anything from the usual registry.
  const empty = await startRegistry({});
  const env = { npm_config_userconfig: join(home, "npmrc"), npm_config_registry: empty.url };
  try {
    for (const file of [`${NAME}-${version}.tgz`, `${NAME}-${target()}-${version}.tgz`]) {
      cpSync(join(packed, file), join(home, file));
      const said = await run("npm", ["publish", "--dry-run", "--json", `./${file}`], home, env);
      expect(said).toContain(`"filename": "${file}"`);
    }
  } finally {
    empty.close();
  }
});

test("a platform's package has the licences of what is linked into its addon", () => {
  expect(readFileSync(installed(PLATFORM, "LICENSE"), "utf8")).toBe(readFileSync(join(ROOT, "LICENSE"), "utf8"));
  const [listed, ...texts] = readFileSync(installed(PLATFORM, "THIRD-PARTY-LICENSES"), "utf8").split(/^-{80}\n/m);
  expect(listed).toMatch(/^ring .*: Apache-2.0 AND ISC$/m);
  expect(listed).toMatch(/^napi .*: MIT$/m);
  // Neither what is for tests, nor a macro, nor ourselves.
  expect(listed).not.toMatch(/^(criterion|stateright|tempfile|napi-derive|serde_derive|oauth-refresh-lock) /m);
  const titled = texts.filter((_, at) => at % 2 === 0).join("");
  for (const [, crate] of listed.matchAll(/^(.+?): /gm)) expect(titled, crate).toContain(crate);
  expect(texts.join("")).toContain("Permission is hereby granted, free of charge");
});

test("a platform's package has a bill of what is linked into its addon", () => {
  const bill = JSON.parse(readFileSync(installed(PLATFORM, "sbom.cdx.json"), "utf8"));
  expect(bill).toMatchObject({ bomFormat: "CycloneDX", metadata: { component: { name: PLATFORM } } });
  const [listed] = readFileSync(installed(PLATFORM, "THIRD-PARTY-LICENSES"), "utf8").split(/^-{80}\n/m);
  const titles = [...listed.matchAll(/^(.+ \S+): /gm)].map(([, title]) => title);
  expect(bill.components.map(({ name, version }) => `${name} ${version}`).sort()).toEqual(titles.sort());
});

test("the package has every file that the README links to, but for the sources", () => {
  const links = [...readFileSync(installed(NAME, "README.md"), "utf8").matchAll(/\]\((?!https?:|#)([^)#]+)/g)];
  const files = links.map(([, file]) => file).filter((file) => !/^(src|smoke|CONTRIBUTING)\b/.test(file));
  expect(files).toEqual(expect.arrayContaining(["SECURITY.md", "index.d.ts"]));
  expect(files.filter((file) => !existsSync(installed(NAME, file)))).toEqual([]);
});

test("imported and required, across processes, it works", async () => {
  cpSync(join(ROOT, "smoke"), join(project, "smoke"), { recursive: true });
  const said = await run(process.execPath, ["--test-reporter=tap", "smoke/smoke.mjs"]);
  expect(said).toMatch(/^# pass 7$/m);
  expect(said).toMatch(/^# fail 0$/m);
});

test.skipIf(process.platform === "win32")(
  "what is packed passes the workflow's smoke test, without a registry that has it",
  async () => {
    const env = { npm_config_registry: registry.url, npm_config_cache: join(workspace, "cache"), TMPDIR: workspace };
    // Its platform's package is in the tarball alone.
    registry.forget(PLATFORM);
    const said = await run("sh", [join(ROOT, "smoke", "installed.sh"), packed, target()], workspace, env);
    expect(said).toMatch(/^. pass 7$/m);
  },
);

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
    const error = await withOAuthProfileLock("p", "p:x", () => {}, { stateDir: process.cwd() }).catch((error) => error);
    console.log(JSON.stringify({ code: error.code, message: error.message }));
  `;
  const { code, message } = JSON.parse(await run(process.execPath, ["--input-type=module", "--eval", program], copy));
  expect(code).toBe("addon_unavailable");
  for (const part of [target(), PLATFORM, "--omit=optional", "npm run build"]) expect(message).toContain(part);
});

/** The package with its platform's, elsewhere; returns where. */
function copyInstalled(name) {
  const copy = join(workspace, name);
  for (const name of [NAME, PLATFORM]) cpSync(installed(name), join(copy, "node_modules", name), { recursive: true });
  return copy;
}

/** What the first call rejects with. */
async function failureIn(copy, { options = [], before = "" } = {}) {
  const program = `
    ${before}
    const { withOAuthProfileLock } = require("oauth-refresh-lock");
    withOAuthProfileLock("p", "p:x", () => {}, { stateDir: process.cwd() }).catch(({ code, message }) => console.log(JSON.stringify({ code, message })));
  `;
  return JSON.parse(await run(process.execPath, [...options, "--eval", program], copy));
}

test("an addon that can't be loaded is not taken for one that is missing", async () => {
  const copy = copyInstalled("broken");
  writeFileSync(join(copy, "node_modules", PLATFORM, `${NAME}.${target()}.node`), "no addon");
  const { code, message } = await failureIn(copy);
  expect(code).toBe("addon_unavailable");
  expect(message).toContain(`${PLATFORM} exists but can't be loaded: `);
  expect(message).toMatch(/Install this package again on the platform that it is to run on, or build it/);
  expect(message).not.toContain("--omit");
});

test("an error of Windows' loader is quoted without its line end and its full stop", async () => {
  const before = `
    process.dlopen = () => {
      throw Object.assign(new Error("The specified module could not be found.\\r\\n\\\\\\\\?\\\\C:\\\\x.node"), { code: "ERR_DLOPEN_FAILED" });
    };
  `;
  const { message } = await failureIn(copyInstalled("windows"), { before });
  expect(message).toContain("can't be loaded: The specified module could not be found. Install this package again");
});

test("if Node may not load addons, the advice is to let it", async () => {
  const { code, message } = await failureIn(copyInstalled("forbidden"), { options: ["--no-addons"] });
  expect(code).toBe("addon_unavailable");
  expect(message).toContain("start it without `--no-addons` and, under its permission model, with `--allow-addons`");
  expect(message).not.toContain("npm run build");
});

const NO_LOADER = [
  ["there is no program", `process.execPath = "/nowhere";`],
  ["the program names no loader", `process.execPath = "/etc/passwd";`],
];
test.skipIf(process.platform !== "linux").each(NO_LOADER)(
  "where %s, either C library's addon is looked for",
  async (name, before) => {
    const copy = copyInstalled(name);
    const use = `
    ${before}
    const { resolveOAuthRefreshLockPath } = require("oauth-refresh-lock");
    console.log(resolveOAuthRefreshLockPath("p", "x", { stateDir: "/state" }));
  `;
    expect(await run(process.execPath, ["--eval", use], copy)).toMatch(/^\/state\/locks\//);
    rmSync(join(copy, "node_modules", `@${NAME}`), { recursive: true });
    const { code, message } = await failureIn(copy, { before });
    expect(code).toBe("addon_unavailable");
    for (const libc of ["gnu", "musl"]) {
      const one = `linux-${process.arch}-${libc}`;
      for (const tried of [`${NAME}.${one}.node`, `@${NAME}/${one}`]) expect(message).toContain(tried);
    }
  },
);

test.skipIf(process.platform !== "linux")(
  "a program that musl's loader starts gets musl's addon, and no other is tried",
  async () => {
    const copy = copyInstalled("musl");
    const program = join(copy, "program");
    writeFileSync(program, `\x7fELF${"\0".repeat(600)}/lib/ld-musl-x86_64.so.1\0`);
    const { message } = await failureIn(copy, { before: `process.execPath = ${JSON.stringify(program)};` });
    expect(message).toContain(`no native addon for linux-${process.arch}-musl`);
    expect(message).not.toContain("-gnu.node");
  },
);
