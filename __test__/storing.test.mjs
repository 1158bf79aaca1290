import { chmodSync, mkdirSync, readlinkSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { isRefreshTokenReusedError, withOAuthRefreshLock } from "../index.mjs";
import { startAgent } from "./support/agents.mjs";
import { answering, held, listen, refreshAs, unwanted } from "./support/calls.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER, storeText, usable } from "./support/host.mjs";

describe("merging", () => {
  /** Refreshes a stored profile, given as JSON text. */
  async function refreshed(text, fields) {
    const host = createHost({ main: storeText(text) });
    const result = await refreshAs(host, "main", async () => fields);
    return { result, store: host.store("main") };
  }

  test("keeps the old refresh token where none is returned", async () => {
    for (const refresh of [undefined, null, "", "  "]) {
      const old = expired();
      const host = createHost({ main: old });
      const fields = answer({ refresh });
      const { credential } = await refreshAs(host, "main", async () => fields);
      expect(credential).toEqual({ ...old, ...fields, refresh: old.refresh });
      expect(host.store("main")).toBe(storeText({ ...old, access: fields.access, expires: fields.expires }));
    }
  });

  test("keeps fields that are not returned, known and unknown, and adds those that are", async () => {
    const old = expired({
      email: "o@x.test",
      accountId: "acct-1",
      projectId: "p",
      clientId: "c",
      idToken: "i",
      displayName: "Owner",
      managedBy: "somebody",
      nested: { list: [1, { deep: null }] },
    });
    const fields = answer({ idToken: "j", scope: ["a", "b"], nested: { other: true } });
    const { result, store } = await refreshed(old, fields);
    expect(result.credential).toEqual({ ...old, ...fields });
    expect(store).toBe(storeText({ ...old, ...fields }));
  });

  test("keeps the account of the login where the provider does not name one", async () => {
    const old = expired({ email: "o@x.test", accountId: "acct-1", projectId: "p", enterpriseUrl: "ghe.example.test" });
    const { access, refresh, expires } = answer();
    const nothing = { email: "", accountId: null, projectId: " ", enterpriseUrl: undefined };
    const { store } = await refreshed(old, { access, refresh, expires, ...nothing });
    expect(store).toBe(storeText({ ...old, access, refresh, expires }));
  });

  test.each(["9007199254740993", "1.50", "1.0", "-0", "1e400", "1E+2", "1E2", "1e-7"])(
    "keeps the spelling of %s",
    async (number) => {
      const spelled = (credential) =>
        JSON.stringify({ ...credential, quota: 0, list: [0] }, null, 2)
          .replaceAll("\n", "\n    ")
          .replace(`"quota": 0`, `"quota": ${number}`)
          .replace(/\b0(?=\s+])/, number);
      const old = expired();
      const fields = answer();
      const { store } = await refreshed(spelled(old), fields);
      expect(store).toBe(storeText(spelled({ ...old, ...fields })));
    },
  );

  test("counts nothing of the layout: what it has saved it can refresh again", async () => {
    const host = createHost({ main: expired() });
    // On one line 10 KB; at one element a line, as others lay it out, above the limit of 40 KiB.
    const entitlements = Array.from({ length: 5000 }, () => 1);
    for (const layout of [undefined, 2]) {
      const fields = answer({ entitlements });
      expect((await refreshAs(host, "main", answering(fields), { forceRefresh: true })).outcome).toBe("refreshed");
      expect(host.store("main")).toContain(JSON.stringify(entitlements));
      const written = JSON.parse(host.store("main")).profiles[PROFILE];
      host.seed("main", storeText(JSON.stringify(written, null, layout)));
    }
    const fields = answer();
    const { credential } = await refreshAs(host, "main", answering(fields), { forceRefresh: true });
    expect(credential).toMatchObject({ ...fields, entitlements });
  });

  test("keeps what is nested deeper than a parser goes", async () => {
    const host = createHost({ main: expired() });
    const deep = JSON.parse("[".repeat(1000) + "]".repeat(1000));
    for (const fields of [answer({ deep }), answer({ deep: [deep] }), answer()]) {
      const { outcome, notSaved } = await refreshAs(host, "main", answering(fields), { forceRefresh: true });
      expect({ outcome, notSaved }).toEqual({ outcome: "refreshed", notSaved: undefined });
    }
    expect(host.store("main")).toContain(`"deep": ${JSON.stringify([deep])}`);
  });

  test("adopting keeps the spelling of numbers too", async () => {
    const [old, mains] = [expired(), usable()];
    const spelled = (credential) =>
      storeText(JSON.stringify({ ...credential, quota: 0 }).replace(/0}$/, "9007199254740993}"));
    const host = createHost({ main: spelled(mains), sub: spelled(old) });
    expect((await refreshAs(host, "sub", unwanted())).outcome).toBe("adopted");
    expect(host.store("sub")).toContain(`"quota":9007199254740993`);
    expect(host.store("main")).toBe(spelled(mains));
  });

  test("makes the profile an OAuth one whatever is returned", async () => {
    const old = expired();
    const fields = answer();
    const { store } = await refreshed(old, { ...fields, type: "api_key" });
    expect(store).toBe(storeText({ ...old, ...fields }));
  });

  test("keeps a credential with text that is no valid Unicode", async () => {
    const old = expired();
    const fields = answer();
    // Half an emoji, as a name that was cut short has it.
    const { result, store } = await refreshed(old, { ...fields, displayName: "Owner \ud83d" });
    expect(result).toMatchObject({ outcome: "refreshed", credential: fields });
    expect(JSON.parse(store).profiles[PROFILE]).toMatchObject(fields);
  });

  test("takes a result that is no plain object for its JSON", async () => {
    class Tokens {
      constructor(fields) {
        Object.assign(this, fields);
      }
      toJSON() {
        return { ...this, from: "toJSON" };
      }
    }
    const old = expired();
    const fields = answer();
    const { store } = await refreshed(old, new Tokens(fields));
    expect(store).toBe(storeText({ ...old, ...fields, from: "toJSON" }));
  });

  test("a change that the function makes to its argument changes nothing", async () => {
    const old = expired({ displayName: "Owner" });
    const host = createHost({ main: old });
    const fields = answer();
    await refreshAs(host, "main", async (credential) => {
      for (const name of Object.keys(credential)) delete credential[name];
      return fields;
    });
    expect(host.store("main")).toBe(storeText({ ...old, ...fields }));
  });

  test("fields that changed in the store meanwhile stay changed", async () => {
    const old = expired({ displayName: "Old", note: "old" });
    const host = createHost({ main: old });
    const { refresh, called, answer: reply } = held();
    const result = refreshAs(host, "main", refresh);
    await called;
    const meanwhile = { ...old, displayName: "New" };
    host.seed("main", meanwhile);
    const fields = answer({ note: "new" });
    reply(fields);
    expect((await result).credential).toEqual({ ...meanwhile, ...fields });
    expect(host.store("main")).toBe(storeText({ ...meanwhile, ...fields }));
  });
});

