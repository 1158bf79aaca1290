/** `saveOAuthLogin` and `removeOAuthLogin` beside refreshes. */
import { removeOAuthLogin, saveOAuthLogin, withOAuthRefreshLock } from "oauth-refresh-lock";
import { expect, test } from "vitest";
import { askingElsewhere } from "./support/agents.mjs";
import { deferred } from "./support/events.mjs";
import { answer, createHost, expired, PROFILE, PROVIDER, storeText, usable } from "./support/host.mjs";
import { memoryStore } from "./support/host-stores.mjs";

const ROUNDS = 40;
const AGENTS = 20;

const bystanders = (text) => text.split("\n").filter((line) => line.includes("bystander") || line.includes("usage"));

test("logins that are stored while twenty agents refresh win, and nobody meets a torn store", async () => {
  const host = createHost();
  const names = Array.from({ length: AGENTS }, (_, at) => `agent-${at}`);
  for (const name of ["main", ...names]) host.seed(name, expired());
  const before = bystanders(host.store("main"));
  const errors = [];
  let isOver = false;
  const refreshing = names.map(async (name) => {
    while (!isOver) {
      const call = withOAuthRefreshLock(PROVIDER, PROFILE, () => answer(), host.as(name, { forceRefresh: true }));
      await call.catch((error) => errors.push(error.code));
    }
  });
  for (let round = 0; round < ROUNDS; round++) {
    const login = usable();
    expect(await saveOAuthLogin(PROVIDER, PROFILE, login, host.as("main"))).toMatchObject({ outcome: "replaced" });
  }
  isOver = true;
  await Promise.all(refreshing);
  // A login that lands during one's own call is told as such, where it is not served.
  expect(errors.filter((code) => code !== "superseded")).toEqual([]);
  expect(bystanders(host.store("main"))).toEqual(before);
});

test("a login that lands while another process asks the provider is what that process gets", async () => {
  const host = createHost();
  host.seed("main", expired());
  const [, call] = await askingElsewhere({ options: host.as("main") });
  const login = usable();
  await saveOAuthLogin(PROVIDER, PROFILE, login, host.as("main"));
  call.answer(answer());
  const [{ result }] = await call.settled;
  expect(result.credential.access).toBe(login.access);
  expect(host.store("main")).toContain(login.refresh);
});

test("a logout while the provider is asked stays", async () => {
  const host = createHost();
  host.seed("main", expired());
  const [asked, given] = [deferred(), deferred()];
  const call = withOAuthRefreshLock(
    PROVIDER,
    PROFILE,
    () => {
      asked.resolve();
      return given.promise;
    },
    host.as("main"),
  );
  await asked.promise;
  expect(await removeOAuthLogin(PROVIDER, PROFILE, host.as("main"))).toEqual({
    removed: true,
    path: host.storePath("main"),
  });
  given.resolve(answer());
  expect(await call).toBeNull();
  expect(JSON.parse(host.store("main")).profiles[PROFILE]).toBeUndefined();
  expect(bystanders(host.store("main"))).toEqual(bystanders(storeText(expired())));
});

test("a host's own store takes a login, and logs out by itself", async () => {
  const store = memoryStore("keychain");
  const host = createHost();
  const login = usable();
  const saved = await saveOAuthLogin(PROVIDER, PROFILE, login, { stateDir: host.stateDir, store });
  expect(saved).toEqual({ outcome: "added", path: `host:${store.name}` });
  expect(await store.load(PROFILE)).toMatchObject({ access: login.access });
  const removing = removeOAuthLogin(PROVIDER, PROFILE, { stateDir: host.stateDir, store });
  await expect(removing).rejects.toMatchObject({ code: "invalid_argument" });
});

/** What a provider answers, as it came. */
function answerFor(user, n) {
  const jwt = (claims) => `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.c2ln`;
  const claims = { iss: "https://auth.openai.com", sub: user };
  const workspace = { "https://api.openai.com/auth": { chatgpt_account_id: "workspace" } };
  const access_token = jwt({ ...claims, ...workspace, aud: "api", n });
  return { access_token, refresh_token: `${user}-${n}`, id_token: jwt({ ...claims, email: `${user}@x.test` }) };
}

test("a login is whose its tokens say, and gives way to no other person's of the same workspace", async () => {
  const host = createHost();
  const where = host.as("main");
  const login = (user, n, more) =>
    saveOAuthLogin("openai-codex", "openai-codex:team", answerFor(user, n), { ...where, ...more });
  const stored = () => JSON.parse(host.store("main")).profiles["openai-codex:team"];
  await login("alice", 1);
  expect(stored()).toMatchObject({ accountId: "workspace", email: "alice@x.test", subject: "alice" });
  const before = host.store("main");
  await expect(login("bob", 1)).rejects.toMatchObject({ code: "identity_mismatch" });
  expect(host.store("main")).toBe(before);
  expect(await login("alice", 2)).toMatchObject({ outcome: "replaced" });
  expect(await login("bob", 1, { replace: true })).toMatchObject({ outcome: "replaced" });
  expect(stored()).toMatchObject({ accountId: "workspace", email: "bob@x.test", subject: "bob", refresh: "bob-1" });
});

test.each([
  ["a response", () => new Response(JSON.stringify({ access_token: "new", refresh_token: "next", expires_in: 60 }))],
  ["a form", () => "access_token=new&refresh_token=next&expires_in=60"],
  ["an object with methods", () => ({ accessToken: () => "new", refreshToken: () => "next" })],
])("%s is a login as it is a refresh's result", async (_, given) => {
  const host = createHost();
  await saveOAuthLogin(PROVIDER, PROFILE, given(), host.as("main"));
  expect(JSON.parse(host.store("main")).profiles[PROFILE]).toMatchObject({ access: "new", refresh: "next" });
});

test("a logout where nobody is logged in makes no directory", async () => {
  const host = createHost();
  const before = host.tree();
  expect(await removeOAuthLogin(PROVIDER, PROFILE, host.as("main"))).toMatchObject({ removed: false });
  expect(host.tree()).toEqual(before);
});

test.each([
  ["a credential that is none", () => saveOAuthLogin(PROVIDER, PROFILE, 7)],
  [
    "one with a circle",
    () =>
      saveOAuthLogin(
        PROVIDER,
        PROFILE,
        Object.assign(
          {},
          { self: null },
          {
            toJSON: () => {
              throw new Error("SECRET");
            },
          },
        ),
      ),
  ],
  ["an error", () => saveOAuthLogin(PROVIDER, PROFILE, new Error("SECRET"))],
  ["a refusal", () => saveOAuthLogin(PROVIDER, PROFILE, new Response('{"error":"invalid_grant"}', { status: 400 }))],
  ["an unknown option", () => saveOAuthLogin(PROVIDER, PROFILE, usable(), { replaces: true })],
  ["a blank provider", () => saveOAuthLogin(" ", PROFILE, usable())],
  [
    "an unknown member of refreshedBy",
    () => saveOAuthLogin(PROVIDER, PROFILE, usable(), { refreshedBy: { secret: "SECRET" } }),
  ],
  ["a removal that replaces", () => removeOAuthLogin(PROVIDER, PROFILE, { replace: true })],
])("%s is refused", async (_, call) => {
  const error = await call().catch((error) => error);
  expect(error).toMatchObject({ code: "invalid_argument" });
  expect(error.message).not.toContain("SECRET");
});
