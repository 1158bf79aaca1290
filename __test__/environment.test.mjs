import { mkdirSync, renameSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { resolveOAuthRefreshLockPath } from "../index.mjs";
import { startAgent } from "./support/agents.mjs";
import { createHost, PROFILE, PROVIDER, usable } from "./support/host.mjs";

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