describe("the store", () => {
  test("behind a chain of links stays where it is, with its links and modes", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const [path, elsewhere] = [host.storePath("main"), join(host.root, "elsewhere")];
    mkdirSync(elsewhere);
    renameSync(path, join(elsewhere, "real.json"));
    chmodSync(join(elsewhere, "real.json"), 0o640);
    symlinkSync("real.json", join(elsewhere, "link.json"));
    symlinkSync(join(elsewhere, "link.json"), path);
    const fields = answer();
    await refreshAs(host, "main", answering(fields));
    expect(host.store("main")).toBe(storeText({ ...old, ...fields }));
    expect(readlinkSync(path)).toBe(join(elsewhere, "link.json"));
    const tree = host.tree({ locks: false });
    expect(tree[join("elsewhere", "link.json")]).toBe("link to real.json");
    expect(tree[join("elsewhere", "real.json")]).toMatch(/^file 640 /);
  });

  test("gets no company: nothing else is left in the agent's directory", async () => {
    const host = createHost({ main: expired(), sub: expired() });
    const before = Object.keys(host.tree({ locks: false }));
    await refreshAs(host, "sub", answering());
    expect(Object.keys(host.tree({ locks: false }))).toEqual(before);
  });

  test("is rid of a temporary file that a death left behind", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const paths = Object.keys(host.tree({ locks: false }));
    writeFileSync(`${host.storePath("main")}.oauth-refresh-lock.tmp`, "left behind", { mode: 0o400 });
    const fields = answer();
    await refreshAs(host, "main", answering(fields));
    expect(host.store("main")).toBe(storeText({ ...old, ...fields }));
    expect(Object.keys(host.tree({ locks: false }))).toEqual(paths);
  });

  test("loses no profile when several are refreshed at once, here and in another process", async () => {
    const ids = Array.from({ length: 20 }, (_, number) => `acme:${number}`);
    const old = ids.map(() => expired());
    const text = (credentials) => {
      const profiles = Object.fromEntries(ids.map((id, number) => [id, credentials[number]]));
      return `${JSON.stringify({ version: 1, profiles, order: {} }, null, 2)}\n`;
    };
    const host = createHost({ main: text(old) });
    const agent = await startAgent();
    const here = ids.slice(0, 10).map((profileId) => ({ profileId, ...held() }));
    const there = ids.slice(10).map((profileId) => agent.refresh({ profileId, options: host.as("main") }));
    const results = here.map(({ profileId, refresh }) =>
      withOAuthRefreshLock(PROVIDER, profileId, refresh, host.as("main")),
    );
    await Promise.all([...here, ...there].map(({ called }) => called));
    const fields = ids.map(() => answer());
    for (const [number, { answer: reply }] of [...here, ...there].entries()) reply(fields[number]);
    await Promise.all([...results, ...there.map(({ settled }) => settled)]);
    expect(host.store("main")).toBe(text(old.map((credential, number) => ({ ...credential, ...fields[number] }))));
  });

  test("holds the new credential before anybody sees it", async () => {
    const old = expired();
    const host = createHost({ main: expired(), sub: old });
    const fields = answer();
    const seen = [];
    const log = listen();
    const look = (event) => seen.push([event.type, host.store("sub") === storeText({ ...old, ...fields })]);
    const result = refreshAs(host, "sub", async () => {
      look({ type: "called" });
      return fields;
    }).then((settled) => look({ type: settled.outcome }));
    await log.seen({ type: "refreshed" });
    look({ type: "told" });
    await result;
    expect(seen).toEqual([
      ["called", false],
      ["told", true],
      ["refreshed", true],
    ]);
  });
});

