import { chmodSync, mkdirSync, readlinkSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { isRefreshTokenReusedError, resolveOAuthRefreshLockPath, withOAuthRefreshLock } from "../index.mjs";
import { holdLock, startAgent } from "./support/agents.mjs";
import { stopClock } from "./support/clock.mjs";
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
import { listen } from "./support/listen.mjs";
import { answering, held, unwanted } from "./support/refresh-functions.mjs";
import { rejection, typedRejection } from "./support/rejections.mjs";
import { toldBy } from "./support/secrets.mjs";

const CALLERS = 100;

const call = (host, agent, refresh, options) =>
  withOAuthRefreshLock(PROVIDER, PROFILE, refresh, host.as(agent, options));

describe("the outcome is", () => {
  test("fresh: the stored credential was usable, and nothing was touched, no lock file either", async () => {
    const stored = usable();
    const host = createHost({ main: stored });
    const before = host.tree();
    const log = listen();
    const refresh = unwanted();
    expect(await call(host, "main", refresh)).toEqual({ outcome: "fresh", credential: stored });
    expect(refresh).not.toHaveBeenCalled();
    expect(log.types()).toEqual(["fresh"]);
    expect(host.tree()).toEqual(before);
  });

  test("refreshed: the provider was asked, with the credential as it is stored", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const log = listen();
    const refresh = answering(answer());
    const fields = await refresh();
    refresh.mockClear();
    const result = await call(host, "main", refresh);
    expect(result).toEqual({ outcome: "refreshed", credential: { ...old, ...fields } });
    expect(refresh.mock.calls).toEqual([[old, { signal: expect.any(AbortSignal) }]]);
    expect(log.types()).toEqual(["acquired", "dispatched", "refreshed"]);
    expect(host.store("main")).toBe(storeText({ ...old, ...fields }));
  });

  test("that of the next caller: fresh", async () => {
    const host = createHost({ main: expired() });
    const { credential } = await call(host, "main", answering());
    expect(await call(host, "main", unwanted())).toEqual({ outcome: "fresh", credential });
  });

  test.each([
    ["there is no store", {}],
    ["the store lacks the profile", { sub: storeTextWithout() }],
    ["neither store has the profile", { main: storeTextWithout(), sub: storeTextWithout() }],
    ["the profile is an API key", { sub: storeText({ type: "api_key", provider: PROVIDER, key: "k" }) }],
    ["the profile is a token", { sub: storeText({ type: "token", provider: PROVIDER, token: "t" }) }],
    ["the profile has no type", { sub: storeText({ provider: PROVIDER, access: "a", refresh: "r" }) }],
    ["main's profile is an API key", { main: storeText({ type: "api_key", provider: PROVIDER, key: "k" }) }],
    ["the profile is an API key, whatever main has", { main: usable(), sub: storeText({ type: "api_key", key: "k" }) }],
    ["the store has no profiles", { sub: `{"version": 1}` }],
  ])("null: %s", async (_, stores) => {
    const host = createHost(stores);
    const before = host.tree();
    const refresh = unwanted();
    expect(await call(host, "sub", refresh)).toBeNull();
    expect(refresh).not.toHaveBeenCalled();
    expect(host.tree()).toEqual(before);
  });

  test.each([
    ["null", null],
    ["undefined", undefined],
  ])("null: the refresh function returned %s", async (_, nothing) => {
    const old = expired();
    const host = createHost({ main: old });
    expect(await call(host, "main", async () => nothing)).toBeNull();
    expect(await call(host, "main", () => nothing)).toBeNull();
    expect(host.store("main")).toBe(storeText(old));
    // The lock is free, and the next caller may try.
    expect((await call(host, "main", answering())).outcome).toBe("refreshed");
  });

  test("that of an older store, which says `mode` for `type`", async () => {
    const { type, ...rest } = expired();
    const host = createHost({ main: storeText({ mode: type, ...rest }) });
    const fields = answer();
    expect((await call(host, "main", answering(fields))).outcome).toBe("refreshed");
    expect(host.store("main")).toBe(storeText({ mode: "oauth", ...rest, ...fields, type: "oauth" }));
  });
});

