import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import * as imported from "../index.mjs";
import { copyPackage } from "./support/package-copy.mjs";

const ROOT = join(import.meta.dirname, "..");
const required = createRequire(import.meta.url)("../index.js");

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
  expect({ ...imported }).toEqual({ ...required });
  expect(Object.entries(imported).filter(([name, value]) => value !== required[name])).toEqual([]);
});

test("the exports are those that index.d.ts declares", () => {
  const declared = [...readFileSync(join(ROOT, "index.d.ts"), "utf8").matchAll(/^export (?:function|const) (\w+)/gm)];
  const names = declared.map(([, name]) => name).sort();
  expect(names).toHaveLength(15);
  expect(Object.keys(required).sort()).toEqual(names);
  expect(Object.keys(imported).sort()).toEqual(names);
});

const LOADED = `
  const loaded = [];
  const { dlopen } = process;
  process.dlopen = (module, ...rest) => { loaded.push(module.filename); return dlopen.call(process, module, ...rest); };
`;
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

test("what is no export is not to be had", () => {
  const program = `
    const codes = [];
    for (const name of ["lib/queue.js", "index.js", "package.json"])
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
    for (const [name, ...given] of [
      ["resolveOAuthRefreshLockPath", "p", "x"],
      ["isSafeToCopyOAuthIdentity", {}, {}],
      ["shouldMirrorRefreshedOAuthCredential", null, { type: "oauth" }],
    ]) try { api[name](...given); } catch (error) { tell(name)(error); }
    const { code } = await api.withOAuthRefreshLock("", "x", fn).catch((error) => error);
    const reused = api.isRefreshTokenReusedError("refresh_token_reused");
    console.log(JSON.stringify({ said, code, reused, timeout: api.OAUTH_REFRESH_CALL_TIMEOUT_MS }));
  `;
  const { said, ...others } = run(copy, "module", program);
  // What needs no addon works.
  expect(others).toEqual({ code: "invalid_argument", reused: true, timeout: 120_000 });
  expect(Object.keys(said)).toHaveLength(5);
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
