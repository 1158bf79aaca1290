/**
 * Refresh functions that fail: which are called again for a caller that has the patience, which are not, and what a host says of
 * its own errors.
 */
import { describe, expect, test, vi } from "vitest";
import { classifyRefreshFailure } from "../index.mjs";
import { askingElsewhere } from "./support/agents.mjs";
import { answering, refreshAs, rejection, typedRejection, unwanted } from "./support/calls.mjs";
import { answer, createHost, expired, IMPATIENT, MINUTE, storeText } from "./support/host.mjs";

const CALLERS = 20;

const error = (fields, message = "failed") => Object.assign(new Error(message), fields);
const marked = (mark, fields) => error({ refreshFailure: mark, ...fields });

describe("a refresh function that fails once", () => {
  test.each([
    ["503", { status: 503 }],
    ["429 with a pause", { status: 429, retryAfterMs: 1_000 }],
    ["a status in words", {}, "Token refresh failed (503)"],
    ["500", { status: 500 }],
    ["a reset", { code: "ECONNRESET" }],
    ["DNS", { code: "ENOTFOUND", syscall: "getaddrinfo" }],
    ["fetch's words without their cause", {}, "Token refresh error: fetch failed"],
    ["a host's own word", { refreshFailure: { class: "answered_unspent" } }],
  ])(`(%s) is called once more for ${CALLERS} callers, and all of them are served`, async (_, fields, message) => {
    const host = createHost({ main: expired() });
    const given = answer();
    const refresh = vi.fn(async () => given);
    refresh.mockRejectedValueOnce(error(fields, message));
    const calls = Array.from({ length: CALLERS }, () => refreshAs(host, "main", refresh));
    const results = await Promise.all(calls);
    expect(new Set(results.map(({ credential }) => credential.access))).toEqual(new Set([given.access]));
    expect(refresh).toHaveBeenCalledTimes(2);
  });

  test("is not called before the pause that another process has put on record is over", async () => {
    const host = createHost({ main: expired() });
    const [, asked] = await askingElsewhere({ options: host.as("main", IMPATIENT), server: undefined });
    // What a function returns that is no credential has an end that nobody knows: everyone keeps the same pause.
    asked.answer({ access: 7 });
    expect((await asked.settled)[0].error.code).toBe("invalid_refresh_result");
    const refresh = unwanted();
    const told = await typedRejection(refreshAs(host, "main", refresh, { timeoutMs: 700 }), "refresh_uncertain");
    expect(told.retryAfterMs).toBeGreaterThan(0);
    expect(refresh).not.toHaveBeenCalled();
    expect((await refreshAs(host, "main", answering())).outcome).toBe("refreshed");
  });

  test("and again gives its last caller its own error, at the end of the patience", async () => {
    const host = createHost({ main: expired() });
    const thrown = error({ status: 503 });
    const refresh = vi.fn(() => Promise.reject(thrown));
    expect(await rejection(refreshAs(host, "main", refresh, { timeoutMs: 2_500 }))).toBe(thrown);
    expect(thrown.refreshFailure.class).toBe("answered_unspent");
    // At once, and after a second or somewhat more; not yet after two more.
    expect(refresh).toHaveBeenCalledTimes(2);
  });
});

describe("a refresh function is not called again after", () => {
  test.each([
    ["a defect", new TypeError("x is not a function"), {}],
    ["a refused client", error({ status: 401, error: "invalid_client" }), {}],
    ["a refusal for good", error({ status: 400, error: "invalid_grant" }), {}],
    [
      "a refusal for good, in an error that can't be changed",
      Object.freeze(marked(Object.freeze({ class: "answered_dead" }))),
      {},
    ],
    ["what is uncertain, where that is forbidden", error({ status: 500 }), { uncertain: "fail" }],
    ["a reason of its own", marked({ class: "not_asked" }), {}],
    ["a pause longer than the caller's patience", error({ status: 503, retryAfterMs: 5_000 }), IMPATIENT],
    ["a pause longer than a function is called again for", error({ status: 503, retryAfterMs: 11_000 }), {}],
  ])("%s: its error arrives as it is", async (_, thrown, options) => {
    const old = expired();
    const host = createHost({ main: old });
    const refresh = vi.fn(() => Promise.reject(thrown));
    expect(await rejection(refreshAs(host, "main", refresh, options))).toBe(thrown);
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(host.store("main")).toBe(storeText(old));
  });
});

