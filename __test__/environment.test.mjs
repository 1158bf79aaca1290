/** What the environment says: whether the library is to be used, and which directories. */
import { spawnSync } from "node:child_process";
import { mkdirSync, renameSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { resolveOAuthRefreshLockPath } from "../index.mjs";
import { startAgent } from "./support/agents.mjs";
import { createHost, PROFILE, PROVIDER, usable } from "./support/host.mjs";
import { copyPackage, LOADED } from "./support/package-copy.mjs";

/** The operator's word, in the environment. */
describe("OAUTH_REFRESH_LOCK", () => {
  const CALLS = `
    const path = { stateDir: process.cwd() };
    const login = { access: "a", refresh: "r", expires: 1 };
    const calls = {
      withOAuthRefreshLock: ["p", "p:x", () => null, path],
      withOAuthProfileLock: ["p", "p:x", () => null, path],
      refreshOAuthToken: [{ tokenEndpoint: "https://127.0.0.1:9/", clientId: "c", refreshToken: "r" }],
      saveOAuthLogin: ["p", "p:x", login, path],
      removeOAuthLogin: ["p", "p:x", path],
      inspectOAuthRefreshLocks: [path],
    };
    const codes = {};
    const told = ({ name, code, message }) => name + " " + code + (message.includes("OAUTH_REFRESH_LOCK") ? " by its name" : "");
    for (const [name, given] of Object.entries(calls))
      codes[name] = await (async () => api[name](...given))().then(() => "done", told);
    console.log(JSON.stringify({ isAvailable: api.isAvailable(), codes, loaded: loaded.length }));
  `;

  /** A process where the operator has said that. */
  function said(word, { addon = true, program = CALLS } = {}) {
    const copy = copyPackage({ addon });
    const code = `${LOADED} const api = await import("oauth-refresh-lock"); ${program}`;
    const { stdout, stderr, status } = spawnSync(process.execPath, ["--input-type=module", "--eval", code], {
      cwd: dirname(dirname(copy)),
      encoding: "utf8",
      env: { ...process.env, OAUTH_REFRESH_LOCK: word },
    });
    return status === 0 ? JSON.parse(stdout) : { stderr };
  }

  test.each(["off", " OFF "])("%j: nothing is loaded, and every call says so", (word) => {
    const { isAvailable, codes, loaded } = said(word);
    expect({ isAvailable, loaded }).toEqual({ isAvailable: false, loaded: 0 });
    expect(Object.keys(codes)).toHaveLength(6);
    for (const [name, told] of Object.entries(codes))
      expect(told, name).toBe("OAuthRefreshLockError addon_unavailable by its name");
  });

  test.each(["auto", "", "require"])("%j: it works", (word) => {
    const { isAvailable, codes, loaded } = said(word);
    expect({ isAvailable, loaded }).toEqual({ isAvailable: true, loaded: 1 });
    expect(codes).toMatchObject({ withOAuthProfileLock: "done", saveOAuthLogin: "done" });
  });

  test("require: without an addon a program that imports it does not start; with auto it does", () => {
    expect(said("require", { addon: false }).stderr).toMatch(/addon_unavailable/);
    expect(said("auto", { addon: false })).toMatchObject({ isAvailable: false });
    expect(said("require", { program: "console.log(loaded.length)" })).toBe(1);
  });

  test("a word that it does not know is told, at the first call", () => {
    const { isAvailable, codes } = said("none");
    expect(isAvailable).toBe(false);
    expect(codes.withOAuthProfileLock).toBe("OAuthRefreshLockError invalid_argument by its name");
    const program = `
      const warnings = [];
      process.on("warning", ({ message }) => warnings.push(message));
      for (let times = 0; times < 3; times++) api.isAvailable();
      setImmediate(() => console.log(JSON.stringify(warnings)));
    `;
    expect(said("none", { program })).toEqual([expect.stringMatching(/OAUTH_REFRESH_LOCK must be "off"/)]);
  });
});

describe("directories come from the environment", () => {
  /** A process with this environment, and what it says of the key. */
  async function inEnvironment(env) {
    const agent = await startAgent({ env });
    const path = await agent.path();
    const call1 = agent.refresh();
    const [{ result, error }] = await call1.settled;
    expect(error).toBeUndefined();
    return { path, access: result?.credential.access };
  }

  test("OPENCLAW_STATE_DIR, HOME and the directories in them", async () => {
    const host = createHost();
    const at = (dir) => {
      const credential = usable();
      host.seed("template", credential);
      mkdirSync(join(dir, "agents", "main"), { recursive: true });
      renameSync(host.agentDir("template"), join(dir, "agents", "main", "agent"));
      return { path: resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir: dir }), access: credential.access };
    };
    const home = join(host.root, "home");
    const [state, oldHome] = [join(host.root, "state dir"), join(host.root, "old home")];
    const expected = {
      state: at(state),
      home: at(join(home, ".openclaw")),
      both: at(join(home, ".clawdbot")),
      old: at(join(oldHome, ".clawdbot")),
      openclawHome: at(join(host.root, "openclaw home", ".openclaw")),
    };
    expect(await inEnvironment({ OPENCLAW_STATE_DIR: state, HOME: home })).toEqual(expected.state);
    expect(await inEnvironment({ OPENCLAW_STATE_DIR: `  ${state}/.  `, HOME: home })).toEqual(expected.state);
    expect(await inEnvironment({ OPENCLAW_STATE_DIR: "~/../state dir", HOME: home })).toEqual(expected.state);
    expect(await inEnvironment({ OPENCLAW_STATE_DIR: " ", HOME: home })).toEqual(expected.home);
    expect(await inEnvironment({ OPENCLAW_STATE_DIR: "undefined", HOME: home })).toEqual(expected.home);
    expect(await inEnvironment({ HOME: oldHome })).toEqual(expected.old);
    expect(await inEnvironment({ HOME: "null", USERPROFILE: oldHome })).toEqual(expected.old);
    expect(await inEnvironment({ OPENCLAW_HOME: "~/../openclaw home", HOME: home })).toEqual(expected.openclawHome);
  });

  test("OPENCLAW_AGENT_DIR and PI_CODING_AGENT_DIR, of the main agent", async () => {
    const host = createHost({ main: usable(), one: usable(), two: usable() });
    const state = { OPENCLAW_STATE_DIR: host.stateDir };
    const accessOf = (agent) => JSON.parse(host.store(agent)).profiles[PROFILE].access;
    const path = resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir: host.stateDir });
    const [OPENCLAW_AGENT_DIR, PI_CODING_AGENT_DIR] = [host.agentDir("one"), host.agentDir("two")];
    const found = (env) => inEnvironment({ ...state, ...env });
    expect(await found({})).toEqual({ path, access: accessOf("main") });
    expect(await found({ OPENCLAW_AGENT_DIR, PI_CODING_AGENT_DIR })).toEqual({ path, access: accessOf("one") });
    expect(await found({ OPENCLAW_AGENT_DIR: "", PI_CODING_AGENT_DIR })).toEqual({ path, access: accessOf("two") });
  });

  test("as it is at each call", () => {
    onTestFinished(() => vi.unstubAllEnvs());
    const resolved = () => resolveOAuthRefreshLockPath(PROVIDER, PROFILE);
    const under = (stateDir) => resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir });
    vi.stubEnv("OPENCLAW_STATE_DIR", "/one");
    expect(resolved()).toBe(under("/one"));
    vi.stubEnv("OPENCLAW_STATE_DIR", "/two");
    expect(resolved()).toBe(under("/two"));
    for (const name of ["OPENCLAW_STATE_DIR", "OPENCLAW_HOME", "HOME", "USERPROFILE"]) vi.stubEnv(name, undefined);
    const homes = [".openclaw", ".clawdbot"].map((name) => under(join(homedir(), name)));
    expect(homes).toContain(resolved());
  });
});