describe("an error of the refresh function", () => {
  test.each([
    ["rejected", (error) => async () => Promise.reject(error)],
    [
      "thrown",
      (error) => () => {
        throw error;
      },
    ],
  ])("arrives as it is: %s", async (_, failing) => {
    const old = expired();
    const host = createHost({ main: old });
    const error = Object.freeze(Object.assign(new TypeError("no network"), { code: "ENOTFOUND" }));
    const refresh = vi.fn(failing(error));
    const log = listen();
    expect(await rejection(call(host, "main", refresh))).toBe(error);
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(log.types()).toEqual(["acquired", "dispatched", "failed"]);
    expect(log.matching({ type: "failed" })[0].code).toBe("ENOTFOUND");
    expect(host.store("main")).toBe(storeText(old));
    expect((await call(host, "main", answering())).outcome).toBe("refreshed");
  });

  test("that says the token was used before gets one more try, if another token is stored now", async () => {
    const [old, newer, another, newest] = [expired(), expired(), expired(), expired()];
    const host = createHost({ main: old });
    const fields = answer();
    const refresh = vi.fn();
    refresh.mockImplementationOnce(async () => {
      host.seed("main", newer);
      throw new Error("invalid_grant: refresh token has already been used");
    });
    refresh.mockImplementationOnce(async () => fields);
    expect(await call(host, "main", refresh)).toEqual({ outcome: "refreshed", credential: { ...newer, ...fields } });
    expect(refresh.mock.calls.map(([credential]) => credential)).toEqual([old, newer]);
    expect(host.store("main")).toBe(storeText({ ...newer, ...fields }));

    // And no third.
    host.seed("main", expired());
    const again = vi.fn(async () => {
      host.seed("main", again.mock.calls.length === 1 ? another : newest);
      throw new Error("refresh_token_reused");
    });
    expect((await rejection(call(host, "main", again))).message).toBe("refresh_token_reused");
    expect(again).toHaveBeenCalledTimes(2);
  });

  test.each([
    ["says the token was used before, and the same one is stored", "refresh_token_reused", false],
    ["says something else, and another token is stored", "invalid_client", true],
  ])("that %s gets no other try", async (_, message, replaced) => {
    const [old, newer] = [expired(), expired()];
    const host = createHost({ main: old });
    const refresh = vi.fn(async () => {
      if (replaced) host.seed("main", newer);
      throw new Error(message);
    });
    expect((await rejection(call(host, "main", refresh))).message).toBe(message);
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(host.store("main")).toBe(storeText(replaced ? newer : old));
  });
});

