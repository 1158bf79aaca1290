/**
 * What refresh functions return: every shape that OAuth client libraries and HTTP clients give is understood, for refusing one
 * would waste the refresh token that was spent for it. `client-libraries/` has the real packages.
 */
import { describe, expect, test } from "vitest";
import { refreshAs, rejection, typedRejection, unwanted } from "./support/calls.mjs";
import { answer, createHost, expired, HOUR, IMPATIENT, MINUTE, PROFILE, PROVIDER, storeText } from "./support/host.mjs";
import { token, toldBy } from "./support/secrets.mjs";
import { jwt, tokens } from "./support/token-server.mjs";

/** A result that the function gives, of what its provider answered; and what is stored beside the tokens. */
const UNDERSTOOD = [
  ["the raw answer", (raw) => ({ ...raw, scope: "s" })],
  ["its JSON text", (raw) => JSON.stringify(raw)],
  ["its text as a form", (raw) => `${new URLSearchParams(raw)}`],
  ["a fetch response", (raw) => Response.json(raw)],
  ["a fetch response with a form", (raw) => new Response(new URLSearchParams(raw))],
  [
    "what axios gives",
    (raw) => circular({ status: 200, headers: {}, data: raw, config: { data: "refresh_token=old" } }),
  ],
  [
    "what got gives",
    (raw) => circular(Object.assign(new (class {})(), { statusCode: 200, body: JSON.stringify(raw) })),
  ],
  ["what undici gives", (raw) => ({ statusCode: 200, headers: {}, body: new Response(JSON.stringify(raw)) })],
  ["what superagent gives", (raw) => ({ toJSON: () => ({ req: {}, status: 200, text: JSON.stringify(raw) }) })],
  ["an instance of a class", (raw) => Object.assign(new (class TokenSet {})(), raw, { claims() {} })],
  ["an instance with getters", (raw) => withGetters(raw)],
  ["an instance with methods that may throw", (raw) => withMethods(raw)],
  ["what ofetch gives", (raw) => withUsedBody(raw)],
  ["a Map", (raw) => new Map(Object.entries(raw))],
  ["a form, parsed", (raw) => new URLSearchParams(raw)],
  ["bytes", (raw) => Buffer.from(JSON.stringify(raw))],
  ["bytes of a form", (raw) => new TextEncoder().encode(`${new URLSearchParams(raw)}`).buffer],
  ["bytes in what axios gives", (raw) => ({ status: 200, data: Buffer.from(JSON.stringify(raw)) })],
  ["text with a byte order mark", (raw) => `\u{FEFF}${JSON.stringify(raw)}`],
  ["text in text", (raw) => JSON.stringify(JSON.stringify(raw))],
  ["an instance with getters of the raw names", (raw) => withRawGetters(raw)],
  [
    "what a GraphQL mutation gives",
    (raw) => ({ data: { refreshToken: renamed(raw, "accessToken", "refreshToken", { expiresIn: 3600 }) } }),
  ],
  [
    "tokens with an object each",
    (raw) => ({
      access: { token: raw.access_token, expires: new Date(inAnHour()) },
      refresh: { token: raw.refresh_token },
    }),
  ],
  ["the old refresh token beside the answer", (raw, old) => ({ refreshToken: old.refresh, tokens: raw })],
  ["another token beside the answer", (raw) => ({ token: token("csrf"), data: raw })],
  ["spread over what was given", (raw, old) => ({ ...old, ...raw }), ["token_type"]],
  ["assigned to what was given", (raw, old) => Object.assign(old, raw), ["token_type"]],
  [
    "camelCase spread over what was given",
    (raw, old) => ({ ...old, ...renamed(raw, "accessToken", "refreshToken", { expiresIn: 3600 }) }),
  ],
  [
    "half of it under our names",
    (raw, old) => ({ ...old, ...renamed(raw, "access", "refresh_token", { expires: inAnHour() }) }),
  ],
  ["an answer inside what was given", (raw, old) => ({ ...old, tokens: raw })],
  ["tokens and response", (raw) => ({ tokens: raw, res: circular({}) })],
  ["credentials and response", (raw) => ({ credentials: raw, res: null })],
  ["an access token object", (raw) => ({ token: raw })],
  ["a session", (raw) => ({ data: { session: raw, user: {} }, error: null })],
  ["camelCase", (raw) => renamed(raw, "accessToken", "refreshToken", { expiresIn: 3600, scopes: ["s"] })],
  ["PascalCase", (raw) => ({ AuthenticationResult: renamed(raw, "AccessToken", "RefreshToken", { ExpiresIn: 3600 }) })],
  ["an instant in seconds", (raw) => renamed(raw, "access_token", "refresh_token", { expires_at: inAnHour() / 1000 })],
  ["an instant in ms", (raw) => renamed(raw, "access_token", "refresh_token", { expiry_date: inAnHour() })],
  ["a Date", (raw) => renamed(raw, "accessToken", "refreshToken", { expiresOn: new Date(inAnHour()) })],
  ["ISO text", (raw) => renamed(raw, "access", "refresh", { expires: new Date(inAnHour()).toISOString() })],
  ["ms in text", (raw) => renamed(raw, "access", "refresh", { expires: `${inAnHour()}` })],
  ["ms as a big integer", (raw) => renamed(raw, "access", "refresh", { expires: BigInt(inAnHour()) })],
  ["seconds for ms", (raw) => renamed(raw, "access", "refresh", { expires: inAnHour() / 1000 })],
  ["a lifetime for ms", (raw) => renamed(raw, "access", "refresh", { expires: 3600 })],
  [
    "our own names beside others",
    (raw) => own(raw, { access_token: "other", expires_in: 1 }),
    ["access_token", "expires_in"],
  ],
  ["our own names and a circle", (raw) => circular(own(raw, { more: [1.5] })), ["more"]],
  ["our own names and a big integer", (raw) => own(raw, { size: 1n }), ["size"]],
  ["our own names and what can't be read", (raw) => unreadable(own(raw, { more: 1 })), ["more"]],
];

