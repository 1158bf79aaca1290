import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { inspect } from "node:util";
import { describe, expect, test, vi } from "vitest";
import {
  isSafeToCopyOAuthIdentity,
  resolveOAuthRefreshLockPath,
  shouldMirrorRefreshedOAuthCredential,
  withOAuthProfileLock,
  withOAuthRefreshLock,
} from "../index.mjs";
import { startAgent } from "./support/agents.mjs";
import { refreshAs } from "./support/calls.mjs";
import {
  answer,
  createHost,
  expired,
  HOUR,
  PROFILE,
  PROVIDER,
  storeText,
  storeTextWithout,
  usable,
} from "./support/host.mjs";
import { copyPackage } from "./support/package-copy.mjs";
import { answering, unwanted } from "./support/refresh-functions.mjs";
import { rejection, typedRejection } from "./support/rejections.mjs";
import { token, toldBy } from "./support/secrets.mjs";

const NOBODY = 65_534;
const isRoot = process.getuid() === 0;

/** Shows any value in a test's name. */
const shown = (values) => values.map((value) => [inspect(value, { breakLength: Number.POSITIVE_INFINITY }), value]);

const NOT_STRINGS = [undefined, null, 0, 1n, true, {}, [], ["acme"], Symbol("s"), () => "acme", new String("acme")];
const BLANK = ["", " ", "\t\n", "\ufeff", "\u00a0\u2028"];
const ILL_FORMED = ["\ud800", "acme\udfff", "\udc00\ud800"];
const NOT_PATHS = [null, 0, true, {}, [], "", "relative", "./relative", "../up", "~/home", "/nul\0byte", "/lone\ud800"];
const NOT_DELAYS = [null, "5", 0, -1, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 2 ** 31, {}, 5n];

