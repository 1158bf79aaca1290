/** What is mistyped is refused, in words that name what was likely meant, and does nothing. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  inspectOAuthRefreshLocks,
  keepOAuthFresh,
  refreshOAuthToken,
  resolveOAuthRefreshLockPath,
  withOAuthProfileLock,
  withOAuthRefreshLock,
} from "../index.mjs";
import { cliJson } from "./cli/cli.mjs";
import { answering, refreshAs, typedRejection, unwanted } from "./support/calls.mjs";
import { createHost, expired, PROFILE, PROVIDER, usable } from "./support/host.mjs";
import { memoryStore } from "./support/host-stores.mjs";
import { token } from "./support/secrets.mjs";

/** What it is refused with, whether it throws or rejects. */
const refusal = async (call) => (await typedRejection((async () => call())(), "invalid_argument")).message;

describe("an option that there is not", () => {
  const ENDPOINT = { tokenEndpoint: "http://127.0.0.1:9/token" };
  const kept = (members) => ({
    profiles: [{ provider: PROVIDER, profileId: PROFILE, ...members }],
    refresh: unwanted(),
  });
  /** [what is called, how, what it says] */
  const CASES = [
    [
      "withOAuthRefreshLock",
      (host) => refreshAs(host, "main", unwanted(), { timeoutMS: 5 }),
      '"timeoutMS"; did you mean "timeoutMs"?',
    ],
    ["the same", (host) => refreshAs(host, "main", unwanted(), { mainDir: "/x" }), 'options has no member "mainDir"'],
    [
      "the same",
      (host) => refreshAs(host, "main", unwanted(), { force_refresh: true }),
      'did you mean "forceRefresh"?',
    ],
    ["the same", (host) => refreshAs(host, "main", unwanted(), { margin: 1 }), 'did you mean "refreshMarginMs"?'],
    [
      "the same",
      (host) => refreshAs(host, "main", unwanted(), { somethingElse: undefined }),
      'no member "somethingElse"',
    ],
    [
      "withOAuthProfileLock",
      ({ stateDir }) => withOAuthProfileLock(PROVIDER, PROFILE, unwanted(), { stateDir, timeout: 5 }),
      'did you mean "timeoutMs"?',
    ],
    [
      "resolveOAuthRefreshLockPath",
      () => resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { statedir: "/s" }),
      '"stateDir"',
    ],
    ["inspectOAuthRefreshLocks", () => inspectOAuthRefreshLocks({ dir: "/s" }), 'options has no member "dir"'],
    ["keepOAuthFresh", () => keepOAuthFresh({ ...kept(), jitter: 1 }), 'did you mean "jitterMs"?'],
    [
      "a kept profile",
      () => keepOAuthFresh(kept({ agentdir: "/a" })),
      'profile has no member "agentdir"; did you mean "agentDir"?',
    ],
    [
      "a request",
      (host) => refreshAs(host, "main", { ...ENDPOINT, clientid: "c" }, { timeoutMs: 50 }),
      'refresh has no member "clientid"; did you mean "clientId"?',
    ],
    [
      "refreshOAuthToken",
      () => refreshOAuthToken({ ...ENDPOINT, refreshToken: "r", scopes: "s" }),
      'did you mean "scope"?',
    ],
    [
      "its options",
      () => refreshOAuthToken({ ...ENDPOINT, refreshToken: "r" }, { timeout: 5 }),
      'did you mean "timeoutMs"?',
    ],
    [
      "a store",
      ({ stateDir }) => {
        const { compareAndSwap, ...store } = memoryStore("own");
        return withOAuthRefreshLock(PROVIDER, PROFILE, unwanted(), {
          stateDir,
          store: { ...store, compareandswap: compareAndSwap },
        });
      },
      'store has no member "compareandswap"; did you mean "compareAndSwap"?',
    ],
  ];

  test.each(CASES)("of %s: %#", async (_, call, says) => {
    const host = createHost({ main: expired() });
    const before = host.tree();
    expect(await refusal(() => call(host))).toContain(says);
    expect(host.tree()).toEqual(before);
  });

  test("of a name that is no name of ours is shown by its beginning, and without what it holds", async () => {
    const secret = token("access");
    const host = createHost({ main: expired() });
    const said = await refusal(() => refreshAs(host, "main", unwanted(), { [`${"x".repeat(100)}`]: secret }));
    expect(said).toBe(`options has no member "${"x".repeat(40)}"`);
  });

  test("one object of options may serve every call on a profile", async () => {
    const host = createHost({ main: usable() });
    const options = host.as("main", { forceRefresh: false, mainAgentDir: host.agentDir("main") });
    expect((await withOAuthRefreshLock(PROVIDER, PROFILE, unwanted(), options)).outcome).toBe("fresh");
    expect(await withOAuthProfileLock(PROVIDER, PROFILE, () => "held", options)).toBe("held");
    const lockPath = resolveOAuthRefreshLockPath(PROVIDER, PROFILE, options);
    expect((await inspectOAuthRefreshLocks(options)).map((report) => report.lockPath)).toEqual([lockPath]);
  });

  test("a store may have members of its own", async () => {
    const { stateDir } = createHost();
    const store = { ...memoryStore("own", usable()), rows: [], loader: 1, loads: 1 };
    expect((await withOAuthRefreshLock(PROVIDER, PROFILE, unwanted(), { stateDir, store })).outcome).toBe("fresh");
  });
});

