/** Logins in pi's own file, beside pi, in processes of their own: pi's real store, a real OAuth server, and one that wants its tokens. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import lockfile from "proper-lockfile";
import { expect, onTestFinished, test, vi } from "vitest";
import { piStore } from "../examples/pi-store.mjs";
import { createOAuthClient } from "../index.mjs";
import { listen } from "./support/calls.mjs";
import { answer, createHost, expired } from "./support/host.mjs";
import { AuthStorage, piLogin } from "./support/pi.mjs";
import { granted, server as provider } from "./support/real-provider.mjs";
import { startResource } from "./support/resource-server.mjs";

const PROGRAM = join(import.meta.dirname, "support", "pi-program.mjs");
const MANY = 10;
const OTHER = { type: "api_key", key: "kept" };

/** Pi's file with this login. */
function createFile(login) {
  const host = createHost();
  const path = join(host.root, "auth.json");
  const put = (login) => writeFileSync(path, JSON.stringify({ acme: piLogin(login), other: OTHER }), { mode: 0o600 });
  put(login);
  return { host, path, put, read: () => JSON.parse(readFileSync(path, "utf8")) };
}

/** A process that makes requests with the login's token. */
async function startProgram(given) {
  const env = { PATH: process.env.PATH, HOME: process.env.HOME, PI_PROGRAM: JSON.stringify(given) };
  const child = fork(PROGRAM, { env });
  onTestFinished(() => void child.kill());
  const heard = async () => (await once(child, "message"))[0];
  await heard();
  return (url) => {
    const answer = heard();
    child.send({ url });
    return answer;
  };
}

test("ten processes of ours and of pi's, an expiry and a refused token: two calls of the provider, and every answer", async () => {
  const { host, path, read } = createFile(await granted());
  const resource = await startResource(({ access }) => ({ body: access }));
  const { issuer, tokenEndpoint, clientId } = provider;
  const given = { path, stateDir: host.stateDir, server: { issuer, tokenEndpoint, clientId } };
  const start = (_, index) => startProgram({ ...given, isPi: index % 2 === 1 });
  const programs = await Promise.all(Array.from({ length: MANY }, start));
  const ask = (asking) => Promise.all(asking.map((program) => program(resource.url)));

  const [first, ...others] = await ask(programs);
  expect(first).toEqual({ status: 200, body: read().acme.access });
  expect(others).toEqual(Array(MANY - 1).fill(first));
  expect(provider.stats()).toMatchObject({ refreshCalls: 1, refreshed: 1 });

  resource.revoke(first.body);
  // Pi replaces no token that was refused; it finds ours.
  const [ours, pis] = [0, 1].map((at) => programs.filter((_, index) => index % 2 === at));
  const after = [...(await ask(ours)), ...(await ask(pis))];
  expect(after).toEqual(Array(MANY).fill({ status: 200, body: read().acme.access }));
  expect(after[0].body).not.toBe(first.body);
  expect(provider.stats()).toMatchObject({ refreshCalls: 2, refreshed: 2, reuseErrors: 0, grantsRevoked: 0 });
  expect(read().other).toEqual(OTHER);
});

test("what pi has stored while we waited for its lock is what we refresh, and at once", async () => {
  const { host, path, put, read } = createFile(expired());
  const next = expired();
  const fields = answer();
  const refresh = vi.fn(async () => fields);
  const store = piStore(AuthStorage.create(path));
  const client = createOAuthClient({
    provider: "acme",
    profileId: "acme",
    stateDir: host.stateDir,
    store,
    refresh,
  });
  const release = await lockfile.lock(path);
  const log = listen();
  const token = client.token();
  await log.seen({ type: "acquired" });
  put(next);
  await release();
  expect(await token).toBe(fields.access);
  expect(refresh.mock.calls.map(([{ refresh }]) => refresh)).toEqual([next.refresh]);
  expect(read()).toEqual({ acme: piLogin({ ...next, ...fields }), other: OTHER });
});