describe("an argument of the wrong kind is refused, and nothing is done", () => {
  /** Both calls, with one thing wrong. */
  function both(host, wrong) {
    const right = { provider: PROVIDER, profileId: PROFILE, fn: unwanted() };
    const { provider, profileId, fn, options } = { ...right, ...wrong };
    return {
      fn,
      calls: [
        () => withOAuthRefreshLock(provider, profileId, fn, options ?? host.as("main")),
        () => withOAuthProfileLock(provider, profileId, fn, options ?? { stateDir: host.stateDir }),
      ],
    };
  }

  async function expectRefused(makeCalls, says) {
    const host = createHost({ main: expired() });
    const before = host.tree();
    const { fn, calls } = makeCalls(host);
    for (const start of calls) {
      // A rejection, not an exception: `start` itself does not throw.
      const error = await typedRejection(start(), "invalid_argument");
      expect(error.message).toMatch(says);
    }
    if (typeof fn === "function") expect(fn).not.toHaveBeenCalled();
    expect(host.tree()).toEqual(before);
  }

  test.each(shown([...NOT_STRINGS, ...BLANK, ...ILL_FORMED, "a\0b"]))("provider %s", async (_, provider) => {
    await expectRefused((host) => both(host, { provider }), /^provider must/);
  });

  test.each(shown([...NOT_STRINGS, ...BLANK, ...ILL_FORMED]))("profile id %s", async (_, profileId) => {
    await expectRefused((host) => both(host, { profileId }), /^profileId must/);
  });

  test.each(shown([null, "fn", {}, [], 1, Promise.resolve()]))("function %s", async (_, fn) => {
    await expectRefused((host) => both(host, { fn }), /^(refresh|fn) must/);
  });

  test.each(shown([null, 0, "options", true, Symbol("s")]))("options %s", async (_, options) => {
    await expectRefused(
      (host) => ({
        calls: [withOAuthRefreshLock, withOAuthProfileLock].map(
          (called) => () => called(PROVIDER, PROFILE, unwanted(), options),
        ),
        host,
      }),
      /^options must/,
    );
  });

  test("no arguments", async () => {
    await typedRejection(withOAuthRefreshLock(), "invalid_argument");
    await typedRejection(withOAuthProfileLock(), "invalid_argument");
  });

  test.each(
    [
      ["stateDir", NOT_PATHS],
      ["lockPath", NOT_PATHS],
      ["signal", [null, "abort", {}, { aborted: false }, new AbortController()]],
      ["timeoutMs", NOT_DELAYS],
    ].flatMap(([name, values]) => shown(values).map(([text, value]) => [name, text, value])),
  )("option %s: %s", async (name, _, value) => {
    const says = new RegExp(`^${name} must`);
    await expectRefused((host) => both(host, { options: { stateDir: host.stateDir, [name]: value } }), says);
  });

  test.each(
    [
      ["agentDir", NOT_PATHS],
      ["mainAgentDir", NOT_PATHS],
      ["callTimeoutMs", [...NOT_DELAYS, 120_001]],
      ["refreshMarginMs", [null, "5", -1, Number.NaN, Number.POSITIVE_INFINITY, {}, 5n]],
      ["forceRefresh", [null, 0, 1, "true", {}]],
      ["rejectedAccess", [null, 0, {}, ...BLANK]],
    ].flatMap(([name, values]) => shown(values).map(([text, value]) => [name, text, value])),
  )("option %s: %s", async (name, _, value) => {
    const host = createHost({ main: expired() });
    const before = host.tree();
    const refresh = unwanted();
    const error = await typedRejection(refreshAs(host, "main", refresh, { [name]: value }), "invalid_argument");
    expect(error.message).toMatch(new RegExp(`^${name} must`));
    expect(refresh).not.toHaveBeenCalled();
    expect(host.tree()).toEqual(before);
  });

  test("a refused value is not quoted", async () => {
    const secret = token("misplaced");
    const wrong = [
      withOAuthRefreshLock(`${secret}\0`, PROFILE, unwanted()),
      withOAuthRefreshLock(PROVIDER, `${secret}\ud800`, unwanted()),
      withOAuthRefreshLock(PROVIDER, PROFILE, secret),
      withOAuthRefreshLock(PROVIDER, PROFILE, unwanted(), secret),
      withOAuthRefreshLock(PROVIDER, PROFILE, unwanted(), { stateDir: secret }),
      withOAuthRefreshLock(PROVIDER, PROFILE, unwanted(), { timeoutMs: secret }),
      withOAuthRefreshLock(PROVIDER, PROFILE, unwanted(), { signal: secret }),
      withOAuthRefreshLock(PROVIDER, PROFILE, unwanted(), { rejectedAccess: [secret] }),
    ];
    for (const promise of wrong) await typedRejection(promise, "invalid_argument");
  });

  test("of the functions that answer at once, too", async () => {
    const calls = [
      ...NOT_STRINGS.flatMap((value) => [
        () => resolveOAuthRefreshLockPath(value, PROFILE),
        () => resolveOAuthRefreshLockPath(PROVIDER, value),
      ]),
      ...NOT_PATHS.map((stateDir) => () => resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir })),
      ...[null, "options", 1].map((options) => () => resolveOAuthRefreshLockPath(PROVIDER, PROFILE, options)),
      ...[undefined, null, 1, "text", [], { self: 1n }].flatMap((value) => [
        () => isSafeToCopyOAuthIdentity(value, {}),
        () => isSafeToCopyOAuthIdentity({}, value),
        () => shouldMirrorRefreshedOAuthCredential({}, value),
      ]),
      ...[1, "text", []].map((value) => () => shouldMirrorRefreshedOAuthCredential(value, usable())),
      () => shouldMirrorRefreshedOAuthCredential(null, { type: "api_key" }),
      () => shouldMirrorRefreshedOAuthCredential(null, {}),
    ];
    for (const start of calls) await typedRejection((async () => start())(), "invalid_argument");
  });
});

describe("a directory that is missing means no such profile, and is not created", () => {
  test.each([
    ["the agent's", (host) => ({ agentDir: join(host.root, "no", "such") })],
    ["main's", (host) => ({ mainAgentDir: join(host.root, "no", "such") })],
    ["both agents'", (host) => ({ agentDir: join(host.root, "none"), mainAgentDir: join(host.root, "no", "such") })],
    ["the state", (host) => ({ stateDir: join(host.root, "no", "such"), agentDir: undefined })],
  ])("%s", async (_, options) => {
    const host = createHost();
    const before = host.tree();
    const refresh = unwanted();
    expect(await refreshAs(host, "main", refresh, options(host))).toBeNull();
    expect(refresh).not.toHaveBeenCalled();
    expect(host.tree()).toEqual(before);
  });
});