describe("arguments that are swapped", () => {
  const CASES = [
    [
      "provider and profile id",
      (fn, options) => [PROFILE, PROVIDER, fn, options],
      /^provider and profileId seem to be swapped/,
    ],
    [
      "function and options",
      (fn, options) => [PROVIDER, PROFILE, options, fn],
      /must come before options; they seem to be swapped/,
    ],
    ["options in the function's place", (_, options) => [PROVIDER, PROFILE, options], /must come before options/],
  ];

  test.each(CASES)("%s", async (_, arrange, says) => {
    const host = createHost({ main: expired() });
    const before = host.tree();
    const fn = unwanted();
    expect(await refusal(() => withOAuthRefreshLock(...arrange(fn, host.as("main"))))).toMatch(says);
    expect(await refusal(() => withOAuthProfileLock(...arrange(fn, { stateDir: host.stateDir })))).toMatch(says);
    expect(fn).not.toHaveBeenCalled();
    expect(host.tree()).toEqual(before);
  });

  test("of a kept profile", async () => {
    const profiles = [{ provider: PROFILE, profileId: PROVIDER }];
    expect(await refusal(() => keepOAuthFresh({ profiles, refresh: unwanted() }))).toMatch(/seem to be swapped/);
  });

  test("a profile id without its provider's name is none of them", async () => {
    const host = createHost();
    host.seed("main", JSON.stringify({ version: 1, profiles: { default: usable() } }));
    expect((await withOAuthRefreshLock(PROVIDER, "default", unwanted(), host.as("main"))).outcome).toBe("fresh");
  });
});

