import { describe, expect, test, vi } from "vitest";
import { answering, held, listen, refreshAs, rejection, typedRejection, unwanted } from "./support/calls.mjs";
import {
  answer,
  createHost,
  expired,
  HOUR,
  MINUTE,
  PROVIDER,
  storeText,
  storeTextWithout,
  usable,
} from "./support/host.mjs";

describe("the outcome is", () => {
  test("fresh: the stored credential was usable, and nothing was touched, no lock file either", async () => {
    const stored = usable();
    const host = createHost({ main: stored });
    const before = host.tree();
    const log = listen();
    const refresh = unwanted();
    expect(await refreshAs(host, "main", refresh)).toEqual({ outcome: "fresh", credential: stored });
    expect(refresh).not.toHaveBeenCalled();
    expect(log.types()).toEqual(["fresh"]);
    expect(host.tree()).toEqual(before);
  });

  test("refreshed: the provider was asked, with the credential as it is stored", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const log = listen();
    const fields = answer();
    const refresh = answering(fields);
    const result = await refreshAs(host, "main", refresh);
    expect(result).toEqual({ outcome: "refreshed", credential: { ...old, ...fields } });
    expect(refresh.mock.calls).toEqual([[old, { signal: expect.any(AbortSignal) }]]);
    expect(log.types()).toEqual(["acquired", "dispatched", "refreshed"]);
    expect(host.store("main")).toBe(storeText({ ...old, ...fields }));
  });

  test("that of the next caller: fresh", async () => {
    const host = createHost({ main: expired() });
    const { credential } = await refreshAs(host, "main", answering());
    expect(await refreshAs(host, "main", unwanted())).toEqual({ outcome: "fresh", credential });
  });

  test.each([
    ["there is no store", {}],
    ["the store lacks the profile", { sub: storeTextWithout() }],
    ["neither store has the profile", { main: storeTextWithout(), sub: storeTextWithout() }],
    ["the profile is an API key", { sub: storeText({ type: "api_key", provider: PROVIDER, key: "k" }) }],
    ["the profile is a token", { sub: storeText({ type: "token", provider: PROVIDER, token: "t" }) }],
    ["main's profile is an API key", { main: storeText({ type: "api_key", provider: PROVIDER, key: "k" }) }],
    ["the profile is an API key, whatever main has", { main: usable(), sub: storeText({ type: "api_key", key: "k" }) }],
    ["the store has no profiles", { sub: `{"version": 1}` }],
  ])("null: %s", async (_, stores) => {
    const host = createHost(stores);
    const before = host.tree();
    const refresh = unwanted();
    expect(await refreshAs(host, "sub", refresh)).toBeNull();
    expect(refresh).not.toHaveBeenCalled();
    expect(host.tree()).toEqual(before);
  });

  test.each([
    ["null", null],
    ["undefined", undefined],
  ])("null: the refresh function returned %s", async (_, nothing) => {
    const old = expired();
    const host = createHost({ main: old });
    expect(await refreshAs(host, "main", async () => nothing)).toBeNull();
    expect(await refreshAs(host, "main", () => nothing)).toBeNull();
    expect(host.store("main")).toBe(storeText(old));
    // The lock is free, and the next caller may try.
    expect((await refreshAs(host, "main", answering())).outcome).toBe("refreshed");
  });

  test("that of an older store, which says `mode` for `type`", async () => {
    const { type, ...rest } = expired();
    const host = createHost({ main: storeText({ mode: type, ...rest }) });
    const fields = answer();
    expect((await refreshAs(host, "main", answering(fields))).outcome).toBe("refreshed");
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
    const error = Object.freeze(Object.assign(new TypeError("a defect"), { code: "EDEFECT" }));
    const refresh = vi.fn(failing(error));
    const log = listen();
    expect(await rejection(refreshAs(host, "main", refresh))).toBe(error);
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(log.types()).toEqual(["acquired", "dispatched", "failed"]);
    expect(log.matching({ type: "failed" })[0].code).toBe("EDEFECT");
    expect(host.store("main")).toBe(storeText(old));
    expect((await refreshAs(host, "main", answering())).outcome).toBe("refreshed");
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
    expect(await refreshAs(host, "main", refresh)).toEqual({
      outcome: "refreshed",
      credential: { ...newer, ...fields },
    });
    expect(refresh.mock.calls.map(([credential]) => credential)).toEqual([old, newer]);
    expect(host.store("main")).toBe(storeText({ ...newer, ...fields }));

    // And no third.
    host.seed("main", expired());
    const again = vi.fn(async () => {
      host.seed("main", again.mock.calls.length === 1 ? another : newest);
      throw new Error("refresh_token_reused");
    });
    expect((await rejection(refreshAs(host, "main", again))).message).toBe("refresh_token_reused");
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
    expect((await rejection(refreshAs(host, "main", refresh))).message).toBe(message);
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(host.store("main")).toBe(storeText(replaced ? newer : old));
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
    expect(await refreshAs(host, "sub", unwanted())).toEqual({ outcome: "fresh", credential: mains });
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
    const result = await refreshAs(host, "sub", refresh);
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
    const results = agents.map((agent, number) => refreshAs(host, agent, functions[number]));
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
    const result = await refreshAs(host, "main", async () => fields, { refreshMarginMs });
    expect(result.outcome).toBe(outcome);
  });

  test("agents that ask at once share a token that lives shorter than the margin", async () => {
    const old = expired();
    const names = ["one", "two", "main", "three", "four"];
    const host = createHost(Object.fromEntries(names.map((name) => [name, old])));
    const fields = answer({ expires: Date.now() + MINUTE });
    const refresh = answering(fields);
    const results = await Promise.all(names.map((name) => refreshAs(host, name, refresh)));
    // Another call could only send the token that is spent.
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(results.map(({ credential }) => credential)).toEqual(Array(5).fill({ ...old, ...fields }));
  });

  test("a new token is taken even if it lives shorter than the margin", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const fields = answer({ expires: Date.now() + MINUTE });
    const result = await refreshAs(host, "main", answering(fields));
    expect(result).toEqual({ outcome: "refreshed", credential: { ...old, ...fields } });
    expect(host.store("main")).toBe(storeText({ ...old, ...fields }));
  });
});

describe("a login or logout while the provider answers", () => {
  async function replaced(store) {
    const host = createHost({ main: expired() });
    const { refresh, called, answer: reply } = held();
    const result = refreshAs(host, "main", refresh);
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
