import { mkdirSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { shouldMirrorRefreshedOAuthCredential, withOAuthRefreshLock } from "../index.mjs";
import { answering, held, listen } from "./support/calls.mjs";
import {
  answer,
  createHost,
  expired,
  HOUR,
  MINUTE,
  PROFILE,
  PROVIDER,
  storeText,
  storeTextWithout,
  usable,
} from "./support/host.mjs";
import { toldBy } from "./support/secrets.mjs";

const LAST_DATE = 8.64e15;
const ACCOUNT = { accountId: "acct-1", email: "owner@example.test" };

describe("the decision", () => {
  const login = { type: "oauth", provider: "acme", access: "a", refresh: "r", expires: 2_000 };
  const older = { ...login, expires: 1_000 };

  test.each([
    ["there is none", null, login, "no-existing-credential"],
    ["there is none (undefined)", undefined, login, "no-existing-credential"],
    ["it is an API key", { type: "api_key", provider: "acme", key: "k" }, login, "non-oauth-existing-credential"],
    ["it is a token", { type: "token", provider: "acme", token: "t" }, login, "non-oauth-existing-credential"],
    ["it has no type", { provider: "acme" }, login, "non-oauth-existing-credential"],
    ["it is another provider's", { ...older, provider: "other" }, login, "provider-mismatch"],
    ["its provider is spelled differently", { ...older, provider: "Acme" }, login, "provider-mismatch"],
    ["it is another tenant's", { ...older, enterpriseUrl: "ghe.example.test" }, login, "tenant-mismatch"],
    ["the new one is a tenant's", older, { ...login, enterpriseUrl: "ghe.example.test" }, "tenant-mismatch"],
    ["its project changes", { ...older, projectId: "p" }, { ...login, projectId: "q" }, "tenant-mismatch"],
    ["its project is dropped", { ...older, projectId: "p" }, login, "tenant-mismatch"],
    [
      "it is another account's",
      { ...older, accountId: "a" },
      { ...login, accountId: "b" },
      "identity-mismatch-or-regression",
    ],
    ["it says more", { ...older, ...ACCOUNT }, { ...login, email: ACCOUNT.email }, "identity-mismatch-or-regression"],
    ["the new expiry is no number", older, { ...login, expires: "2000" }, "invalid-incoming-expiry"],
    ["the new expiry is NaN", older, { ...login, expires: Number.NaN }, "invalid-incoming-expiry"],
    ["the new expiry is no date", older, { ...login, expires: LAST_DATE + 1 }, "invalid-incoming-expiry"],
    ["the new expiry is missing", older, { ...login, expires: undefined }, "invalid-incoming-expiry"],
    ["it lives longer", { ...login, expires: 2_001 }, login, "incoming-not-fresher"],
    ["it lives as long", login, login, "incoming-not-fresher"],
    ["it lives until the last date", { ...login, expires: LAST_DATE }, login, "incoming-not-fresher"],
    ["it expires earlier", older, login, "incoming-fresher"],
    ["its expiry is missing", { ...login, expires: undefined }, login, "incoming-fresher"],
    ["its expiry is NaN", { ...login, expires: Number.NaN }, login, "incoming-fresher"],
    ["its expiry is no date", { ...login, expires: LAST_DATE + 1 }, login, "incoming-fresher"],
    ["its expiry is no number", { ...login, expires: "9e12" }, login, "incoming-fresher"],
    ["it says nothing, the new one does", older, { ...login, ...ACCOUNT }, "incoming-fresher"],
    [
      "the tenant is spelled differently",
      { ...older, enterpriseUrl: "HTTPS://GHE.example.test/" },
      { ...login, enterpriseUrl: "ghe.example.test" },
      "incoming-fresher",
    ],
    ["a project is added", older, { ...login, projectId: "p" }, "incoming-fresher"],
    ["it is of the older spelling", { ...older, type: undefined, mode: "oauth" }, login, "incoming-fresher"],
  ])("when %s", (_, existing, refreshed, reason) => {
    const mirror = reason === "incoming-fresher" || reason === "no-existing-credential";
    expect(shouldMirrorRefreshedOAuthCredential({ existing, refreshed })).toEqual({ shouldMirror: mirror, reason });
  });

  // Each row would also be refused, or decided otherwise, by every row after it.
  test.each([
    ["non-oauth-existing-credential", { type: "api_key", provider: "other" }],
    ["provider-mismatch", { provider: "other", enterpriseUrl: "x", accountId: "x" }],
    ["tenant-mismatch", { enterpriseUrl: "x", accountId: "x" }],
    ["identity-mismatch-or-regression", { accountId: "x" }],
    ["invalid-incoming-expiry", {}],
  ])("%s comes before what comes after it", (reason, fields) => {
    const existing = { ...login, expires: LAST_DATE, ...fields };
    expect(
      shouldMirrorRefreshedOAuthCredential({ existing, refreshed: { ...login, expires: Number.NaN } }).reason,
    ).toBe(reason);
  });
});

/** A sub-agent refreshes; what becomes of main. */
async function refreshBySubAgent(host, refresh, options) {
  const log = listen();
  const result = await withOAuthRefreshLock(PROVIDER, PROFILE, refresh, host.as("sub", options));
  expect(refresh).toHaveBeenCalledTimes(1);
  const type = result.mirror.written ? "mirrored" : "refused";
  expect(log.types()).toEqual(["acquired", "dispatched", "refreshed", type]);
  const [{ reason, agentDir }] = log.matching({ type });
  expect({ reason, agentDir }).toEqual({ reason: result.mirror.reason, agentDir: host.agentDir("sub") });
  return result;
}

describe("a sub-agent's refresh is taken by main", () => {
  test("when main holds the same login, expired", async () => {
    const old = expired(ACCOUNT);
    const main = expired({ ...ACCOUNT, displayName: "Main's", expires: old.expires });
    const host = createHost({ main, sub: old });
    const fields = answer();
    const result = await refreshBySubAgent(host, answering(fields));
    expect(result).toEqual({
      outcome: "refreshed",
      credential: { ...old, ...fields },
      mirror: { written: true, reason: "incoming-fresher" },
    });
    expect(host.store("sub")).toBe(storeText({ ...old, ...fields }));
    expect(host.store("main")).toBe(storeText({ ...main, ...fields }));
  });

  test("when main has no such profile", async () => {
    const old = expired(ACCOUNT);
    const host = createHost({ main: storeTextWithout(), sub: old });
    const fields = answer();
    const { mirror } = await refreshBySubAgent(host, answering(fields));
    expect(mirror).toEqual({ written: true, reason: "no-existing-credential" });
    const added = JSON.stringify({ ...old, ...fields }, null, 2).replaceAll("\n", "\n    ");
    const last = `"token": "twice" }`;
    expect(host.store("main")).toBe(storeTextWithout().replace(last, `${last},\n    "${PROFILE}": ${added}`));
  });

  test("when main has no store, in a directory that is private", async () => {
    const old = expired();
    const host = createHost({ sub: old });
    const fields = answer();
    const { mirror } = await refreshBySubAgent(host, answering(fields));
    expect(mirror).toEqual({ written: true, reason: "no-existing-credential" });
    const store = { version: 1, profiles: { [PROFILE]: { ...old, ...fields } } };
    expect(host.store("main")).toBe(`${JSON.stringify(store, null, 2)}\n`);
    const { [join("state", "agents", "main", "agent")]: directory } = host.tree();
    expect(directory).toBe("directory 700");
    expect(host.tree()[join("state", "agents", "main", "agent", "auth-profiles.json")]).toMatch(/^file 600 /);
  });
});

describe("a sub-agent's refresh leaves main's file byte-identical", () => {
  test.each([
    [
      "main holds an API key under that id",
      "non-oauth-existing-credential",
      {},
      () => storeText({ type: "api_key", provider: PROVIDER, key: "kept" }),
    ],
    ["main's login is another provider's", "provider-mismatch", {}, () => expired({ provider: "other" })],
    [
      "main's login is another account's",
      "identity-mismatch-or-regression",
      ACCOUNT,
      () => expired({ ...ACCOUNT, accountId: "acct-2" }),
    ],
    [
      "main's login is another member's",
      "identity-mismatch-or-regression",
      ACCOUNT,
      () => expired({ ...ACCOUNT, email: "member@example.test" }),
    ],
    ["main's login says who it is and ours does not", "identity-mismatch-or-regression", {}, () => expired(ACCOUNT)],
    [
      "main's login is another tenant's",
      "tenant-mismatch",
      { enterpriseUrl: "github.com" },
      () => expired({ enterpriseUrl: "ghe.example.test" }),
    ],
    ["only main's login is a tenant's", "tenant-mismatch", {}, () => expired({ enterpriseUrl: "ghe.example.test" })],
    ["main's login is another project's", "tenant-mismatch", { projectId: "p" }, () => expired({ projectId: "q" })],
    // Fresher, but nothing that could have been adopted.
    [
      "main's login is fresher but blank",
      "incoming-not-fresher",
      {},
      () => usable({ access: " ", expires: Date.now() + 2 * HOUR }),
    ],
  ])("when %s", async (_, reason, ours, mains) => {
    const old = expired(ours);
    const host = createHost({ main: mains(), sub: old });
    const before = host.store("main");
    const fields = answer();
    const result = await refreshBySubAgent(host, answering(fields));
    expect(result.mirror).toEqual({ written: false, reason });
    expect(result.credential).toEqual({ ...old, ...fields });
    expect(host.store("main")).toBe(before);
    expect(host.store("sub")).toBe(storeText({ ...old, ...fields }));
  });

  test("when main becomes fresher while the provider answers", async () => {
    const old = expired();
    const host = createHost({ main: expired(), sub: old });
    const call = held();
    const result = refreshBySubAgent(host, call.refresh);
    await call.called;
    host.seed("main", usable({ expires: Date.now() + 2 * HOUR }));
    const before = host.store("main");
    const fields = answer();
    call.answer(fields);
    expect((await result).mirror).toEqual({ written: false, reason: "incoming-not-fresher" });
    expect(host.store("main")).toBe(before);
    expect(host.store("sub")).toBe(storeText({ ...old, ...fields }));
  });

  test("when main becomes another account's while the provider answers", async () => {
    const host = createHost({ main: expired(ACCOUNT), sub: expired(ACCOUNT) });
    const call = held();
    const result = refreshBySubAgent(host, call.refresh);
    await call.called;
    host.seed("main", expired({ ...ACCOUNT, accountId: "acct-2" }));
    const before = host.store("main");
    call.answer(answer());
    expect((await result).mirror).toEqual({ written: false, reason: "identity-mismatch-or-regression" });
    expect(host.store("main")).toBe(before);
  });
});

describe("the main agent never mirrors to itself", () => {
  test.each([
    ["by its directory", (host) => host.as("main")],
    ["by default", (host) => ({ stateDir: host.stateDir })],
    [
      "by a directory that is named as main's",
      (host) => ({ ...host.as("elsewhere"), mainAgentDir: host.agentDir("elsewhere") }),
    ],
    ["by a link to its directory", (host) => linked(host, "main")],
    ["by a link to its directory's parent", (host) => linked(host, ".")],
    [
      "when main's directory is a link to its own",
      (host) => ({ ...host.as("main"), mainAgentDir: linked(host, "main").agentDir }),
    ],
  ])("%s", async (_, optionsOf) => {
    const old = expired();
    const host = createHost({ main: old, elsewhere: old });
    const options = optionsOf(host);
    const log = listen();
    const fields = answer();
    const result = await withOAuthRefreshLock(PROVIDER, PROFILE, answering(fields), options);
    expect(result).toEqual({ outcome: "refreshed", credential: { ...old, ...fields } });
    expect(log.types()).toEqual(["acquired", "dispatched", "refreshed"]);
    const written = options.agentDir?.includes("elsewhere") ? ["elsewhere", "main"] : ["main", "elsewhere"];
    expect(written.map((agent) => host.store(agent))).toEqual([storeText({ ...old, ...fields }), storeText(old)]);
  });
});

/** A call by the agent whose directory is main's, by another name. */
function linked(host, what) {
  const link = join(host.root, "link");
  symlinkSync(join(host.stateDir, "agents", what), link);
  return { stateDir: host.stateDir, agentDir: what === "." ? join(link, "main", "agent") : join(link, "agent") };
}

describe("a mirror that fails is reported, and the credential is durable", () => {
  test.each([
    ["main's store has become a directory", "store_unreadable", (path) => mkdirSync(path)],
    ["main's store has become a loop of links", "store_unreadable", (path) => symlinkSync(path, path)],
    [
      "main's directory has become a file",
      "store_unreadable",
      (path) => {
        rmSync(dirname(path), { recursive: true });
        symlinkSync("/dev/null", dirname(path));
      },
    ],
    [
      "main's store leads to where nothing can be written",
      "store_vanished",
      (path) => symlinkSync("/proc/no such directory/store", path),
    ],
  ])("when %s", async (_, code, spoil) => {
    const old = expired();
    const host = createHost({ main: expired(), sub: old });
    const call = held();
    const refreshed = refreshBySubAgent(host, call.refresh);
    await call.called;
    rmSync(host.storePath("main"));
    spoil(host.storePath("main"));
    const fields = answer();
    call.answer(fields);
    const { outcome, credential, mirror } = await refreshed;
    expect({ outcome, credential }).toEqual({ outcome: "refreshed", credential: { ...old, ...fields } });
    expect(mirror).toEqual({ written: false, reason: "store-error", error: { code, message: expect.any(String) } });
    expect(mirror.error.message).toContain(host.storePath("main"));
    expect(toldBy(new Error(mirror.error.message))).toEqual([]);
    expect(host.store("sub")).toBe(storeText({ ...old, ...fields }));
    // And is found there.
    const again = await withOAuthRefreshLock(PROVIDER, PROFILE, answering(), host.as("sub"));
    expect(again).toEqual({ outcome: "fresh", credential: { ...old, ...fields } });
  });

  test("when main's store is torn meanwhile", async () => {
    const old = expired();
    const host = createHost({ main: expired(), sub: old });
    const call = held();
    const refreshed = refreshBySubAgent(host, call.refresh);
    await call.called;
    const torn = storeText(expired()).slice(0, -20);
    host.seed("main", torn);
    call.answer(answer({ expires: Date.now() + 10 * MINUTE }));
    expect((await refreshed).mirror).toMatchObject({
      written: false,
      reason: "store-error",
      error: { code: "store_invalid" },
    });
    expect(host.store("main")).toBe(torn);
  });
});