describe("a login that is stored wrong is not taken for none", () => {
  const { access, refresh } = expired();
  /** [what is wrong, the profile, the error's code, what it says] */
  const CASES = [
    ["no type", expired({ type: undefined }), "store_invalid", 'has no `type`; an OAuth login has "type": "oauth"'],
    ["another spelling of the type", usable({ type: "OAuth" }), "store_invalid", "has a `type` that is not spelled"],
    ["a number behind the type", usable({ type: "oauth2" }), "store_invalid", "has a `type` that is not spelled"],
    ["no provider", usable({ provider: undefined }), "provider_mismatch", "has no `provider`"],
    [
      "the provider's raw answer",
      { type: "oauth", provider: PROVIDER, access_token: access, refresh_token: refresh, expires_in: 3600 },
      "store_invalid",
      "holds a token answer as the provider gave it",
    ],
    ["the same without a type", { provider: PROVIDER, access_token: access }, "store_invalid", "has no `type`"],
  ];

  test.each(CASES)("%s", async (_, profile, code, says) => {
    const text = JSON.stringify({ version: 1, profiles: { [PROFILE]: profile } });
    const host = createHost({ main: text });
    const { message, path } = await typedRejection(refreshAs(host, "main", unwanted()), code);
    expect(message).toContain(`the profile "${PROFILE}" ${says}`);
    expect(path).toBe(host.storePath("main"));
    expect(host.store("main")).toBe(text);
    // A sub-agent that inherits it is told the same.
    host.seed("sub", JSON.stringify({ version: 1, profiles: {} }));
    await typedRejection(refreshAs(host, "sub", unwanted()), code);
    const { status, findings } = cliJson(["doctor", "--state-dir", host.stateDir]);
    expect(status).toBe(1);
    expect(findings).toContainEqual(
      expect.objectContaining({ code: "store_invalid", path, meaning: expect.stringContaining(says) }),
    );
  });

  test("profiles at the top level", async () => {
    const host = createHost({
      main: JSON.stringify({ version: 1, [PROFILE]: expired(), "acme:key": { type: "api_key" } }),
    });
    const says = "stands at the top level of the store; profiles belong inside `profiles`";
    expect((await typedRejection(refreshAs(host, "main", unwanted()), "store_invalid")).message).toContain(says);
    expect(await withOAuthRefreshLock(PROVIDER, "acme:key", unwanted(), host.as("main"))).toBe(null);
    const { findings } = cliJson(["doctor", "--state-dir", host.stateDir]);
    expect(findings).toEqual([
      expect.objectContaining({ level: "error", code: "store_invalid", meaning: `The profile ${PROFILE} ${says}.` }),
    ]);
  });

  test("in main's store it is left alone, and keeps no sub-agent from its own login", async () => {
    const wrong = JSON.stringify({ version: 1, profiles: { [PROFILE]: expired({ type: "OAuth" }) } });
    const host = createHost({ main: wrong, sub: expired() });
    const { outcome, mirror } = await refreshAs(host, "sub", answering());
    expect({ outcome, mirror }).toEqual({
      outcome: "refreshed",
      mirror: { written: false, reason: "non-oauth-existing-credential" },
    });
    expect(host.store("main")).toBe(wrong);
  });

  test("a profile that is no OAuth login counts as none", async () => {
    for (const profile of [
      { type: "api_key", provider: PROVIDER, key: "k" },
      { mode: "api_key", provider: PROVIDER, apiKey: "k" },
      { type: "token", provider: PROVIDER, token: "t" },
      { provider: PROVIDER, key: "k" },
      { type: "aws-sdk", provider: PROVIDER },
    ]) {
      const host = createHost({ main: JSON.stringify({ version: 1, profiles: { [PROFILE]: profile } }) });
      expect(await refreshAs(host, "main", unwanted())).toBe(null);
    }
    for (const empty of ["{}", '{"version":1}', '{"version":1,"profiles":{}}']) {
      const host = createHost({ main: empty });
      expect(await refreshAs(host, "main", unwanted())).toBe(null);
    }
  });

  test("a login without a refresh token is a finding", () => {
    const host = createHost({ main: usable({ refresh: undefined }) });
    const { status, findings } = cliJson(["doctor", "--state-dir", host.stateDir]);
    expect(status).toBe(0);
    expect(findings.map(({ code }) => code)).toEqual(["no_refresh_token"]);
  });
});

describe("an agent's directory without a state directory", () => {
  const call = (options) => withOAuthRefreshLock(PROVIDER, PROFILE, answering(), options);

  test.for(["agentDir", "mainAgentDir"])("%s is refused where there is no OpenClaw, and makes none", async (name) => {
    const host = createHost({ main: expired() });
    const before = host.tree();
    const home = join(host.root, "home");
    await inHome(home, async () => {
      const error = await typedRejection(call({ [name]: host.agentDir("main") }), "invalid_argument");
      expect(error.message).toMatch(/without stateDir.*give stateDir as well/);
      expect(error.path).toBe(join(home, ".openclaw"));
    });
    expect(host.tree()).toEqual(before);
  });

  test("is for OpenClaw to give: where its state directory is, or one is named", async () => {
    const host = createHost({ main: expired() });
    const home = join(host.root, "home");
    mkdirSync(join(home, ".openclaw"), { recursive: true, mode: 0o700 });
    await inHome(home, async () => {
      expect((await call({ agentDir: host.agentDir("main") })).outcome).toBe("refreshed");
    });
    const other = createHost({ main: expired() });
    await inHome(join(host.root, "nobody"), async () => {
      process.env.OPENCLAW_STATE_DIR = other.stateDir;
      expect((await call({ agentDir: other.agentDir("main") })).outcome).toBe("refreshed");
    });
  });
});

/** Runs with this home and nothing of OpenClaw's in the environment. */
async function inHome(home, run) {
  const names = ["HOME", "OPENCLAW_STATE_DIR", "OPENCLAW_HOME", "OPENCLAW_AGENT_DIR", "PI_CODING_AGENT_DIR"];
  const before = names.map((name) => [name, process.env[name]]);
  for (const name of names) delete process.env[name];
  process.env.HOME = home;
  try {
    return await run();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}
