/**
 * What the usual clients give and throw, each called as its README says, against a server that answers as a script says: the
 * tokens are stored, and each failure is taken for what it is.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import { connect } from "node:net";
import { beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { refreshAs, typedRejection, unwanted } from "../support/calls.mjs";
import { createAuthority, withTls } from "../support/certificates.mjs";
import { createHost, expired, MINUTE, PROFILE, storeText } from "../support/host.mjs";
import { freePort, http, json, says, startServer, tokens } from "../support/token-server.mjs";
import { LIBRARIES } from "./libraries.mjs";

/** Enough for an answer that is there at once, even on a busy machine. */
const LONG_MS = 30_000;
/** For a server that never answers. */
const SHORT_MS = 300;
const RETRY_AFTER_S = 7;

const html = (status) => says(http(status, "<html>Sorry</html>", { "content-type": "text/html" }));
const wait = { "retry-after": RETRY_AFTER_S };

/** A script of the server, and the class of what the library makes of it. */
const ANSWERS = [
  ["invalid_grant", says(json({ error: "invalid_grant" }, 400)), "answered_dead"],
  ["429 with Retry-After", says(json({ message: "Slow down" }, 429, wait)), "answered_unspent"],
  [
    "503 with Retry-After",
    says(http(503, "<html>Sorry</html>", { ...wait, "content-type": "text/html" })),
    "answered_unspent",
  ],
  ["500", html(500), "uncertain"],
  ["502", html(502), "uncertain"],
  ["a page for an answer", html(200), "uncertain"],
  ["a reset after the request was read", (_, socket) => socket.resetAndDestroy(), "uncertain"],
  ["an end after the request was read", (_, socket) => socket.end(), "uncertain"],
  ["no answer in time", () => {}, "uncertain"],
];

/** Where nothing can be sent to, and why. */
const UNREACHED = [
  ["a refused connection", async () => `http://127.0.0.1:${await freePort()}/token`],
  ["a name that does not exist", async () => "https://login.invalid/token"],
  [
    "a certificate that nobody vouches for",
    async () => {
      const server = await startServer(undefined, { create: withTls(authority.server) });
      return `https://localhost:${server.port}/token`;
    },
  ],
];

let authority;
beforeAll(async () => {
  authority = await createAuthority();
});

/** A proxy for CONNECT, as far as the target can be reached. */
async function startProxy() {
  const proxy = createServer();
  proxy.on("connect", (request, socket) => {
    const { hostname, port } = new URL(`http://${request.url}`);
    const target = connect(Number(port) || 80, hostname);
    socket.on("error", () => target.destroy());
    target.on("error", () => socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n"));
    target.on("connect", () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      socket.pipe(target).pipe(socket);
    });
    target.on("close", () => socket.destroy());
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  onTestFinished(() => {
    proxy.closeAllConnections();
    proxy.close();
  });
  return `http://127.0.0.1:${proxy.address().port}`;
}

/** A refresh function that counts, by this library. */
async function refresher(library, url, timeoutMs = LONG_MS) {
  const proxy = library.isProxied ? await startProxy() : undefined;
  if (library.usesGlobalTimeout) await limitFetch(timeoutMs);
  return vi.fn(({ refresh }, { signal }) => library.ask({ url, timeoutMs, proxy, refresh, signal }));
}

/** Node's own limit for `fetch`, shortened: through the dispatcher that it keeps under this name. */
async function limitFetch(headersTimeout) {
  const key = Symbol.for("undici.globalDispatcher.1");
  await fetch("data:,");
  const before = globalThis[key];
  globalThis[key] = new before.constructor({ headersTimeout });
  onTestFinished(() => {
    globalThis[key] = before;
  });
}

/** A result that is no credential is uncertain. */
const classOf = (error) => (error.code === "invalid_refresh_result" ? "uncertain" : error.refreshFailure?.class);

/** What can be seen of a failure: some libraries hide what came. */
const visible = (library, name, failure) => (library.hides?.includes(name) ? "uncertain" : failure);

async function expectFailure(library, url, { failure, timeoutMs }) {
  // Who has no good token waits for what passes.
  const old = expired({ expires: Date.now() + MINUTE });
  const attempt = async () => {
    const host = createHost({ main: old });
    const refresh = await refresher(library, url, timeoutMs);
    const { refreshError: error } = await refreshAs(host, "main", refresh);
    return { host, refresh, error };
  };
  // One with a good token waits a second for a file operation, which a busy machine may take.
  const first = await attempt();
  const isLate = ["caller_timeout", "file_lock_timeout"].includes(first.error.code);
  const { host, refresh, error } = isLate ? await attempt() : first;
  expect(classOf(error), `${error.stack}`).toBe(failure);
  expect(refresh).toHaveBeenCalledTimes(1);
  expect(host.store("main")).toBe(storeText(old));
  return { error, host };
}

describe.each(Object.entries(LIBRARIES))("%s", (_name, library) => {
  test("tokens are stored", async () => {
    const given = tokens({ scope: "s", expires_in: 3600 });
    const old = expired();
    const host = createHost({ main: old });
    const server = await startServer(says(json(given)));
    const refresh = await refresher(library, server.url);
    const from = Math.floor(Date.now() / 1000) * 1000;
    const { outcome, credential } = await refreshAs(host, "main", refresh);
    expect(outcome).toBe("refreshed");
    const token = library.keepsRefreshToken ? old.refresh : given.refresh_token;
    const { expires, ...stored } = credential;
    const { expires: _, ...before } = old;
    expect(stored).toEqual({ ...before, access: given.access_token, refresh: token });
    expect(expires).toBeGreaterThanOrEqual(from + 3_600_000);
    expect(expires).toBeLessThanOrEqual(Date.now() + 3_601_000);
    expect(JSON.parse(host.store("main")).profiles[PROFILE]).toEqual(credential);
    expect(server.presented).toEqual([old.refresh]);
    expect((await refreshAs(host, "main", unwanted())).outcome).toBe("fresh");
  });

  test.each(ANSWERS)("%s", async (name, script, expected) => {
    const failure = visible(library, name, expected);
    const server = await startServer(script);
    const timeoutMs = name === "no answer in time" ? SHORT_MS : LONG_MS;
    const { error, host } = await expectFailure(library, server.url, { failure, timeoutMs });
    expect(server.requests).toHaveLength(1);
    const next = () => refreshAs(host, "main", unwanted(), { serveUnexpired: false });
    if (failure === "answered_dead") await typedRejection(next(), "grant_dead");
    if (failure === "answered_unspent" && library.keepsRetryAfter !== false) {
      expect(error.refreshFailure.retryAfterMs).toBe(RETRY_AFTER_S * 1000);
    }
  });

  test.each(UNREACHED)("%s", async (name, start) => {
    await expectFailure(library, await start(), { failure: visible(library, name, "not_sent") });
  });
});