describe("an odd profile id is an id like any other", () => {
  test.each(["__proto__", "constructor", "toString", "a/../../b", "..", "0", "a\0b", "\u202eevil", "x".repeat(4_000)])(
    "%j",
    async (profileId) => {
      const old = expired();
      const host = createHost();
      const ask = (refresh) => withOAuthRefreshLock(PROVIDER, profileId, refresh, host.as("main"));
      expect(await ask(unwanted())).toBeNull();
      host.seed("main", storeTextWithout());
      expect(await ask(unwanted())).toBeNull();
      host.seed("main", storeText(old, profileId));
      const fields = answer();
      expect(await ask(answering(fields))).toEqual({ outcome: "refreshed", credential: { ...old, ...fields } });
      expect(host.store("main")).toBe(storeText({ ...old, ...fields }, profileId));
      expect(await ask(unwanted())).toEqual({ outcome: "fresh", credential: { ...old, ...fields } });
      expect({}.access).toBeUndefined();
      expect(await withOAuthProfileLock(PROVIDER, profileId, () => "locked", { stateDir: host.stateDir })).toBe(
        "locked",
      );
    },
  );
});

describe("a result of the refresh function that is no credential is refused, and nothing is stored", () => {
  const throwing = () => {
    throw new Error(token("getter"));
  };

  const NO_CREDENTIALS = [
    ["nothing in it", () => ({})],
    ["an array", () => [answer()]],
    ["text", () => token("bare")],
    ["empty text", () => ""],
    ["a number", () => 1],
    ["zero", () => 0],
    ["false", () => false],
    ["a symbol", () => Symbol(token("symbol"))],
    ["a function", () => () => answer()],
    ["a big integer", () => 1n],
    ["no access token", () => answer({ access: undefined })],
    ["access token null", () => answer({ access: null })],
    ["a blank access token", () => answer({ access: " \ufeff" })],
    ["an access token that is no text", () => answer({ access: 7 })],
    ["an access token that is an object", () => ({ access_token: { is: token("nested") }, expires_in: 60 })],
    ["an access token that is no Unicode", () => answer({ access: `${token("torn")}\ud83d` })],
    ["an access token that was no UTF-8", () => answer({ access: `${token("torn")}\ufffd` })],
    ["a refresh token that is no text", () => answer({ refresh: { is: token("nested") } })],
    ["a refresh token that is a number", () => ({ access_token: token("access"), refresh_token: 7 })],
    ["a refresh token that is no Unicode", () => answer({ refresh: `${token("torn")}\udc00` })],
    ["tokens that nobody can read", () => Object.defineProperty({}, "access", { enumerable: true, get: throwing })],
    [
      "what nobody can look into",
      () => new Proxy({}, { ownKeys: throwing, get: (_, name) => (name === "then" ? undefined : throwing()) }),
    ],
    ["a page", () => new Response("<html>Sorry</html>")],
    ["an expiry in the past", () => answer({ expires: Date.now() - 1 })],
    ["expiry zero", () => answer({ expires: 0 })],
    ["a negative expiry", () => answer({ expires: -Date.now() - HOUR })],
    ["a toJSON that says nothing", () => ({ toJSON: () => undefined })],
  ];

  test.each(NO_CREDENTIALS)("%s", async (_, result) => {
    const stores = { main: expired(), sub: expired() };
    const host = createHost(stores);
    const before = host.tree({ locks: false });
    await typedRejection(
      refreshAs(host, "sub", async () => result()),
      "invalid_refresh_result",
    );
    expect(host.tree({ locks: false })).toEqual(before);
    // The lock is free again.
    expect(await withOAuthProfileLock(PROVIDER, PROFILE, () => "free", { stateDir: host.stateDir })).toBe("free");
  });

  const ACCOUNT = { accountId: "acct-1", email: "o@x.test", projectId: "p", enterpriseUrl: "ghe.example.test" };
  test.each([
    ["another account's", { accountId: "acct-2" }],
    ["another member's", { email: "m@x.test" }],
    ["an account that is no text", { accountId: 1 }],
    ["another tenant's", { enterpriseUrl: "github.com" }],
    ["another project's", { projectId: "q" }],
    ["another provider's", { provider: "other" }],
    ["of a provider that is no text", { provider: 1 }],
  ])("a credential that is %s", async (_, fields) => {
    const host = createHost({ main: expired(ACCOUNT), sub: expired(ACCOUNT) });
    const before = host.tree({ locks: false });
    await typedRejection(
      refreshAs(host, "sub", async () => answer(fields)),
      "identity_mismatch",
    );
    expect(host.tree({ locks: false })).toEqual(before);
  });

  test("a tenant that comes out of nowhere", async () => {
    const host = createHost({ main: expired() });
    const before = host.tree({ locks: false });
    await typedRejection(
      refreshAs(host, "main", async () => answer({ enterpriseUrl: "ghe.example.test" })),
      "identity_mismatch",
    );
    expect(host.tree({ locks: false })).toEqual(before);
  });
});

