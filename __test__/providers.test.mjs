/**
 * What providers answer, as they document it or as people report it, by both ways: a token endpoint that answers so, and a
 * refresh function that throws an error with the answer in it, as axios does.
 */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { refreshAs, rejection, typedRejection } from "./support/calls.mjs";
import { createHost, expired, PROFILE, storeText } from "./support/host.mjs";
import { token } from "./support/secrets.mjs";
import { at, http, json, jwt, says, startServer } from "./support/token-server.mjs";

/**
 * @typedef {object} Row
 * @property {string} provider
 * @property {string} source
 * @property {object | null} success a body with `<access>` and `<refresh>` for the tokens; `null`: it stands in an envelope
 * @property {{ means: string, status: number, headers?: Record<string, string>, body: object | string }[]} answers
 */

const PROVIDERS = JSON.parse(readFileSync(new URL("vectors/providers.json", import.meta.url), "utf8"));
const SUCCESSES = PROVIDERS.filter(({ success }) => success !== null).map((row) => [row.provider, row.success]);
const ANSWERS = PROVIDERS.flatMap(({ provider, answers }) =>
  answers.map((answer) => {
    const text = typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body);
    return [`${provider}: ${answer.status} ${text.slice(0, 100)}`, { ...answer, text }];
  }),
);
/** Shorter than the shortest pause. */
const PATIENCE_MS = 500;

test("at least thirty providers have a success, a refusal and a source", () => {
  expect(PROVIDERS.length).toBeGreaterThanOrEqual(30);
  expect(SUCCESSES.length).toBeGreaterThanOrEqual(30);
  for (const { provider, source, date, answers } of PROVIDERS) {
    expect(source, provider).toMatch(/^[a-z0-9.]+\.[a-z]+[/:]/);
    expect(date, provider).toMatch(/^\d{4}-\d\d-\d\d$/);
    expect(
      answers.map(({ means }) => means),
      provider,
    ).toContain("answered_dead");
  }
});

describe("a success is stored", () => {
  test.each(SUCCESSES)("%s", async (_, body) => {
    const old = expired();
    const host = createHost({ main: old });
    const [access, refresh] = [token("access"), token("refresh")];
    const filled = { "<access>": access, "<refresh>": refresh, "<jwt>": jwt({ sub: "owner" }) };
    const answer = Object.fromEntries(Object.entries(body).map(([name, value]) => [name, filled[value] ?? value]));
    const server = await startServer(says(json(answer)));
    const result = await refreshAs(host, "main", at(server));
    const stored = JSON.parse(host.store("main")).profiles[PROFILE];
    expect(result).toMatchObject({ outcome: "refreshed", credential: stored });
    const kept = Object.values(body).includes("<refresh>") ? refresh : old.refresh;
    expect(stored).toMatchObject({ access, refresh: kept });
    expect(stored.expires).toBeGreaterThan(Date.now());
    expect(server.presented).toEqual([old.refresh]);
  });
});

/** What becomes of the next call, which asks nobody. */
const NEXT = {
  answered_dead: "grant_dead",
  answered_unspent: "refresh_backoff",
};

describe("a refusal of a token endpoint is understood", () => {
  test.each(ANSWERS)("%s", async (_, { means, status, headers, text }) => {
    const old = expired();
    const host = createHost({ main: old });
    const server = await startServer(says(http(status, text, headers)));
    const ask = () => refreshAs(host, "main", at(server), { timeoutMs: PATIENCE_MS });
    const error = await typedRejection(ask(), "provider_refused");
    expect({ status: error.status, class: error.refreshFailure.class }).toEqual({ status, class: means });
    expectPause(error.refreshFailure, headers);
    await typedRejection(ask(), NEXT[means]);
    expect(server.presented).toEqual([old.refresh]);
    expect(host.store("main")).toBe(storeText(old));
  });
});

describe("the same, in an error of a refresh function, is understood", () => {
  test.each(ANSWERS)("%s", async (_, { means, status, headers = {}, body }) => {
    const old = expired();
    const host = createHost({ main: old });
    let calls = 0;
    const refresh = async () => {
      calls += 1;
      throw Object.assign(new Error(`Request failed with status code ${status}`), {
        response: { status, headers, data: body },
      });
    };
    const ask = () => refreshAs(host, "main", refresh, { timeoutMs: PATIENCE_MS });
    const error = await rejection(ask());
    expect(error.message).toBe(`Request failed with status code ${status}`);
    expect(error.refreshFailure.class).toBe(means);
    expectPause(error.refreshFailure, headers);
    await typedRejection(ask(), NEXT[means]);
    expect(calls).toBe(1);
    expect(host.store("main")).toBe(storeText(old));
  });
});

/** Expects that the pause is the one that the provider asks for. */
function expectPause({ retryAfterMs }, { "retry-after": seconds } = {}) {
  expect(retryAfterMs).toBe(seconds && Number(seconds) * 1000);
}