const inAnHour = () => Math.floor(Date.now() / 1000) * 1000 + HOUR;
const own = (raw, more) => renamed(raw, "access", "refresh", { expires: inAnHour(), ...more });
const renamed = (raw, access, refresh, more) => ({ [access]: raw.access_token, [refresh]: raw.refresh_token, ...more });
const circular = (value) => Object.assign(value, { request: value });
const unreadable = (value) =>
  Object.defineProperty(value, "secret", {
    enumerable: true,
    get() {
      throw new Error(token("getter"));
    },
  });

function withGetters(raw) {
  return new (class {
    get accessToken() {
      return raw.access_token;
    }
    get refreshToken() {
      return raw.refresh_token;
    }
    get expiresAt() {
      return new Date(inAnHour());
    }
  })();
}

function withRawGetters(raw) {
  return new (class {
    get access_token() {
      return raw.access_token;
    }
    get refresh_token() {
      return raw.refresh_token;
    }
    get expires_in() {
      return raw.expires_in;
    }
  })();
}

async function withUsedBody(raw) {
  const response = Response.json(raw);
  return Object.assign(response, { _data: await response.json() });
}

function withMethods(raw) {
  return new (class {
    accessToken = () => raw.access_token;
    refreshToken = () => raw.refresh_token;
    accessTokenExpiresAt = () => new Date(inAnHour());
    idToken() {
      throw new Error("Missing or invalid 'id_token' field");
    }
  })();
}

describe("is understood and stored as our own fields:", () => {
  test.each(UNDERSTOOD)("%s", async (_, shape, beside = []) => {
    const old = expired();
    const host = createHost({ main: old });
    const raw = tokens();
    const from = inAnHour();
    const { outcome, credential } = await refreshAs(host, "main", async (given) => shape(raw, given));
    expect(outcome).toBe("refreshed");
    const { expires, ...stored } = credential;
    expect(expires).toBeGreaterThanOrEqual(from);
    expect(expires).toBeLessThanOrEqual(Date.now() + HOUR);
    const expected = { type: "oauth", provider: PROVIDER, access: raw.access_token, refresh: raw.refresh_token };
    expect(stored).toMatchObject(expected);
    expect(Object.keys(stored).sort()).toEqual([...Object.keys(expected), ...beside].sort());
    expect(JSON.parse(host.store("main")).profiles[PROFILE]).toEqual(credential);
    expect((await refreshAs(host, "main", unwanted())).outcome).toBe("fresh");
  });

  test("an id_token and what is known of a refresh token's life", async () => {
    const host = createHost({ main: expired() });
    const raw = tokens({ id_token: jwt({ sub: "s" }), refresh_token_expires_in: 7200 });
    const { credential } = await refreshAs(host, "main", async () => raw);
    expect(credential.idToken).toBe(raw.id_token);
    expect(credential.refreshExpires - credential.expires).toBe(HOUR);
  });

  test("what @azure/identity gives", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const [access, expires] = [token("access"), inAnHour()];
    const given = { token: access, expiresOnTimestamp: expires };
    const { credential } = await refreshAs(host, "main", async () => given);
    expect(credential).toMatchObject({ access, expires, refresh: old.refresh });
  });

  test("no refresh token: the old one stays", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const { access_token: access, expires_in } = tokens();
    const { credential } = await refreshAs(host, "main", async () => ({ access_token: access, expires_in }));
    expect(credential).toMatchObject({ access, refresh: old.refresh });
  });

  test.each([
    ["nothing", undefined],
    ["NaN", Number.NaN],
    ["Infinity", Number.POSITIVE_INFINITY],
    ["no date", new Date(Number.NaN)],
    ["text that is no date", "soon"],
    ["a date of no zone", "2999-01-01T00:00:00"],
  ])("no expiry but %s: half an hour", async (_, expires) => {
    const host = createHost({ main: expired() });
    const from = Date.now();
    const { credential } = await refreshAs(host, "main", async () => answer({ expires }));
    expect(credential.expires).toBeGreaterThanOrEqual(from + 30 * MINUTE);
    expect(credential.expires).toBeLessThanOrEqual(Date.now() + 30 * MINUTE);
  });

  test("an expiry beyond every date: the last one", async () => {
    const host = createHost({ main: expired() });
    const fields = answer({ expires: Number.MAX_SAFE_INTEGER });
    expect((await refreshAs(host, "main", async () => fields)).credential.expires).toBe(8.64e15);
  });
});