describe("merging", () => {
  /** Refreshes a stored profile, given as JSON text. */
  async function refreshed(text, fields) {
    const host = createHost({ main: storeText(text) });
    const result = await call(host, "main", async () => fields);
    return { result, store: host.store("main") };
  }

  test("keeps the old refresh token where none is returned", async () => {
    for (const refresh of [undefined, null, "", "  "]) {
      const old = expired();
      const host = createHost({ main: old });
      const fields = answer({ refresh });
      const { credential } = await call(host, "main", async () => fields);
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

  test("keeps who the login belongs to where the provider does not say", async () => {
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

  test("adopting keeps the spelling of numbers too", async () => {
    const [old, mains] = [expired(), usable()];
    const spelled = (credential) =>
      storeText(JSON.stringify({ ...credential, quota: 0 }).replace(/0}$/, "9007199254740993}"));
    const host = createHost({ main: spelled(mains), sub: spelled(old) });
    expect((await call(host, "sub", unwanted())).outcome).toBe("adopted");
    expect(host.store("sub")).toContain(`"quota": 9007199254740993\n`);
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

  test("what the function does to its argument changes nothing", async () => {
    const old = expired({ displayName: "Owner" });
    const host = createHost({ main: old });
    const fields = answer();
    await call(host, "main", async (credential) => {
      for (const name of Object.keys(credential)) delete credential[name];
      return fields;
    });
    expect(host.store("main")).toBe(storeText({ ...old, ...fields }));
  });

  test("fields that changed in the store meanwhile stay changed", async () => {
    const old = expired({ displayName: "Old", note: "old" });
    const host = createHost({ main: old });
    const { refresh, called, answer: reply } = held();
    const result = call(host, "main", refresh);
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
    await call(host, "main", answering(fields));
    expect(host.store("main")).toBe(storeText({ ...old, ...fields }));
    expect(readlinkSync(path)).toBe(join(elsewhere, "link.json"));
    const tree = host.tree({ locks: false });
    expect(tree[join("elsewhere", "link.json")]).toBe("link to real.json");
    expect(tree[join("elsewhere", "real.json")]).toMatch(/^file 640 /);
  });

  test("gets no company: nothing else is left in the agent's directory", async () => {
    const host = createHost({ main: expired(), sub: expired() });
    const before = Object.keys(host.tree({ locks: false }));
    await call(host, "sub", answering());
    expect(Object.keys(host.tree({ locks: false }))).toEqual(before);
  });

  test("is rid of a temporary file that a death left behind", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const paths = Object.keys(host.tree({ locks: false }));
    writeFileSync(`${host.storePath("main")}.oauth-refresh-lock.tmp`, "left behind", { mode: 0o400 });
    const fields = answer();
    await call(host, "main", answering(fields));
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
    const result = call(host, "sub", async () => {
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

describe("a sub-agent whose store lacks the profile inherits main's", () => {
  const stores = [
    ["has no store", () => ({})],
    ["has a store without it", () => ({ sub: storeTextWithout() })],
  ];

  test.each(stores)("uses it: %s", async (_, own) => {
    const mains = usable();
    const host = createHost({ main: mains, ...own() });
    const before = host.tree();
    expect(await call(host, "sub", unwanted())).toEqual({ outcome: "fresh", credential: mains });
    expect(host.tree()).toEqual(before);
  });

  test.each(stores)("refreshes it and saves it in main's: %s", async (_, own) => {
    const old = expired();
    const host = createHost({ main: old, ...own() });
    const before = host.store("sub");
    const paths = Object.keys(host.tree({ locks: false }));
    const log = listen();
    const fields = answer();
    const refresh = answering(fields);
    const result = await call(host, "sub", refresh);
    expect(result).toEqual({ outcome: "refreshed", credential: { ...old, ...fields } });
    expect(refresh.mock.calls[0][0]).toEqual(old);
    expect(host.store("main")).toBe(storeText({ ...old, ...fields }));
    expect(host.store("sub")).toBe(before);
    expect(Object.keys(host.tree({ locks: false }))).toEqual(paths);
    expect(log.types()).toEqual(["acquired", "dispatched", "refreshed"]);
  });

  test("as one of many, with one call", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const call1 = held();
    const agents = ["main", "one", "two", "three"];
    const functions = [call1.refresh, unwanted(), unwanted(), unwanted()];
    const results = agents.map((agent, number) => call(host, agent, functions[number]));
    await call1.called;
    const fields = answer();
    call1.answer(fields);
    const credential = { ...old, ...fields };
    expect(await Promise.all(results)).toEqual([
      { outcome: "refreshed", credential },
      ...Array(3).fill({ outcome: "fresh", credential }),
    ]);
    for (const fn of functions.slice(1)) expect(fn).not.toHaveBeenCalled();
    expect(host.store("one")).toBeUndefined();
  });
});

describe("forceRefresh", () => {
  test("replaces a token that has not expired", async () => {
    const old = usable();
    const host = createHost({ main: old });
    const fields = answer();
    const result = await call(host, "main", answering(fields), { forceRefresh: true });
    expect(result).toEqual({ outcome: "refreshed", credential: { ...old, ...fields } });
    expect(host.store("main")).toBe(storeText({ ...old, ...fields }));
  });

  test("false is as good as none", async () => {
    const old = usable();
    const host = createHost({ main: old });
    const result = await call(host, "main", unwanted(), { forceRefresh: false });
    expect(result).toEqual({ outcome: "fresh", credential: old });
  });

  test(`by ${CALLERS} callers at once is one refresh, and each gets the new token`, async () => {
    const old = usable();
    const host = createHost({ main: old });
    let current = old;
    for (let round = 0; round < 10; round++) {
      const fields = answer({ expires: current.expires + MINUTE });
      const refresh = answering(fields);
      const calls = Array.from({ length: CALLERS }, () => call(host, "main", refresh, { forceRefresh: true }));
      const results = await Promise.all(calls);
      expect(refresh).toHaveBeenCalledTimes(1);
      current = { ...current, ...fields };
      expect(results.map(({ credential }) => credential)).toEqual(Array(CALLERS).fill(current));
      const outcomes = results.map(({ outcome }) => outcome).sort();
      expect(outcomes).toEqual([...Array(CALLERS - 1).fill("fresh"), "refreshed"]);
      expect(host.store("main")).toBe(storeText(current));
    }
  });

  test.each([
    ["longer", 2 * HOUR],
    ["shorter", HOUR / 2],
  ])("by all agents at once is one refresh, also when the new token lives %s than the old", async (_, lifetime) => {
    const old = usable();
    const names = ["main", "one", "two", "three", "four"];
    const host = createHost(Object.fromEntries(names.map((name) => [name, old])));
    const fields = answer({ expires: Date.now() + lifetime });
    const refresh = answering(fields);
    const results = await Promise.all(
      ["one", "two", "main", "three", "four"].map((name) => call(host, name, refresh, { forceRefresh: true })),
    );
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(results.map(({ credential }) => credential)).toEqual(Array(5).fill({ ...old, ...fields }));
    expect(names.map((name) => host.store(name))).toEqual(Array(5).fill(storeText({ ...old, ...fields })));
  });

  test("by agents in several processes is one refresh", async () => {
    const old = usable();
    const host = createHost({ main: old, one: old, two: old, three: old });
    const agents = await Promise.all([1, 2, 3, 4].map(() => startAgent()));
    const names = ["one", "main", "two", "three"];
    const calls = agents.map((agent, at) => agent.refresh({ options: host.as(names[at], { forceRefresh: true }) }));
    // One is inside; the others stand before the lock, each with the old token in hand.
    await Promise.race(calls.map(({ called }) => called));
    const owner = calls.findIndex((one) => one.calls.length > 0);
    await Promise.all(agents.filter((_, at) => at !== owner).map(({ log }) => log.seen({ type: "waiting" })));
    const fields = answer({ expires: Date.now() + 2 * HOUR });
    for (const one of calls) one.answer(fields);
    const outcomes = await Promise.all(calls.map(({ settled }) => settled));
    expect(calls.flatMap((one) => one.calls)).toEqual([old]);
    const credentials = outcomes.flat().map(({ result }) => result?.credential);
    expect(credentials).toEqual(Array(4).fill({ ...old, ...fields }));
    expect(names.map((name) => host.store(name))).toEqual(Array(4).fill(storeText({ ...old, ...fields })));
  });

  test("takes no token over that is itself the rejected one", async () => {
    const old = usable();
    const host = createHost({ main: { ...old, expires: old.expires + HOUR }, sub: old });
    const refresh = answering(answer({ expires: old.expires + 2 * HOUR }));
    expect((await call(host, "sub", refresh, { forceRefresh: true })).outcome).toBe("refreshed");
    expect(refresh).toHaveBeenCalledTimes(1);
  });
});

describe("rejectedAccess", () => {
  test("refreshes if the stored token is still the one that was refused", async () => {
    const old = usable();
    const host = createHost({ main: old });
    const fields = answer();
    const result = await call(host, "main", answering(fields), { rejectedAccess: old.access });
    expect(result).toEqual({ outcome: "refreshed", credential: { ...old, ...fields } });
  });

  test("serves the stored token if it is another", async () => {
    const [before, stored] = [usable(), usable()];
    const host = createHost({ main: stored });
    const result = await call(host, "main", unwanted(), { rejectedAccess: before.access });
    expect(result).toEqual({ outcome: "fresh", credential: stored });
  });

  test("serves main's token if that is another", async () => {
    const [old, mains] = [usable(), usable({ expires: Date.now() + 2 * HOUR })];
    const host = createHost({ main: mains, sub: old });
    const result = await call(host, "sub", unwanted(), { rejectedAccess: old.access });
    expect(result).toEqual({ outcome: "adopted", credential: mains });
  });

  test("refreshes a token that expired, whichever was refused", async () => {
    const host = createHost({ main: expired() });
    const refresh = answering();
    await call(host, "main", refresh, { rejectedAccess: usable().access });
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test(`of ${CALLERS} callers with the same refused token makes one refresh`, async () => {
    const old = usable();
    const host = createHost({ main: old });
    const { refresh, called, answer: reply } = held();
    const options = { rejectedAccess: old.access };
    const results = Array.from({ length: CALLERS }, () => call(host, "main", refresh, options));
    await called;
    const fields = answer({ expires: Date.now() + 2 * HOUR });
    reply(fields);
    const credentials = (await Promise.all(results)).map(({ credential }) => credential);
    expect(credentials).toEqual(Array(CALLERS).fill({ ...old, ...fields }));
    expect(refresh).toHaveBeenCalledTimes(1);
    // Whoever is late with the same complaint is served.
    expect((await call(host, "main", refresh, options)).outcome).toBe("fresh");
  });
});

describe("refreshMarginMs", () => {
  test.each([
    ["by default, four minutes", "refreshed", undefined, 4 * MINUTE],
    ["by default, six minutes", "fresh", undefined, 6 * MINUTE],
    ["without a margin, one minute", "fresh", 0, MINUTE],
    ["without a margin, no time", "refreshed", 0, 0],
    ["with two hours of it, one hour", "refreshed", 2 * HOUR, HOUR],
    ["with two hours of it, three hours", "fresh", 2 * HOUR, 3 * HOUR],
  ])("%s left: %s", async (_, outcome, refreshMarginMs, left) => {
    const host = createHost({ main: expired({ expires: Date.now() + left }) });
    const fields = answer({ expires: Date.now() + 4 * HOUR });
    const result = await call(host, "main", async () => fields, { refreshMarginMs });
    expect(result.outcome).toBe(outcome);
  });

  test("agents that ask at once share a token that lives shorter than the margin", async () => {
    const old = expired();
    const names = ["one", "two", "main", "three", "four"];
    const host = createHost(Object.fromEntries(names.map((name) => [name, old])));
    const fields = answer({ expires: Date.now() + MINUTE });
    const refresh = answering(fields);
    const results = await Promise.all(names.map((name) => call(host, name, refresh)));
    // Another call could only send the token that is spent.
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(results.map(({ credential }) => credential)).toEqual(Array(5).fill({ ...old, ...fields }));
  });

  test("a new token is taken even if it lives shorter than the margin", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const fields = answer({ expires: Date.now() + MINUTE });
    const result = await call(host, "main", answering(fields));
    expect(result).toEqual({ outcome: "refreshed", credential: { ...old, ...fields } });
    expect(host.store("main")).toBe(storeText({ ...old, ...fields }));
  });
});

describe("a provider call that is too old", () => {
  test("is aborted, and the caller told", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const refresh = vi.fn(
      (_, { signal }) =>
        new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
    );
    const error = await typedRejection(call(host, "main", refresh, { callTimeoutMs: 5 }), "refresh_call_timeout");
    const [[, { signal }]] = refresh.mock.calls;
    expect(signal.reason).toBe(error);
    expect(host.store("main")).toBe(storeText(old));
    // It has let go: the next caller may try.
    expect((await call(host, "main", answering())).outcome).toBe("refreshed");
  });

  test("is not aborted because its caller left", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const { refresh, called, answer: reply } = held();
    const controller = new AbortController();
    const result = call(host, "main", refresh, { signal: controller.signal });
    const { signal } = await called;
    controller.abort();
    await typedRejection(result, "caller_aborted");
    expect(signal.aborted).toBe(false);
    const fields = answer();
    reply(fields);
    expect((await call(host, "main", unwanted())).credential).toEqual({ ...old, ...fields });
    expect(signal.aborted).toBe(false);
  });

  test("and ignores its signal keeps the claim, and its late success is saved", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const { refresh, called, answer: reply } = held();
    const failed = typedRejection(call(host, "main", refresh, { callTimeoutMs: 5 }), "refresh_call_timeout");
    const { signal } = await called;
    await failed;
    expect(signal.aborted).toBe(true);

    // Neither here nor in another process does anybody ask the provider meanwhile.
    const agent = await startAgent();
    const elsewhere = agent.refresh({ options: host.as("main") });
    const here = unwanted();
    const next = call(host, "main", here);
    await agent.log.seen({ type: "waiting" });
    expect(host.store("main")).toBe(storeText(old));

    const fields = answer();
    reply(fields);
    const credential = { ...old, ...fields };
    expect(await next).toEqual({ outcome: "fresh", credential });
    expect(await elsewhere.settled).toEqual([{ result: { outcome: "fresh", credential } }]);
    expect(here).not.toHaveBeenCalled();
    expect(elsewhere.calls).toEqual([]);
    expect(host.store("main")).toBe(storeText(credential));
  });

  test("and fails late leaves the next caller to try", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const { refresh, called, fail } = held();
    const failed = typedRejection(call(host, "main", refresh, { callTimeoutMs: 5 }), "refresh_call_timeout");
    await called;
    await failed;
    const fields = answer();
    const next = call(host, "main", answering(fields));
    fail(new Error("late"));
    expect(await next).toEqual({ outcome: "refreshed", credential: { ...old, ...fields } });
  });
});

describe("a caller whose patience runs out while its refresh is under way", () => {
  test("is told so; the result is saved, and found by the next caller", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const { refresh, called, answer: reply } = held();
    const pass = stopClock();
    const failed = typedRejection(call(host, "main", refresh, { timeoutMs: 5_000 }), "caller_timeout");
    const { signal } = await called;
    pass(5_000);
    const error = await failed;
    expect(error.path).toBe(resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir: host.stateDir }));
    expect(signal.aborted).toBe(false);
    const log = listen();
    const fields = answer();
    reply(fields);
    await log.seen({ type: "refreshed" });
    const credential = { ...old, ...fields };
    expect(host.store("main")).toBe(storeText(credential));
    expect(await call(host, "main", unwanted())).toEqual({ outcome: "fresh", credential });
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test("in another process leaves its result to us", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const agent = await startAgent();
    const theirs = agent.refresh({ options: host.as("main") });
    await theirs.called;
    theirs.abort("no more time");
    expect(await theirs.settled).toMatchObject([{ error: { code: "caller_aborted" } }]);
    const log = listen();
    const ours = call(host, "main", unwanted());
    await log.seen({ type: "waiting" });
    const fields = answer();
    theirs.answer(fields);
    expect(await ours).toEqual({ outcome: "fresh", credential: { ...old, ...fields } });
  });
});

describe("a login or logout while the provider answers", () => {
  async function replaced(store) {
    const host = createHost({ main: expired() });
    const { refresh, called, answer: reply } = held();
    const result = call(host, "main", refresh);
    await called;
    host.seed("main", store);
    const before = host.store("main");
    reply(answer());
    return { host, before, result };
  }

  test("a login wins", async () => {
    const login = usable();
    const { host, before, result } = await replaced(login);
    expect(await result).toEqual({ outcome: "fresh", credential: login });
    expect(host.store("main")).toBe(before);
  });

  test.each([
    ["the profile is gone", storeTextWithout()],
    ["an API key took its place", storeText({ type: "api_key", provider: PROVIDER, key: "k" })],
  ])("logged out stays logged out: %s", async (_, store) => {
    const { host, before, result } = await replaced(store);
    expect(await result).toBeNull();
    expect(host.store("main")).toBe(before);
  });

  test("another login, expired already, is left alone and told", async () => {
    const { host, before, result } = await replaced(expired());
    const error = await typedRejection(result, "superseded");
    expect(error.path).toBe(host.storePath("main"));
    expect(host.store("main")).toBe(before);
  });
});

describe("events", () => {
  test("tell what happened to which key, for whom and when, and no token", async () => {
    const host = createHost({ main: expired(), sub: expired() });
    const log = listen();
    const from = performance.timeOrigin + performance.now();
    await call(host, "sub", answering());
    const until = performance.timeOrigin + performance.now();
    const subject = {
      provider: PROVIDER,
      profileId: PROFILE,
      lockPath: resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir: host.stateDir }),
      agentDir: host.agentDir("sub"),
      at: expect.any(Number),
    };
    expect(log.events).toEqual([
      { ...subject, type: "acquired" },
      { ...subject, type: "dispatched" },
      { ...subject, type: "refreshed" },
      { ...subject, type: "mirrored", written: true, reason: "incoming-fresher" },
    ]);
    const times = log.events.map(({ at }) => at);
    expect([from, ...times, until]).toEqual([from, ...times, until].sort((one, other) => one - other));
    expect(toldBy(new Error(JSON.stringify(log.events)))).toEqual([]);
  });
});

describe("a call that fails says so on the channel, with its code", () => {
  test("a result that is no credential", async () => {
    const host = createHost({ main: expired() });
    const log = listen();
    await rejection(call(host, "main", async () => ({})));
    expect(log.types()).toEqual(["acquired", "dispatched", "failed"]);
    expect(log.matching({ code: "invalid_refresh_result" })).toHaveLength(1);
  });

  test("a store that cannot be read", async () => {
    const host = createHost({ main: "" });
    const log = listen();
    await rejection(call(host, "main", unwanted()));
    expect(log.types()).toEqual(["failed"]);
    expect(log.matching({ code: "store_invalid" })).toHaveLength(1);
  });

  test.each([
    ["a wait that ran out", "file_lock_timeout", {}, (pass) => pass(5_000)],
    ["a caller that left", "caller_aborted", { signal: true }, (_, controller) => controller.abort()],
  ])("%s", async (_, code, { signal }, end) => {
    const host = createHost({ main: expired() });
    const lock = await holdLock(await startAgent(), { options: { stateDir: host.stateDir } });
    const log = listen();
    const pass = stopClock();
    const controller = new AbortController();
    const options = { timeoutMs: 5_000, ...(signal && { signal: controller.signal }) };
    const failed = typedRejection(call(host, "main", unwanted(), options), code);
    await log.seen({ type: "waiting" });
    end(pass, controller);
    await failed;
    await lock.release();
    expect(log.types()).toEqual(["waiting", "failed"]);
    expect(log.events[1].code).toBe(code);
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