describe("what a refresh function throws that is no Error arrives in one", () => {
  test.each(
    shown([
      undefined,
      null,
      "text",
      "",
      0,
      false,
      Symbol("s"),
      { error: "invalid_grant" },
      Object.create(null),
      [],
      1n,
    ]),
  )("%s", async (_, thrown) => {
    const throwing = () => {
      throw thrown;
    };
    for (const refresh of [throwing, () => Promise.reject(thrown)]) {
      const host = createHost({ main: expired() });
      const before = host.tree({ locks: false });
      const error = await typedRejection(refreshAs(host, "main", refresh), "refresh_threw_non_error");
      expect(error.cause).toBe(thrown);
      expect(host.tree({ locks: false })).toEqual(before);
    }
  });

  test("without telling it", async () => {
    const host = createHost({ main: expired() });
    const thrown = token("thrown");
    const error = await typedRejection(
      refreshAs(host, "main", () => Promise.reject(thrown)),
      "refresh_threw_non_error",
    );
    expect(error.cause).toBe(thrown);
  });

  test("an Error of another realm is an Error", async () => {
    const host = createHost({ main: expired() });
    const { runInNewContext } = await import("node:vm");
    const foreign = runInNewContext(`new TypeError("from elsewhere")`);
    expect(foreign).not.toBeInstanceOf(Error);
    expect(await rejection(refreshAs(host, "main", () => Promise.reject(foreign)))).toBe(foreign);
  });
});

/** How a store can be bad, and what is said then. `undefined` stands for no store. */
const BAD_STORES = [
  ["is empty", "store_invalid", ""],
  ["is blank", "store_invalid", " \n"],
  ["is torn", "store_invalid", () => storeText(expired()).slice(0, 500)],
  ["is torn at the end", "store_invalid", () => storeText(expired()).slice(0, -3)],
  ["is no JSON", "store_invalid", () => `profiles: ${token("yaml")}`],
  ["is followed by garbage", "store_invalid", () => `${storeText(expired())}${token("garbage")}`],
  ["is an array", "store_invalid", () => JSON.stringify([expired()])],
  ["is text", "store_invalid", () => JSON.stringify(token("json-text"))],
  ["is a number", "store_invalid", "1"],
  ["is null", "store_invalid", "null"],
  ["has an array for profiles", "store_invalid", () => JSON.stringify({ profiles: [expired()] })],
  ["has null for profiles", "store_invalid", `{"profiles": null}`],
  ["has text for the profile", "store_invalid", () => storeText(JSON.stringify(token("profile")))],
  ["has null for the profile", "store_invalid", () => storeText("null")],
  ["has an array for the profile", "store_invalid", () => storeText(JSON.stringify([expired()]))],
  [
    "is no UTF-8",
    "store_invalid",
    (path) => writeFileSync(path, Buffer.from(storeText(expired({ displayName: "\u00e9" })), "latin1")),
  ],
  ["is 100 MB long", "store_too_large", (path) => truncateSync(path, 100_000_000)],
  ["is a directory", "store_unreadable", (path) => replaced(path, () => mkdirSync(path))],
  ["is a loop of links", "store_unreadable", (path) => replaced(path, () => symlinkSync(path, path))],
  [
    "is a long loop of links",
    "store_unreadable",
    (path) =>
      replaced(path, () => {
        symlinkSync(`${path}.1`, path);
        symlinkSync(`${path}.2`, `${path}.1`);
        symlinkSync(path, `${path}.2`);
      }),
  ],
  ["is a pipe", "store_unreadable", (path) => replaced(path, () => expect(spawnSync("mkfifo", [path]).status).toBe(0))],
  ["is a device", "store_unreadable", (path) => replaced(path, () => symlinkSync("/dev/null", path))],
  [
    "lies in a file",
    "store_unreadable",
    (path) => {
      rmSync(dirname(path), { recursive: true });
      writeFileSync(dirname(path), "no directory");
    },
  ],
  [
    "belongs to another user",
    "store_unreadable",
    (path) => (isRoot ? chownSync(path, NOBODY, NOBODY) : replaced(path, () => symlinkSync("/etc/passwd", path))),
  ],
  ["has SQLite beside it", "sqlite_store", (path) => writeFileSync(join(dirname(path), "openclaw-agent.sqlite"), "")],
];