describe("a refresh function that was not to ask the provider", () => {
  const notAsked = (fields) => marked({ class: "not_asked" }, { code: "HOST_REASON", ...fields });

  test("throws why, untouched, and holds nobody back", async () => {
    const host = createHost({ main: expired() });
    const thrown = notAsked({ details: { managedBy: "another program" } });
    expect(await rejection(refreshAs(host, "main", () => Promise.reject(thrown)))).toBe(thrown);
    expect(thrown).toMatchObject({ code: "HOST_REASON", refreshFailure: { class: "not_asked" } });
    expect((await refreshAs(host, "main", answering())).outcome).toBe("refreshed");
  });

  test("is called for each caller in turn: each may have another reason", async () => {
    const host = createHost({ main: expired() });
    const refresh = vi.fn(async () => Promise.reject(notAsked()));
    const calls = Array.from({ length: CALLERS }, () => rejection(refreshAs(host, "main", refresh)));
    expect(new Set((await Promise.all(calls)).map(({ code }) => code))).toEqual(new Set(["HOST_REASON"]));
    expect(refresh).toHaveBeenCalledTimes(CALLERS);
  });

  test("has it beside a token that is still good", async () => {
    const stored = expired({ expires: Date.now() + MINUTE });
    const thrown = notAsked();
    const host = createHost({ main: stored });
    const result = await refreshAs(host, "main", () => Promise.reject(thrown));
    expect(result).toEqual({ outcome: "fresh", credential: stored, refreshError: thrown });
  });

  test("may be told by the option classify", async () => {
    const host = createHost({ main: expired() });
    const thrown = error({ status: 503 });
    const refresh = vi.fn(() => Promise.reject(thrown));
    expect(await rejection(refreshAs(host, "main", refresh, { classify: () => "not_asked" }))).toBe(thrown);
    expect(refresh).toHaveBeenCalledTimes(1);
  });
});

describe("the mark refreshFailure of an error", () => {
  const told = async (thrown, options) => {
    const host = createHost({ main: expired({ expires: Date.now() + MINUTE }) });
    return (await refreshAs(host, "main", () => Promise.reject(thrown), options)).refreshError.refreshFailure;
  };

  test.each(["not_asked", "not_sent", "answered_unspent", "answered_dead", "uncertain"])("counts: %s", async (word) => {
    expect((await told(marked({ class: word }, { status: 404 }))).class).toBe(word);
    expect((await told(new Error("wrapped", { cause: marked({ class: word }) }))).class).toBe(word);
  });

  test("counts with its pause", async () => {
    const mark = { class: "answered_unspent", retryAfterMs: 7_000 };
    expect(await told(marked(mark))).toEqual(mark);
  });

  test.each([
    ["a class that there is not", { class: "dead" }],
    ["a class that is no text", { class: ["answered_dead"] }],
    ["no class", {}],
    ["text", "answered_dead"],
    ["nothing", null],
  ])("is nothing if it is %s", async (_, mark) => {
    expect((await told(marked(mark, { status: 503 }))).class).toBe("answered_unspent");
  });

  test.each([-1, Number.NaN, "7", null])("tells no pause if that is %s", async (retryAfterMs) => {
    expect(await told(marked({ class: "answered_unspent", retryAfterMs }))).toEqual({ class: "answered_unspent" });
  });

  test("comes after the option classify", async () => {
    const thrown = marked({ class: "answered_dead" });
    expect((await told(thrown, { classify: () => "answered_unspent" })).class).toBe("answered_unspent");
  });
});

describe("classifyRefreshFailure", () => {
  test.each([
    ["a gateway's 503", error({ status: 503, headers: { "retry-after": "5" } }), "answered_unspent", 5_000],
    ["DNS", error({ code: "ENOTFOUND", syscall: "getaddrinfo" }), "not_sent", undefined],
    ["a refusal", error({ error: "invalid_grant" }), "answered_dead", undefined],
    ["Slack's word", error({ error: "invalid_refresh_token" }), "answered_dead", undefined],
    ["its word alone", new Error("invalid_refresh_token"), "answered_dead", undefined],
    ["500", error({ status: 500 }), "uncertain", undefined],
    ["a defect", new TypeError("x"), "uncertain", undefined],
    ["a mark", marked({ class: "not_asked" }), "not_asked", undefined],
    ["nothing", undefined, "uncertain", undefined],
    ["text", "invalid_grant", "answered_dead", undefined],
  ])("of %s", async (_, thrown, expected, retryAfterMs) => {
    expect(await classifyRefreshFailure(thrown)).toEqual({ class: expected, ...(retryAfterMs && { retryAfterMs }) });
  });

  test("of an answer that nobody has read", async () => {
    const thrown = error({ response: Response.json({ error: "invalid_grant" }, { status: 400 }) });
    expect(await classifyRefreshFailure(thrown)).toEqual({ class: "answered_dead" });
  });

  test("of what throws when it is looked at", async () => {
    const hostile = new Proxy(new Error("x"), {
      get() {
        throw new Error("no");
      },
    });
    expect(await classifyRefreshFailure(hostile)).toEqual({ class: "uncertain" });
  });
});
