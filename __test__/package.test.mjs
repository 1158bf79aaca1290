import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { runInNewContext } from "node:vm";
import { describe, expect, onTestFinished, test } from "vitest";
import * as imported from "../index.mjs";
import { resolveOAuthRefreshLockPath } from "../index.mjs";
import { copyPackage, LOADED } from "./support/package-copy.mjs";

const ROOT = join(import.meta.dirname, "..");
const required = createRequire(import.meta.url)("../index.js");
const { TARGETS } = createRequire(import.meta.url)("../lib/native.js");

/** Runs a program beside the installed package; it prints JSON. */
function run(copy, type, program) {
  const { stdout, stderr, status } = spawnSync(process.execPath, [`--input-type=${type}`, "--eval", program], {
    cwd: dirname(dirname(copy)),
    encoding: "utf8",
  });
  expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
  return JSON.parse(stdout);
}

test("import and require give the same things", () => {
  // By Node itself: Vitest evaluates a module for each of the two.
  const program = `
    import { createRequire } from "node:module";
    import * as imported from "oauth-refresh-lock";
    const required = createRequire(import.meta.url)("oauth-refresh-lock");
    const names = Object.keys({ ...imported, ...required });
    console.log(JSON.stringify([names.length, names.filter((name) => imported[name] !== required[name])]));
  `;
  expect(run(copyPackage(), "module", program)).toEqual([Object.keys(imported).length, []]);
});