function replaced(path, replace) {
  rmSync(path);
  replace();
}

/** Writes a bad store in place of the agent's, which is in order and expired. */
function spoil(host, agent, bad) {
  const text = typeof bad === "function" ? bad(host.storePath(agent)) : bad;
  if (typeof text === "string") host.seed(agent, text);
}

describe("a store is refused, with the reason, and nothing is changed", () => {
  async function expectRefused(host, code, agent, where) {
    const before = host.tree({ locks: false });
    const refresh = unwanted();
    const error = await typedRejection(refreshAs(host, agent, refresh), code);
    expect(error.path).toBe(where);
    expect(error.message).toContain(where);
    expect(refresh).not.toHaveBeenCalled();
    expect(host.tree({ locks: false })).toEqual(before);
    expect(await withOAuthProfileLock(PROVIDER, PROFILE, () => "free", { stateDir: host.stateDir })).toBe("free");
  }

  const concerned = (host, agent, code) =>
    code === "sqlite_store" ? join(host.agentDir(agent), "openclaw-agent.sqlite") : host.storePath(agent);

  test.each(BAD_STORES)("if the main agent's %s: %s", async (_, code, bad) => {
    const host = createHost({ main: expired() });
    spoil(host, "main", bad);
    await expectRefused(host, code, "main", concerned(host, "main", code));
  });

  test.each(BAD_STORES)("if a sub-agent's %s: %s", async (_, code, bad) => {
    const host = createHost({ main: usable(), sub: expired() });
    spoil(host, "sub", bad);
    await expectRefused(host, code, "sub", concerned(host, "sub", code));
  });

  // Before the provider is asked: peers that read main would replay the token that we spend.
  test.each(BAD_STORES)("if main's %s when a sub-agent would refresh: %s", async (_, code, bad) => {
    const host = createHost({ main: expired(), sub: expired() });
    spoil(host, "main", bad);
    await expectRefused(host, code, "sub", concerned(host, "main", code));
  });

  test.each(BAD_STORES)("if main's %s when a sub-agent would inherit: %s", async (_, code, bad) => {
    const host = createHost({ main: expired(), sub: storeTextWithout() });
    spoil(host, "main", bad);
    await expectRefused(host, code, "sub", concerned(host, "main", code));
  });

  test("if the whole state is of the SQLite era, store or no store", async () => {
    for (const stores of [{}, { main: expired() }, { main: usable() }]) {
      const host = createHost(stores);
      const database = join(host.stateDir, "state", "openclaw.sqlite");
      mkdirSync(dirname(database));
      writeFileSync(database, "");
      await expectRefused(host, "sqlite_store", "main", database);
    }
  });

  test("if the profile in it is another provider's than the call says", async () => {
    for (const credential of [
      expired({ provider: "other" }),
      usable({ provider: "other" }),
      usable({ provider: undefined }),
    ]) {
      const host = createHost({ main: credential });
      await expectRefused(host, "provider_mismatch", "main", host.storePath("main"));
    }
  });

  test("if the inherited profile is another provider's than the call says", async () => {
    const host = createHost({ main: usable({ provider: "other" }), sub: storeTextWithout() });
    await expectRefused(host, "provider_mismatch", "sub", host.storePath("main"));
  });

  test("if this user may not read it", async () => {
    const host = createHost({ main: expired() });
    chmodSync(host.storePath("main"), 0);
    if (!isRoot) {
      await expectRefused(host, "store_unreadable", "main", host.storePath("main"));
      return;
    }
    // Root may read anything, so somebody else has to try.
    for (const path of Object.keys(host.tree())) chownSync(join(host.root, path), NOBODY, NOBODY);
    chownSync(host.root, NOBODY, NOBODY);
    const before = host.tree();
    const agent = await startAgent({
      uid: NOBODY,
      script: join(copyPackage({ tests: true }), "__test__", "support", "agent.mjs"),
    });
    const asked = agent.refresh({ options: host.as("main") });
    const [{ error }] = await asked.settled;
    expect(error).toMatchObject({
      name: "OAuthRefreshLockError",
      code: "store_unreadable",
      path: host.storePath("main"),
    });
    expect(asked.calls).toEqual([]);
    expect(host.tree()).toEqual(before);
  });
});

