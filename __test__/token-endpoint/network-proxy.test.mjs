/** Token endpoints behind a proxy: under a name that no resolver knows, so that only the proxy finds the way. */
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { expectFree, refreshAs, stopClock, typedRejection } from "../support/calls.mjs";
import { createAuthority, NAME, withTls } from "../support/certificates.mjs";
import { createHost, expired, storeText } from "../support/host.mjs";
import { byTls, surroundedBy, tunnelsTo } from "../support/network.mjs";
import { token } from "../support/secrets.mjs";
import { at, ends, freePort, http, startServer } from "../support/token-server.mjs";

const REQUEST = { tokenEndpoint: `https://${NAME}/token`, clientId: "client" };
const PATIENCE_MS = 200;
const VARIABLES = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

let authority;
beforeAll(async () => {
  authority = await createAuthority();
});

const proxyUrl = ({ port }, { scheme = "http", login = "" } = {}) => `${scheme}://${login}127.0.0.1:${port}`;

/** A login, its server, and a proxy before that, which does as the script says. */
async function prepare({ script, proxyOptions, identity = authority.server } = {}) {
  const old = expired();
  const host = createHost({ main: old });
  const server = await startServer(undefined, { create: withTls(identity) });
  const proxy = await startServer(script ?? tunnelsTo(server), proxyOptions);
  const root = authority.save(join(host.root, "root.pem"));
  const surround = (env) => surroundedBy({ SSL_CERT_FILE: root, ...env });
  return { old, host, server, proxy, surround };
}

async function expectRefreshed({ old, host, server }, request = REQUEST) {
  const { outcome, credential } = await refreshAs(host, "main", request);
  expect(outcome).toBe("refreshed");
  expect(server.presented).toEqual([old.refresh]);
  expect(host.store("main")).toBe(storeText(credential));
}

/** Expects that the server is never reached by a caller that has no patience, nor told anything. */
async function expectUnreachable({ old, host, server }) {
  stopClock();
  const call = refreshAs(host, "main", REQUEST, { timeoutMs: PATIENCE_MS });
  const error = await typedRejection(call, "provider_unreachable");
  expect(error.refreshFailure.class).toBe("not_sent");
  expect(server.requests).toEqual([]);
  expect(host.store("main")).toBe(storeText(old));
  await expectFree(host);
  return error;
}

/** What the proxy was asked: method, name, and who asks. */
const asked = ({ requests }) =>
  requests.map(({ method, path, headers }) => {
    const lower = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]);
    return [method, path, Object.fromEntries(lower)["proxy-authorization"]];
  });

const ASKED = ["CONNECT", `${NAME}:443`, undefined];

describe("the way leads through the proxy that is named by", () => {
  test.each(VARIABLES)("%s", async (variable) => {
    const scene = await prepare();
    scene.surround({ [variable]: proxyUrl(scene.proxy) });
    await expectRefreshed(scene);
    expect(asked(scene.proxy)).toEqual([ASKED]);
  });

  test.each(VARIABLES.slice(1).map((variable, before) => [VARIABLES[before], variable]))(
    "%s, not %s",
    async (...names) => {
      const scene = await prepare();
      const other = await startServer();
      const [first, second] = names;
      scene.surround({ [first]: proxyUrl(scene.proxy), [second]: proxyUrl(other) });
      await expectRefreshed(scene);
      expect(other.connections).toBe(0);
    },
  );

  test("HTTPS_PROXY without a scheme", async () => {
    const scene = await prepare();
    scene.surround({ HTTPS_PROXY: `127.0.0.1:${scene.proxy.port}` });
    await expectRefreshed(scene);
    expect(asked(scene.proxy)).toEqual([ASKED]);
  });

  test("HTTPS_PROXY and speaks TLS itself", async () => {
    const scene = await prepare({ proxyOptions: { create: withTls(authority.server) } });
    scene.surround({ HTTPS_PROXY: proxyUrl(scene.proxy, { scheme: "https" }) });
    await expectRefreshed(scene);
    expect(asked(scene.proxy)).toEqual([ASKED]);
  });

  test("HTTPS_PROXY, with its user and password", async () => {
    const scene = await prepare();
    const password = token("password");
    scene.surround({ HTTPS_PROXY: proxyUrl(scene.proxy, { login: `us%40er:${password}%3A@` }) });
    await expectRefreshed(scene);
    const authorization = `Basic ${Buffer.from(`us@er:${password}:`).toString("base64")}`;
    expect(asked(scene.proxy)).toEqual([["CONNECT", `${NAME}:443`, authorization]]);
    // It is nobody's business but the proxy's.
    expect(JSON.stringify(scene.server.requests)).not.toMatch(/proxy-authorization/i);
  });
});

test("two calls in a row use one tunnel", async () => {
  const { host, server, proxy, surround } = await prepare();
  surround({ HTTPS_PROXY: proxyUrl(proxy) });
  for (let call = 1; call <= 2; call++) await refreshAs(host, "main", REQUEST, { forceRefresh: true });
  expect([server.requests.length, server.connections, proxy.connections]).toEqual([2, 1, 1]);
});

