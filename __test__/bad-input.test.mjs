/** Arguments and results of the wrong kind: they are refused, and nothing is done. */
import { join } from "node:path";
import { inspect } from "node:util";
import { describe, expect, test, vi } from "vitest";
import {
  isSafeToCopyOAuthIdentity,
  resolveOAuthRefreshLockPath,
  shouldMirrorRefreshedOAuthCredential,
  withOAuthProfileLock,
  withOAuthRefreshLock,
} from "../index.mjs";
import { answering, refreshAs, rejection, typedRejection, unwanted } from "./support/calls.mjs";
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
import { token } from "./support/secrets.mjs";

/** Shows any value in a test's name. */
const shown = (values) => values.map((value) => [inspect(value, { breakLength: Number.POSITIVE_INFINITY }), value]);

const NOT_STRINGS = [undefined, null, 0, 1n, true, {}, [], ["acme"], Symbol("s"), () => "acme", new String("acme")];
const BLANK = ["", " ", "\t\n", "\ufeff", "\u00a0\u2028"];
const ILL_FORMED = ["\ud800", "acme\udfff", "\udc00\ud800"];
const NOT_PATHS = [null, 0, true, {}, [], "", "relative", "./relative", "../up", "~/home", "/nul\0byte", "/lone\ud800"];
/** Names that other files of ours have. */
const OUR_FILES = [
  ...["claims", "probe", `slot-${"a".repeat(16)}-2-0`],
  ...["t1", "journal", `claim-${"a".repeat(32)}`, `claim-${"a".repeat(32)}.record`].map((end) => `key.${end}`),
];
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
      ["lockPath", [...NOT_PATHS, ...OUR_FILES.map((name) => `/locks/${name}`)]],
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
      ["coordinatorKey", [null, 0, {}, "", [], [""], ["", ""], ["key", 5]]],
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
        () => shouldMirrorRefreshedOAuthCredential({ existing: {}, refreshed: value }),
      ]),
      ...[1, "text", []].map(
        (value) => () => shouldMirrorRefreshedOAuthCredential({ existing: value, refreshed: usable() }),
      ),
      () => shouldMirrorRefreshedOAuthCredential({ existing: null, refreshed: { type: "api_key" } }),
      () => shouldMirrorRefreshedOAuthCredential({ existing: null, refreshed: {} }),
      () => shouldMirrorRefreshedOAuthCredential(null),
      () => shouldMirrorRefreshedOAuthCredential({ existing: null, refreshed: usable(), mirror: true }),
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

describe("a thrown value that is no Error arrives in one", () => {
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
    const other = createHost({ main: expired({ expires: Date.now() + 60_000 }) });
    expect((await refreshAs(other, "main", () => Promise.reject(foreign))).refreshError).toBe(foreign);
  });
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
