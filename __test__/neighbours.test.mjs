/** Other programs' newer tokens of the same account, which a client uses in place of a refresh, and never touches. */
import { chmodSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { createOAuthClient } from "../index.mjs";
import { answering, listen, typedRejection, unwanted } from "./support/calls.mjs";
import { createHost, expired, HOUR, MINUTE, PROFILE, PROVIDER, storeText } from "./support/host.mjs";
import { startResource } from "./support/resource-server.mjs";
import { toldIn } from "./support/secrets.mjs";
import { at, jwt, startServer } from "./support/token-server.mjs";

const OPENAI = "https://api.openai.com/auth";
const CLAIMS = {
  iss: "https://auth.openai.com",
  sub: "user|1",
  aud: ["https://api.openai.com/v1"],
  [OPENAI]: { chatgpt_account_id: "workspace-1" },
};
/** A token of this account that is good for so long; with other claims if given. */
const tokenFor = (ms, claims) => jwt({ ...CLAIMS, exp: Math.floor((Date.now() + ms) / 1000), ...claims });
const login = (fields) => expired({ access: tokenFor(-HOUR), ...fields });
const codexText = (access, more) =>
  JSON.stringify({
    OPENAI_API_KEY: null,
    tokens: { id_token: "", access_token: access, refresh_token: "theirs", account_id: "workspace-1", ...more },
    last_refresh: "2026-01-01T00:00:00Z",
  });

/** A host with this login, and a home in which other programs keep theirs. */
function setUp({ stored = login(), refresh = answering(), adoptFrom = ["codex", "opencode"], ...options } = {}) {
  const host = createHost({ main: stored });
  const home = join(host.root, "home");
  vi.stubEnv("HOME", home);
  for (const name of ["CODEX_HOME", "CLAUDE_CONFIG_DIR", "XDG_DATA_HOME"]) vi.stubEnv(name, undefined);
  onTestFinished(() => vi.unstubAllEnvs());
  const another = () =>
    createOAuthClient({
      provider: PROVIDER,
      profileId: PROFILE,
      refresh,
      adoptFrom,
      ...host.as("main"),
      ...options,
    });
  const client = another();
  const put = (text, file = ".codex/auth.json") => {
    const path = join(home, file);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  return { host, client, another, refresh, stored, put };
}

describe("a newer token is used in place of a refresh, nothing is asked or stored, and its file is only read:", () => {
  const elsewhere = { CODEX_HOME: "elsewhere/codex", XDG_DATA_HOME: "elsewhere/data" };
  const opencode = (access) => ({
    anthropic: { type: "oauth", access: "opaque", refresh: "theirs", expires: Date.now() + HOUR },
    other: { type: "api", key: "k" },
    openai: { type: "oauth", access, refresh: "theirs", expires: Date.now() + HOUR, accountId: "workspace-1" },
  });
  test.each([
    ["Codex's", ".codex/auth.json", codexText, {}],
    ["Codex's at CODEX_HOME", "elsewhere/codex/auth.json", codexText, elsewhere],
    ["opencode's", ".local/share/opencode/auth.json", (access) => JSON.stringify(opencode(access)), {}],
    [
      "opencode's at XDG_DATA_HOME",
      "elsewhere/data/opencode/auth.json",
      (access) => JSON.stringify(opencode(access)),
      elsewhere,
    ],
  ])("%s", async (_, file, text, env) => {
    const { host, client, refresh, stored, put } = setUp();
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, join(host.root, "home", value));
    const theirs = tokenFor(HOUR);
    const path = put(text(theirs), file);
    const before = [readFileSync(path, "utf8"), statSync(path).mtimeMs];
    const given = await Promise.all(Array.from({ length: 50 }, () => client.token()));
    expect(new Set(given)).toEqual(new Set([theirs]));
    expect(await client.headers()).toEqual({ authorization: `Bearer ${theirs}` });
    expect(refresh).not.toHaveBeenCalled();
    expect(host.store("main")).toBe(storeText(stored));
    expect([readFileSync(path, "utf8"), statSync(path).mtimeMs]).toEqual(before);
    // Theirs for now, ours for the next refresh.
    const { refresh: ours, expires } = await client.credential();
    expect(ours).toBe(stored.refresh);
    expect(expires).toBeGreaterThan(Date.now());
  });

  test("a file of the host's choice", async () => {
    const theirs = tokenFor(HOUR);
    const read = ({ mine }) => [{ access: mine }, { access: 1 }, null];
    const host = createHost();
    const path = join(host.root, "theirs.json");
    writeFileSync(path, JSON.stringify({ mine: theirs }), { mode: 0o600 });
    const { client, refresh } = setUp({ adoptFrom: [{ path, read }] });
    expect(await client.token()).toBe(theirs);
    expect(refresh).not.toHaveBeenCalled();
  });

  test("for a token endpoint", async () => {
    const server = await startServer();
    const { client, another, put, stored } = setUp({ refresh: at(server) });
    const theirs = tokenFor(HOUR);
    const path = put(codexText(theirs));
    expect(await client.token()).toBe(theirs);
    expect(server.requests).toEqual([]);
    // And once they have none, we ask with what is stored.
    rmSync(path);
    const other = another();
    const given = await Promise.all(Array.from({ length: 20 }, () => other.token()));
    expect(new Set(given).size).toBe(1);
    expect(server.presented).toEqual([stored.refresh]);
  });

  test("behind a caller that has a good token, too", async () => {
    const stored = login({ access: tokenFor(2 * MINUTE), expires: Date.now() + 2 * MINUTE });
    const onError = vi.fn();
    const { client, put, refresh } = setUp({ stored, onError });
    const log = listen();
    put(codexText(tokenFor(HOUR)));
    expect(await client.token()).toBe(stored.access);
    await log.seen({ type: "failed", code: "neighbour_token" });
    for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
    expect(onError).not.toHaveBeenCalled();
    expect(refresh).not.toHaveBeenCalled();
    expect(toldIn(JSON.stringify(log.events))).toEqual([]);
  });

  test("for a caller whose own is about to expire", async () => {
    const stored = login({ access: tokenFor(5_000), expires: Date.now() + 5_000 });
    const { client, put, refresh } = setUp({ stored });
    const theirs = tokenFor(HOUR);
    put(codexText(theirs));
    expect(await client.token()).toBe(theirs);
    expect(refresh).not.toHaveBeenCalled();
  });
});

describe("what is no newer token of the same account is ignored, and we refresh:", () => {
  const good = () => tokenFor(HOUR);
  test.each([
    ["another user's", () => codexText(tokenFor(HOUR, { sub: "user|2" }))],
    ["another issuer's", () => codexText(tokenFor(HOUR, { iss: "https://auth.example.test" }))],
    ["another audience's", () => codexText(tokenFor(HOUR, { aud: "https://api.example.test" }))],
    ["another workspace's", () => codexText(tokenFor(HOUR, { [OPENAI]: { chatgpt_account_id: "workspace-2" } }))],
    ["one without a user", () => codexText(tokenFor(HOUR, { sub: undefined }))],
    ["an opaque one", () => codexText("opaque")],
    ["one that has expired", () => codexText(tokenFor(-MINUTE))],
    ["one that expires within a minute", () => codexText(tokenFor(MINUTE - 5_000))],
    ["one without an expiry", () => codexText(tokenFor(HOUR, { exp: undefined }))],
    ["a file that is cut off", () => codexText(good()).slice(0, -5)],
    ["an empty file", () => ""],
    ["a file of API keys", () => JSON.stringify({ OPENAI_API_KEY: "k" })],
    ["JSON that is no object", () => "null"],
    ["a file that is too large", () => codexText(good()) + " ".repeat(1 << 20)],
  ])("%s", async (_, text) => {
    const { client, refresh, stored, put } = setUp();
    put(text());
    const { access } = await refresh();
    refresh.mockClear();
    expect(await client.token()).toBe(access);
    expect(refresh.mock.calls.map(([{ refresh }]) => refresh)).toEqual([stored.refresh]);
  });

  test("an older one than ours that is still good", async () => {
    const stored = login({ access: tokenFor(3 * HOUR), expires: Date.now() + 3 * HOUR });
    const { client, refresh, put } = setUp({ stored, refreshMarginMs: 4 * HOUR });
    put(codexText(tokenFor(2 * HOUR)));
    const log = listen();
    expect(await client.token()).toBe(stored.access);
    await log.seen({ type: "refreshed" });
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test("one of a login that says nothing of its account", async () => {
    const { client, refresh, put } = setUp({ stored: expired({ accountId: "workspace-1" }) });
    put(codexText(good()));
    await client.token();
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test.skipIf(process.platform === "win32")("a file that others may write", async () => {
    const { client, refresh, put } = setUp();
    chmodSync(put(codexText(good())), 0o622);
    await client.token();
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test("what can't be read", async () => {
    const host = createHost();
    const read = vi.fn(() => {
      throw new Error("of the host's");
    });
    const { client, refresh, put } = setUp({
      adoptFrom: ["codex", { path: host.root, read }, { path: join(host.root, "none"), read }],
    });
    put("{}");
    await client.token();
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(read).not.toHaveBeenCalled();
  });
});

describe("Claude Code's, whose tokens say nothing:", () => {
  const ids = { accountId: "account-1", organizationUuid: "organization-1" };
  const stored = expired({ access: "sk-ant-oat01-ours", ...ids });
  const theirs = "sk-ant-oat01-theirs";
  const text = (fields) =>
    JSON.stringify({
      claudeAiOauth: {
        accessToken: theirs,
        refreshToken: "theirs",
        expiresAt: Date.now() + HOUR,
        accountUuid: ids.accountId,
        organizationUuid: ids.organizationUuid,
        ...fields,
      },
    });
  const claude = (more) => setUp({ stored, adoptFrom: ["claude-code"], ...more });

  test.each([
    [".claude/.credentials.json", undefined],
    ["elsewhere/.credentials.json", "elsewhere"],
  ])("of the same account and organization, from %s, which is only read", async (file, directory) => {
    const { host, client, refresh, put } = claude();
    if (directory) vi.stubEnv("CLAUDE_CONFIG_DIR", join(host.root, "home", directory));
    const path = put(text(), file);
    const before = [readFileSync(path, "utf8"), statSync(path).mtimeMs];
    const given = await Promise.all(Array.from({ length: 20 }, () => client.token()));
    expect(new Set(given)).toEqual(new Set([theirs]));
    expect(refresh).not.toHaveBeenCalled();
    expect(host.store("main")).toBe(storeText(stored));
    expect([readFileSync(path, "utf8"), statSync(path).mtimeMs]).toEqual(before);
  });

  test.each([
    ["another account's", text({ accountUuid: "account-2" })],
    ["another organization's", text({ organizationUuid: "organization-2" })],
    ["one of an older release, which names no account", text({ accountUuid: undefined, organizationUuid: undefined })],
    ["one that has expired", text({ expiresAt: Date.now() - MINUTE })],
    ["one without an expiry", text({ expiresAt: undefined })],
    ["one of another kind", text({ accessToken: "opaque" })],
    ["a file that is cut off", text().slice(0, -5)],
    ["a file of other logins", JSON.stringify({ mcpOAuth: {} })],
  ])("%s is ignored, and we refresh", async (_, text) => {
    const { client, refresh, put } = claude();
    put(text, ".claude/.credentials.json");
    await client.token();
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test.each([
    ["an account", { organizationUuid: ids.organizationUuid }],
    ["an organization", { accountId: ids.accountId }],
    ["a token of Anthropic's", { ...ids, access: tokenFor(-HOUR) }],
  ])("a login without %s uses none", async (_, fields) => {
    const { client, refresh, put } = claude({ stored: expired({ access: "sk-ant-oat01-ours", ...fields }) });
    put(text(), ".claude/.credentials.json");
    await client.token();
    expect(refresh).toHaveBeenCalledTimes(1);
  });
});

test("a good token of our own is used, whatever others have", async () => {
  const stored = login({ access: tokenFor(HOUR), expires: Date.now() + HOUR });
  const { client, put } = setUp({ stored, refresh: unwanted() });
  put(codexText(tokenFor(2 * HOUR)));
  expect(await client.token()).toBe(stored.access);
});

test("a token of theirs that a server refuses is replaced by a refresh", async () => {
  const resource = await startResource();
  const { client, put, refresh } = setUp();
  const theirs = tokenFor(HOUR);
  put(codexText(theirs));
  resource.revoke(theirs);
  expect((await client.fetch(resource.url)).status).toBe(200);
  expect(refresh).toHaveBeenCalledTimes(1);
});

test("after a logout theirs is used by nobody, at the latest after five seconds", async () => {
  const { client, another, host, put } = setUp({ refresh: unwanted() });
  put(codexText(tokenFor(HOUR)));
  await client.token();
  host.seed("main", JSON.stringify({ version: 1, profiles: {} }));
  await typedRejection(another().token(), "no_login");
  const later = performance.now() + 5_001;
  const now = vi.spyOn(performance, "now").mockImplementation(() => later);
  onTestFinished(() => now.mockRestore());
  await typedRejection(client.token(), "no_login");
});

test("while theirs is used, most callers take no lock", async () => {
  const { client, put } = setUp({ refresh: unwanted() });
  const theirs = tokenFor(HOUR);
  put(codexText(theirs));
  await client.token();
  const log = listen();
  for (let caller = 0; caller < 20; caller++) expect(await client.token()).toBe(theirs);
  expect(log.types()).toEqual([]);
});

test("a host's classify is not asked about it, and can't end the login by it", async () => {
  const classify = vi.fn(() => "answered_dead");
  const { client, another, put, refresh } = setUp({ classify });
  const path = put(codexText(tokenFor(HOUR)));
  await client.token();
  expect(classify).not.toHaveBeenCalled();
  rmSync(path);
  await another().token();
  expect(refresh).toHaveBeenCalledTimes(1);
});

test.each([
  ["an array", "codex"],
  ["codex, claude-code, opencode", ["claude"]],
  ["codex, claude-code, opencode", ["toString"]],
  ["path", [{ path: "relative", read: () => [] }]],
  ["read", [{ path: "/file" }]],
])("what makes no sense is refused: %s", async (named, adoptFrom) => {
  const error = await typedRejection((async () => setUp({ adoptFrom }))(), "invalid_argument");
  expect(error.message).toContain(named);
});