describe("is the provider's refusal, as if it had been thrown:", () => {
  const invalidGrant = { error: "invalid_grant", error_description: "gone" };
  test.each([
    ["a body", () => invalidGrant],
    ["its text", () => JSON.stringify(invalidGrant)],
    ["a fetch response", () => Response.json(invalidGrant, { status: 400 }), 400],
    [
      "what axios gives that is told not to throw",
      () => circular({ status: 400, headers: {}, data: invalidGrant }),
      400,
    ],
    ["what undici gives", () => ({ statusCode: 400, headers: {}, body: Response.json(invalidGrant) }), 400],
  ])("invalid_grant as %s", async (_, result, status) => {
    const old = expired();
    const host = createHost({ main: old });
    const error = await typedRejection(
      refreshAs(host, "main", async () => result()),
      "provider_refused",
    );
    expect(error.refreshFailure.class).toBe("answered_dead");
    expect(error.status).toBe(status);
    await typedRejection(refreshAs(host, "main", unwanted()), "grant_dead");
    expect(host.store("main")).toBe(storeText(old));
  });

  test("429 with Retry-After", async () => {
    const host = createHost({ main: expired() });
    const result = () => new Response("Slow down", { status: 429, headers: { "retry-after": "7" } });
    const error = await typedRejection(
      refreshAs(host, "main", async () => result(), IMPATIENT),
      "provider_refused",
    );
    expect(error).toMatchObject({ status: 429, retryAfterMs: 7000 });
    expect(error.refreshFailure).toEqual({ class: "answered_unspent", retryAfterMs: 7000 });
  });

  test("a gateway's 502", async () => {
    const host = createHost({ main: expired() });
    const result = () => new Response("<html>Bad Gateway</html>", { status: 502 });
    const error = await typedRejection(
      refreshAs(host, "main", async () => result(), IMPATIENT),
      "provider_refused",
    );
    expect(error).toMatchObject({ status: 502, refreshFailure: { class: "uncertain" } });
  });

  test("an Error that is returned", async () => {
    const host = createHost({ main: expired() });
    const given = Object.assign(new Error(token("words")), { status: 400, error: "invalid_grant" });
    const error = await rejection(refreshAs(host, "main", async () => given));
    expect(error).toBe(given);
    expect(error.refreshFailure.class).toBe("answered_dead");
  });

  test("without its words in ours", async () => {
    const host = createHost({ main: expired() });
    const said = token("description");
    const result = () => Response.json({ error: "invalid_grant", error_description: said }, { status: 400 });
    const error = await rejection(refreshAs(host, "main", async () => result()));
    expect(toldBy(error)).toEqual([]);
  });
});

test("an answer that is cut off while its body is read is uncertain", async () => {
  const host = createHost({ main: expired() });
  const cut = Object.assign(new TypeError("terminated"), {
    cause: Object.assign(new Error("other side closed"), { code: "UND_ERR_SOCKET" }),
  });
  const body = new ReadableStream({ pull: (controller) => controller.error(cut) });
  const error = await rejection(refreshAs(host, "main", async () => new Response(body), IMPATIENT));
  expect(error).toBe(cut);
  expect(error.refreshFailure.class).toBe("uncertain");
});