describe("a store that is not there is none", () => {
  test.each([
    ["a dangling link", (path) => symlinkSync(join(dirname(path), "nothing"), path)],
    [
      "a dangling chain of links",
      (path) => {
        symlinkSync(`${path}.1`, path);
        symlinkSync(`${path}.2`, `${path}.1`);
      },
    ],
  ])("%s", async (_, link) => {
    const host = createHost({ main: expired(), sub: expired() });
    replaced(host.storePath("main"), () => link(host.storePath("main")));
    const before = host.tree();
    expect(await refreshAs(host, "main", unwanted())).toBeNull();
    expect(host.tree()).toEqual(before);
  });
});

describe("a lock file that cannot be used is told, and the provider is not asked", () => {
  test.each([
    ["is a directory", (path) => mkdirSync(path, { recursive: true })],
    [
      "is a link",
      (path) => {
        mkdirSync(dirname(path), { recursive: true });
        writeFileSync(`${path}.real`, "");
        symlinkSync(`${path}.real`, path);
      },
    ],
    [
      "is a pipe",
      (path) => {
        mkdirSync(dirname(path), { recursive: true });
        expect(spawnSync("mkfifo", [path]).status).toBe(0);
      },
    ],
    [
      "has a file for its directory",
      (path) => {
        mkdirSync(dirname(dirname(path)), { recursive: true });
        writeFileSync(dirname(path), "");
      },
    ],
  ])("%s", async (_, obstruct) => {
    const host = createHost({ main: expired() });
    const path = resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir: host.stateDir });
    obstruct(path);
    const before = host.tree();
    const fn = unwanted();
    for (const start of [
      () => refreshAs(host, "main", fn),
      () => withOAuthProfileLock(PROVIDER, PROFILE, fn, { stateDir: host.stateDir }),
    ]) {
      const error = await typedRejection(start(), "lock_unavailable");
      expect([path, dirname(path)]).toContain(error.path);
      expect(error.message).toContain(error.path);
    }
    expect(fn).not.toHaveBeenCalled();
    expect(host.tree()).toEqual(before);
  });
});

test("a store that cannot be written after all is told, without the token", async () => {
  const old = expired();
  const host = createHost({ main: old });
  const fields = answer();
  const refresh = () => {
    host.block("main");
    return fields;
  };
  const { outcome, credential, notSaved } = await refreshAs(host, "main", refresh);
  expect({ outcome, credential }).toEqual({ outcome: "refreshed", credential: { ...old, ...fields } });
  expect(notSaved).toEqual({ code: "store_unwritable", message: expect.stringContaining(host.storePath("main")) });
  expect(toldBy(new Error(notSaved.message))).toEqual([]);
  expect(host.store("main")).toBe(storeText(old));
});

test("a profile id that no journal has room for is refused, and nobody is asked", async () => {
  const old = expired();
  for (const [id, code] of [
    ["x".repeat(12_000), undefined],
    ["\u0001".repeat(12_000), "invalid_argument"],
    ["x".repeat(200_000), "invalid_argument"],
  ]) {
    const host = createHost({ main: storeText(old, id) });
    const refresh = vi.fn(async () => answer());
    const call = () => withOAuthRefreshLock(PROVIDER, id, refresh, host.as("main", { forceRefresh: true }));
    // The second is as the first: what the first has left takes no room from it.
    for (const _ of [1, 2]) expect((await call().catch((error) => error)).code).toBe(code);
    expect(refresh).toHaveBeenCalledTimes(code ? 0 : 2);
  }
});

test("the helper that looks for secrets finds them", () => {
  const secret = token("found");
  const hidden = new Error("nothing");
  Object.defineProperty(hidden, "hidden", { value: { deep: [secret] } });
  for (const error of [new Error(`a ${secret}`), Object.assign(new Error(), { secret }), hidden]) {
    expect(toldBy(error)).toEqual([secret]);
  }
  expect(toldBy(new Error("nothing", { cause: secret }))).toEqual([]);
});