describe("isRefreshTokenReusedError", () => {
  test.each([
    ["OpenAI's code", new Error("400: refresh_token_reused")],
    ["in other case", new Error("Refresh Token Has Already Been Used.")],
    ["OpenAI's sentence", new Error("Your refresh token has already been used to generate a new access token.")],
    ["a message alone", "refresh_token_reused"],
    ["a code", Object.assign(new Error("failed"), { code: "refresh_token_reused" })],
    ["an OAuth error", { error: "invalid_grant", error_description: "refresh token has already been used" }],
    ["a cause", new Error("failed", { cause: new Error("http", { cause: "refresh_token_reused" }) })],
  ])("says yes to %s", (_, error) => {
    expect(isRefreshTokenReusedError(error)).toBe(true);
  });

  test.each([
    ["nothing", undefined],
    ["null", null],
    ["a number", 400],
    ["another refusal", new Error("invalid_grant")],
    ["an error without a message", new Error()],
    ["parts of it", new Error("refresh token reused; already been used")],
    ["an object that says nothing", { message: 7, code: {} }],
  ])("says no to %s", (_, error) => {
    expect(isRefreshTokenReusedError(error)).toBe(false);
  });

  test("comes to an end on an error that causes itself", () => {
    const error = new Error("failed");
    error.cause = error;
    expect(isRefreshTokenReusedError(error)).toBe(false);
  });
});
