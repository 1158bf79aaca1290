/** Logins in pi's credential store in memory, beside pi's own refresh: both by the real package. Its file: pi-file.test.mjs. */
import { expect, onTestFinished, test, vi } from "vitest";
import { piStore } from "../examples/pi-store.mjs";
import { createOAuthClient } from "../index.mjs";
import { held, rejection, unwanted } from "./support/calls.mjs";
import { answer, createHost, expired, usable } from "./support/host.mjs";
import { InMemoryCredentialStore, piLogin, tokenOfPi } from "./support/pi.mjs";

/** Pi's store with a login, our client of it, and pi's way to a token; both ask this provider. */
async function setUp(login, provider) {
  const host = createHost();
  const credentials = new InMemoryCredentialStore();
  if (login) await credentials.modify("acme", async () => piLogin(login));
  const options = { provider: "acme", profileId: "acme", stateDir: host.stateDir, store: piStore(credentials) };
  const client = createOAuthClient({ ...options, refresh: (current, context) => provider(current, context) });
  const byPi = tokenOfPi(credentials, (current, context) => provider(current, context));
  return { credentials, client, byPi, options };
}

/** Gives tokens for a refresh token once, and ends the login if it comes again. */
function rotating() {
  const spent = new Set();
  return vi.fn(async ({ refresh }) => {
    if (spent.has(refresh)) throw Object.assign(new Error("reused"), { error: "invalid_grant" });
    spent.add(refresh);
    await new Promise(setImmediate);
    return answer();
  });
}

test.each([
  ["ours first", (ours, pis) => [...ours.map((call) => call()), ...pis.map((call) => call())]],
  ["pi first", (ours, pis) => [...pis.map((call) => call()), ...ours.map((call) => call())]],
])("ten of ours and ten of pi's with one expired login: one call, one token (%s)", async (_, start) => {
  for (let round = 0; round < 10; round++) {
    const provider = rotating();
    const login = expired();
    const { client, byPi, credentials } = await setUp(login, provider);
    const given = await Promise.all(start(Array(10).fill(client.token), Array(10).fill(byPi)));
    expect(new Set(given).size).toBe(1);
    expect(provider).toHaveBeenCalledTimes(1);
    const stored = await credentials.read("acme");
    expect(stored.access).toBe(given[0]);
    expect(Object.keys(stored).sort()).toEqual(["access", "expires", "refresh", "type"]);
  }
});

test("pi waits while we ask, and reads meanwhile", async () => {
  const slow = held();
  const login = expired();
  const { client, byPi, credentials } = await setUp(login, slow.refresh);
  const ours = client.token();
  await slow.called;
  const pis = byPi();
  expect(await credentials.read("acme")).toEqual(piLogin(login));
  const fields = answer();
  slow.answer(fields);
  expect(await Promise.all([ours, pis])).toEqual([fields.access, fields.access]);
  expect(slow.refresh).toHaveBeenCalledTimes(1);
});

test("a caller that leaves while we wait for pi's lock leaves no lock behind", async () => {
  const { client, credentials } = await setUp(expired(), unwanted());
  let release;
  const busy = credentials.modify("acme", () => new Promise((resolve) => (release = resolve)));
  onTestFinished(() => release());
  const controller = new AbortController();
  const leaving = client.token({ signal: controller.signal });
  await new Promise((resolve) => setTimeout(resolve, 50));
  controller.abort();
  expect((await rejection(leaving)).code).toBe("caller_aborted");
  const login = usable();
  release(piLogin(login));
  await busy;
  expect(await client.token()).toBe(login.access);
  await credentials.modify("acme", async () => undefined);
});

test("what is received after its caller has left is stored all the same", async () => {
  const slow = held();
  const { client, byPi } = await setUp(expired(), slow.refresh);
  const controller = new AbortController();
  const leaving = client.token({ signal: controller.signal });
  await slow.called;
  controller.abort();
  expect((await rejection(leaving)).code).toBe("caller_aborted");
  const fields = answer();
  slow.answer(fields);
  expect(await byPi()).toBe(fields.access);
  expect(slow.refresh).toHaveBeenCalledTimes(1);
});

test("a refresh that fails changes nothing, and lets pi's lock go", async () => {
  const login = expired();
  const failing = vi.fn(() => Promise.reject(Object.assign(new Error("no"), { error: "invalid_grant" })));
  const { client, credentials } = await setUp(login, failing);
  expect((await rejection(client.token())).message).toBe("no");
  expect(await credentials.modify("acme", async () => undefined)).toEqual(piLogin(login));
});

test("an API key is left alone, and a login that is not there is told", async () => {
  for (const stored of [undefined, { type: "api_key", key: "k" }]) {
    const { client, credentials } = await setUp(undefined, unwanted());
    if (stored) await credentials.modify("acme", async () => stored);
    expect((await rejection(client.token())).code).toBe("no_login");
    expect(await credentials.read("acme")).toEqual(stored);
  }
});