describe("NO_PROXY", () => {
  test.each([NAME, "acme.test", ".acme.test", "*", `other.test, ${NAME}`, NAME.toUpperCase()])(
    "with %s has no proxy asked",
    async (noProxy) => {
      const scene = await prepare();
      scene.surround({ HTTPS_PROXY: proxyUrl(scene.proxy), NO_PROXY: noProxy });
      // The direct way leads nowhere.
      await expectUnreachable(scene);
      expect(scene.proxy.connections).toBe(0);
    },
  );

  test.each(["other.test", "me.test", "127.0.0.1", `an.${NAME}`])("with %s is about others", async (noProxy) => {
    const scene = await prepare();
    scene.surround({ HTTPS_PROXY: proxyUrl(scene.proxy), NO_PROXY: noProxy });
    await expectRefreshed(scene);
  });

  test("is overruled by no_proxy", async () => {
    const scene = await prepare();
    scene.surround({ HTTPS_PROXY: proxyUrl(scene.proxy), NO_PROXY: "*", no_proxy: "other.test" });
    await expectRefreshed(scene);
  });
});

test("the proxy is looked up at each call", async () => {
  const scene = await prepare();
  scene.surround({ HTTPS_PROXY: proxyUrl({ port: await freePort() }) });
  await expectUnreachable(scene);
  scene.surround({ HTTPS_PROXY: proxyUrl(scene.proxy) });
  await expectRefreshed(scene);
});

test.each(["localhost", "127.0.0.1"])("%s is asked without a proxy", async (name) => {
  const scene = await prepare();
  scene.surround(Object.fromEntries(VARIABLES.map((variable) => [variable, proxyUrl(scene.proxy)])));
  await expectRefreshed(scene, byTls(scene.server, { host: name }));
  const plain = await startServer();
  const { tokenEndpoint, ...request } = at(plain);
  const url = tokenEndpoint.replace("127.0.0.1", name);
  await refreshAs(scene.host, "main", { ...request, tokenEndpoint: url }, { forceRefresh: true });
  expect([plain.requests.length, scene.proxy.connections]).toEqual([1, 0]);
});

describe("nothing is sent, and no password told, if the proxy", () => {
  const password = token("password");
  const login = `user:${password}@`;
  const answers = (status) => ends(http(status, `Not with ${password}`, { "x-told": password }));

  test.each([
    ["forbids it", answers(403)],
    ["wants another password", answers(407)],
    ["wants a login at its own page", answers(511)],
    ["does not reach the server", answers(502)],
    ["is busy", answers(503)],
    ["redirects", ends(http(302, "", { location: `https://${password}.test/` }))],
    ["closes the connection", (_, socket) => socket.end()],
    ["resets the connection", (_, socket) => socket.resetAndDestroy()],
    ["does not speak HTTP", ends(`${password}\r\n\r\n`)],
    ["answers without an end", (_, socket) => socket.write(`HTTP/1.1 200 OK\r\nx: ${password.repeat(4096)}`)],
    ["closes the tunnel", ends("HTTP/1.1 200 OK\r\n\r\n")],
  ])("%s", async (_, script) => {
    const scene = await prepare({ script });
    scene.surround({ HTTPS_PROXY: proxyUrl(scene.proxy, { login }) });
    const error = await expectUnreachable(scene);
    expect(error.message).toContain(NAME);
    expect([scene.proxy.requests.length, scene.server.connections]).toEqual([1, 0]);
  });

  test("is not there", async () => {
    const scene = await prepare();
    scene.surround({ HTTPS_PROXY: proxyUrl({ port: await freePort() }, { login }) });
    await expectUnreachable(scene);
  });

  test("leads to a server with another's certificate", async () => {
    const scene = await prepare({ identity: authority.anothers });
    scene.surround({ HTTPS_PROXY: proxyUrl(scene.proxy, { login }) });
    await expectUnreachable(scene);
    expect(scene.proxy.requests).toHaveLength(1);
  });

  test("has a certificate that nobody vouches for", async () => {
    const scene = await prepare({ proxyOptions: { create: withTls(authority.server) } });
    surroundedBy({ HTTPS_PROXY: proxyUrl(scene.proxy, { scheme: "https", login }) });
    await expectUnreachable(scene);
    expect(scene.proxy.requests).toEqual([]);
  });

  test.each(["socks5", "socks5h", "SOCKS4", "ftp"])("is one for %s, and the variable is named", async (scheme) => {
    const scene = await prepare();
    scene.surround({ HTTPS_PROXY: proxyUrl(scene.proxy, { scheme, login }) });
    const error = await expectUnreachable(scene);
    expect(error.message).toContain("HTTPS_PROXY");
    expect(scene.proxy.connections).toBe(0);
  });

  test.each(["http://", "http://[", "http://a b/", `http://${login}:`])(
    "is %s, and the variable is named",
    async (url) => {
      const scene = await prepare();
      scene.surround({ HTTPS_PROXY: url });
      const error = await expectUnreachable(scene);
      expect(error.message).toContain("HTTPS_PROXY");
    },
  );
});