test.each(["index.d.ts", "mcp.d.ts"])("%s says of every member what it is", (file) => {
  const lines = readFileSync(join(ROOT, file), "utf8").split("\n");
  const ends = lines.flatMap((line, at) => (line.startsWith("}") ? [at] : []));
  let members = 0;
  const silent = lines.flatMap((line, at) => {
    if (!/^export (?:interface|class) /.test(line)) return [];
    const end = ends.find((one) => one > at);
    return lines.slice(at + 1, end).filter((member, index) => {
      // At the first level; what is nested is told with it.
      if (!/^ {2}(?:readonly )?\w+\??[(:<]/.test(member)) return false;
      members += 1;
      return !lines[at + index].endsWith("*/") && !lines[at + index].trim().startsWith("// biome-ignore");
    });
  });
  expect(silent).toEqual([]);
  expect(members).toBeGreaterThan(5);
});

test("an error is of the exported class", async () => {
  const { OAuthRefreshLockError, withOAuthProfileLock } = imported;
  const error = await withOAuthProfileLock("", "p:x", () => {}).catch((thrown) => thrown);
  expect(error).toBeInstanceOf(OAuthRefreshLockError);
  expect(error.code).toBe("invalid_argument");
});

test("the exports are those that index.d.ts declares", () => {
  const declared = [
    ...readFileSync(join(ROOT, "index.d.ts"), "utf8").matchAll(/^export (?:function|const|class) (\w+)/gm),
  ];
  // One has two forms.
  const names = [...new Set(declared.map(([, name]) => name))].sort();
  expect(names).toHaveLength(24);
  expect(Object.keys(required).sort()).toEqual(names);
  expect(Object.keys(imported).sort()).toEqual(names);
});

const USE = `
  const before = loaded.length;
  const path = api.resolveOAuthRefreshLockPath("p", "x", { stateDir: "/state" });
  const result = await api.withOAuthProfileLock("p", "x", () => "done", { stateDir: process.cwd() });
  console.log(JSON.stringify({ names: Object.keys(api).sort(), before, after: loaded.length, path, result }));
`;
const EXPECTED_USE = {
  names: Object.keys(required).sort(),
  before: 0,
  after: 1,
  path: imported.resolveOAuthRefreshLockPath("p", "x", { stateDir: "/state" }),
  result: "done",
};

test("installed, it is imported by name, and loads its addon at the first call", () => {
  const program = `${LOADED} const api = await import("oauth-refresh-lock"); ${USE}`;
  expect(run(copyPackage(), "module", program)).toEqual(EXPECTED_USE);
});

test("installed, it is required by name, and loads its addon at the first call", () => {
  const program = `${LOADED} const api = require("oauth-refresh-lock"); (async () => { ${USE} })();`;
  expect(run(copyPackage(), "commonjs", program)).toEqual(EXPECTED_USE);
});

test("on Windows the addon is told its own file, so that it stays loaded", () => {
  // A stand-in for what only Windows' addon has.
  const program = `
    const { dlopen } = process;
    const told = [];
    process.dlopen = (module, ...rest) => {
      dlopen.call(process, module, ...rest);
      module.exports.stayLoaded = (path) => told.push(path);
      told.push(module.filename);
    };
    const { isAvailable } = require("oauth-refresh-lock");
    console.log(JSON.stringify([isAvailable(), ...told]));
  `;
  const [isAvailable, file, told] = run(copyPackage(), "commonjs", program);
  expect(isAvailable).toBe(true);
  expect(told).toBe(file);
});

test("a file that is no export can't be imported", () => {
  const program = `
    const codes = [];
    for (const name of ["lib/queue.js", "index.js", "cli/main.mjs"])
      await import("oauth-refresh-lock/" + name).then(() => codes.push("imported"), ({ code }) => codes.push(code));
    console.log(JSON.stringify(codes));
  `;
  expect(run(copyPackage(), "module", program)).toEqual(Array(3).fill("ERR_PACKAGE_PATH_NOT_EXPORTED"));
});

test("without an addon it is imported all the same, and every call says what is missing and what to do", () => {
  const copy = copyPackage({ addon: false });
  const program = `
    import * as api from "oauth-refresh-lock";
    const said = {};
    const tell = (name) => ({ name: kind, code, message, path, cause }) => {
      said[name] = { kind, code, message, path, cause: cause.code };
    };
    const fn = () => { throw new Error("called"); };
    await api.withOAuthRefreshLock("p", "x", fn).catch(tell("withOAuthRefreshLock"));
    await api.withOAuthProfileLock("p", "x", fn).catch(tell("withOAuthProfileLock"));
    await api.inspectOAuthRefreshLocks({ stateDir: "/state" }).catch(tell("inspectOAuthRefreshLocks"));
    const path = api.resolveOAuthRefreshLockPath("p", "x", { stateDir: "/state" });
    const isSafe = api.isSafeToCopyOAuthIdentity({ email: "A@b" }, { email: "a@B" });
    const { reason } = api.shouldMirrorRefreshedOAuthCredential({ existing: null, refreshed: { type: "oauth" } });
    const { code } = await api.withOAuthRefreshLock("", "x", fn).catch((error) => error);
    const reused = api.isRefreshTokenReusedError("refresh_token_reused");
    const isAvailable = api.isAvailable();
    console.log(JSON.stringify({ said, path, isSafe, reason, code, reused, isAvailable, timeout: api.OAUTH_REFRESH_CALL_TIMEOUT_MS }));
  `;
  const { said, ...others } = run(copy, "module", program);
  // What needs no addon works.
  expect(others).toEqual({
    path: resolveOAuthRefreshLockPath("p", "x", { stateDir: "/state" }),
    isSafe: true,
    reason: "no-existing-credential",
    code: "invalid_argument",
    reused: true,
    isAvailable: false,
    timeout: 120_000,
  });
  expect(Object.keys(said)).toHaveLength(3);
  for (const [name, { kind, code, message, path, cause }] of Object.entries(said)) {
    expect({ kind, code, cause }, name).toEqual({
      kind: "OAuthRefreshLockError",
      code: "addon_unavailable",
      cause: "MODULE_NOT_FOUND",
    });
    const target = `${process.platform}-${process.arch}`;
    expect(path.startsWith(join(copy, `oauth-refresh-lock.${target}`)), path).toBe(true);
    expect(message).toContain(target);
    expect(message).toContain(path);
    expect(message).toContain("npm run build");
  }
});

test("the manifest can be imported and required, for tools that read it", () => {
  const program = `
    const { default: { name } } = await import("oauth-refresh-lock/package.json", { with: { type: "json" } });
    const { createRequire } = await import("node:module");
    console.log(JSON.stringify([name, createRequire(process.cwd() + "/x")("oauth-refresh-lock/package.json").name]));
  `;
  const copy = copyPackage();
  const args = ["--no-warnings", "--input-type=module", "--eval", program];
  const { stdout } = spawnSync(process.execPath, args, { cwd: dirname(dirname(copy)), encoding: "utf8" });
  expect(JSON.parse(stdout)).toEqual(["oauth-refresh-lock", "oauth-refresh-lock"]);
});

test("headers may be an object of another realm", async () => {
  const { refreshOAuthToken } = imported;
  const ask = (headers) =>
    refreshOAuthToken({ tokenEndpoint: "http://127.0.0.1:9/", refreshToken: "r", headers }).catch(({ code }) => code);
  expect(await ask(runInNewContext(`({ "x-one": "1" })`))).toBe("provider_unreachable");
  expect(await ask(new Map())).toBe("invalid_argument");
  expect(await ask(runInNewContext("new Map()"))).toBe("invalid_argument");
});

test("every platform's addon has its places written out, where bundlers look for them", () => {
  const written = (file) => readFileSync(join(ROOT, "lib", file), "utf8");
  for (const target of TARGETS) {
    expect(written("addons.js")).toContain(`"../oauth-refresh-lock.${target}.node"`);
    expect(written("addons.js")).toContain(`"../../@oauth-refresh-lock/${target}/oauth-refresh-lock.${target}.node"`);
    expect(written("addons-bun.js")).toContain(`require("../oauth-refresh-lock.${target}.node")`);
    expect(written("addons-bun.js")).toContain(`require("@oauth-refresh-lock/${target}")`);
  }
});

test("the package holds nothing that runs at installation, and needs other packages for its command line alone", () => {
  const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  for (const name of ["preinstall", "install", "postinstall", "prepare"])
    expect(manifest.scripts).not.toHaveProperty(name);
  expect(Object.keys(manifest.dependencies)).toEqual(["cli-table3", "commander"]);
  // None of them is beside the copy.
  const program = `
    import * as api from "oauth-refresh-lock";
    const { status } = await import("oauth-refresh-lock/cli/main.mjs").catch(({ code }) => ({ status: code }));
    console.log(JSON.stringify({ path: typeof api.resolveOAuthRefreshLockPath("p", "x"), status }));
  `;
  expect(run(copyPackage(), "module", program)).toEqual({ path: "string", status: "ERR_PACKAGE_PATH_NOT_EXPORTED" });
});

/** An engine that is too old is told so at the first call, and importing the package is no call. */
describe("an engine that is too old", () => {
  const SAYS = /^oauth-refresh-lock needs Node 20 or newer, and this is v18\.20\.8;/;

  /** Runs as on Node 18: what came later is not there. */
  function onNode18(...args) {
    const directory = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-test-"));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const preload = join(directory, "node-18.cjs");
    // Arrays' later functions stay: Node's own modules use them.
    writeFileSync(
      preload,
      `Object.defineProperty(process.versions, "node", { value: "18.20.8" });
      for (const name of ["isWellFormed", "toWellFormed"]) delete String.prototype[name];`,
    );
    return spawnSync(process.execPath, ["--require", preload, ...args], { encoding: "utf8" });
  }

  test("every function says so, and what gives a promise rejects it", () => {
    const program = `
      const api = await import(${JSON.stringify(pathToFileURL(join(ROOT, "index.mjs")).href)});
      const told = ({ name, code, message }) => ({ name, code, message });
      const results = {};
      for (const [name, value] of Object.entries(api)) {
        if (typeof value !== "function" || name === "OAuthRefreshLockError") continue;
        try {
          const result = value("p", "p:x", () => {}, {});
          results[name] = typeof result === "boolean" ? result : await result.catch((error) => ({ ...told(error), rejects: true }));
        } catch (error) {
          results[name] = told(error);
        }
      }
      console.log(JSON.stringify(results));`;
    const { stdout, stderr } = onNode18("--input-type=module", "--eval", program);
    expect(stderr).toBe("");
    const results = JSON.parse(stdout);
    const functions = Object.entries(imported).flatMap(([name, value]) => (typeof value === "function" ? [name] : []));
    expect(results.isAvailable).toBe(false);
    delete results.isAvailable;
    for (const name of ["isAvailable", "OAuthRefreshLockError"]) functions.splice(functions.indexOf(name), 1);
    expect(Object.keys(results).sort()).toEqual(functions.sort());
    for (const { name, code, message } of Object.values(results)) {
      expect({ name, code }).toEqual({ name: "OAuthRefreshLockError", code: "addon_unavailable" });
      expect(message).toMatch(SAYS);
    }
    const rejecting = Object.keys(results).filter((name) => results[name].rejects);
    expect(rejecting.sort()).toEqual([
      "awaitOAuthRefreshClaim",
      "checkCoordinator",
      "holdOAuthRefreshClaim",
      "inspectOAuthRefreshLocks",
      "refreshOAuthToken",
      "removeOAuthLogin",
      "saveOAuthLogin",
      "withOAuthProfileLock",
      "withOAuthRefreshLock",
    ]);
  });

  test.each(["status", "doctor", "storm"])("the command line says so: %s", (command) => {
    const { stdout, status } = onNode18(join(ROOT, "cli", "main.mjs"), command, "--json");
    expect(status).toBe(1);
    expect(JSON.parse(stdout).error).toMatchObject({ code: "addon_unavailable", message: expect.stringMatching(SAYS) });
  });
});
