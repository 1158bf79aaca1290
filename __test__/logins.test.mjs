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
