/** Whom a token endpoint's certificate convinces: who is told of its root by the environment, and nobody else. */
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { refreshOAuthToken } from "../../index.mjs";
import { startAgent } from "../support/agents.mjs";
import { expectFree, listen, refreshAs, stopClock, typedRejection } from "../support/calls.mjs";
import { ANOTHERS_NAMES, createAuthority, createSelfSigned, withTls } from "../support/certificates.mjs";
import { createHost, expired, storeText } from "../support/host.mjs";
import { byTls, surroundedBy } from "../support/network.mjs";
import { startProgram } from "../support/programs.mjs";
import { token } from "../support/secrets.mjs";
import { startServer } from "../support/token-server.mjs";

const ROOT_VARIABLES = ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"];

let authority;
let anotherAuthority;
beforeAll(async () => {
  [authority, anotherAuthority] = await Promise.all([createAuthority(), createAuthority()]);
});

/** A login, and a server with a certificate that this authority's root vouches for. */
async function prepare({ identity = authority.server } = {}) {
  const old = expired();
  const host = createHost({ main: old });
  const server = await startServer(undefined, { create: withTls(identity) });
  return { old, host, server, path: (name) => join(host.root, name) };
}

async function expectRefreshed({ old, host, server }, request = byTls(server)) {
  const { outcome, credential } = await refreshAs(host, "main", request);
  expect(outcome).toBe("refreshed");
  expect(server.presented).toEqual([old.refresh]);
  expect(host.store("main")).toBe(storeText(credential));
}

/** Expects that the server is refused at once and for good, before it is told anything. */
async function expectRefused({ old, host, server }) {
  const log = listen();
  const error = await typedRejection(refreshAs(host, "main", byTls(server)), "provider_unreachable");
  expect(error.refreshFailure.class).toBe("not_sent");
  expect(log.types({ type: "dispatched" })).toHaveLength(1);
  expect([server.connections, server.requests]).toEqual([0, []]);
  expect(host.store("main")).toBe(storeText(old));
  await expectFree(host);
  return error;
}

describe("a root is trusted that is named by", () => {
  test.each(ROOT_VARIABLES)("%s", async (variable) => {
    const scene = await prepare();
    surroundedBy({ [variable]: authority.save(scene.path("root.pem")) });
    await expectRefreshed(scene);
  });

  test("either of them, when both are set", async () => {
    const scenes = [await prepare(), await prepare({ identity: anotherAuthority.server })];
    surroundedBy({
      NODE_EXTRA_CA_CERTS: authority.save(scenes[0].path("root.pem")),
      SSL_CERT_FILE: anotherAuthority.save(scenes[1].path("root.pem")),
    });
    for (const scene of scenes) await expectRefreshed(scene);
  });

  test.each(ROOT_VARIABLES)("%s when the process was started", async (variable) => {
    const { old, host, server, path } = await prepare();
    const agent = await startAgent({ env: { [variable]: authority.save(path("root.pem")) } });
    const [{ result }] = await agent.refresh({ options: host.as("main"), endpoint: byTls(server) }).settled;
    expect(result.outcome).toBe("refreshed");
    expect(server.presented).toEqual([old.refresh]);
  });

  test("one of them, as the second of a bundle whose first certificate is no certificate", async () => {
    const scene = await prepare();
    const nonsense = authority.root.replace(/(?<=-\n|\r)[^-]+/, "bm9uc2Vuc2U=\n");
    writeFileSync(scene.path("bundle.pem"), `${nonsense}\n${authority.root}`);
    surroundedBy({ SSL_CERT_FILE: scene.path("bundle.pem") });
    await expectRefreshed(scene);
  });
});

describe("SSL_CERT_DIR names directories", () => {
  /** A directory with a root among other things. */
  function directory(scene, name, save = authority.save) {
    const path = scene.path(name);
    mkdirSync(join(path, "below"), { recursive: true });
    writeFileSync(join(path, "README"), "no certificate");
    symlinkSync(join(path, "missing"), join(path, "a-link.pem"));
    save(join(path, "a-root.crt"));
    return path;
  }

  test("of files, each with roots, whatever it is called", async () => {
    const scene = await prepare();
    surroundedBy({ SSL_CERT_DIR: directory(scene, "roots") });
    await expectRefreshed(scene);
  });

  test("several, beside a file", async () => {
    const other = await createAuthority();
    const identities = [authority.server, anotherAuthority.server, other.server];
    const scenes = await Promise.all(identities.map((identity) => prepare({ identity })));
    const [scene] = scenes;
    const directories = [directory(scene, "one"), directory(scene, "two", anotherAuthority.save)];
    surroundedBy({
      SSL_CERT_DIR: `${directories.join(delimiter)}${delimiter}`,
      SSL_CERT_FILE: other.save(scene.path("root.pem")),
    });
    for (const scene of scenes) await expectRefreshed(scene);
  });

  test("and the message names one without a root", async () => {
    const scene = await prepare();
    mkdirSync(scene.path("empty"));
    surroundedBy({ SSL_CERT_DIR: scene.path("empty") });
    expect((await expectRefused(scene)).message).toContain(scene.path("empty"));
  });
});

describe("the system's roots", () => {
  const asks = async (work) => {
    const { server, path } = await prepare();
    const request = byTls(server, { refreshToken: token("refresh") });
    const env = { SSL_CERT_FILE: authority.save(path("root.pem")) };
    const program = startProgram("system-roots", { request, env: {}, execArgv: [], ...work }, { env });
    await program.disconnected;
    const [told] = program.log.matching({});
    expect(server.requests).toHaveLength(told.type === "refreshed" ? 1 : 0);
    return told;
  };

  test.each([
    ["NODE_USE_SYSTEM_CA=1", { env: { NODE_USE_SYSTEM_CA: "1" } }],
    ["NODE_OPTIONS with --use-system-ca", { env: { NODE_OPTIONS: "--no-warnings --use-system-ca" } }],
    ["--use-system-ca on the command line", { execArgv: ["--use-system-ca"] }],
    [
      "--use-system-ca on the command line, whatever NODE_OPTIONS says",
      { execArgv: ["--use-system-ca"], env: { NODE_OPTIONS: "--no-use-system-ca" } },
    ],
  ])("are trusted with %s", async (_, work) => {
    expect(await asks(work)).toMatchObject({ type: "refreshed" });
  });

  test.each([
    ["nobody says so", {}],
    ["NODE_USE_SYSTEM_CA is 0", { env: { NODE_USE_SYSTEM_CA: "0" } }],
    ["an option says no", { execArgv: ["--no-use-system-ca"], env: { NODE_USE_SYSTEM_CA: "1" } }],
  ])("are not where %s", async (_, work) => {
    const told = await asks(work);
    expect(told).toMatchObject({ type: "failed", code: "provider_unreachable" });
    expect(told.message).toMatch(/UnknownIssuer.*; nothing was sent, .* NODE_EXTRA_CA_CERTS/);
  });
});

describe("an authority's certificate that the server has for its own", () => {
  const DAY = 86_400_000;
  const named = async (identity, trusted = identity) => {
    const scene = await prepare({ identity });
    writeFileSync(scene.path("root.pem"), trusted.cert);
    surroundedBy({ NODE_EXTRA_CA_CERTS: scene.path("root.pem") });
    return scene;
  };

  test.each(["127.0.0.1", "localhost"])("is good for %s where it is named as trusted", async (host) => {
    const scene = await named(await createSelfSigned());
    await expectRefreshed(scene, byTls(scene.server, { host }));
  });

  test("is refused where nobody has named it, and the message says how to", async () => {
    const scene = await named(await createSelfSigned(), authority.server);
    const { message } = await expectRefused(scene);
    expect(message).toMatch(/its certificate is a CA's own, which is not trusted.* NODE_EXTRA_CA_CERTS$/);
  });

  test.each([
    ["another of its names was", async () => [await createSelfSigned(), await createSelfSigned()]],
    ["it is for another host", async () => [await createSelfSigned({ subjectAltName: ANOTHERS_NAMES })]],
    [
      "it has expired",
      async () => {
        const dates = { notBeforeDate: new Date(Date.now() - 2 * DAY), notAfterDate: new Date(Date.now() - DAY) };
        return [await createSelfSigned(dates)];
      },
    ],
    ["it is not valid yet", async () => [await createSelfSigned({ notBeforeDate: new Date(Date.now() + DAY) })]],
  ])("is refused where %s", async (_, make) => {
    const scene = await named(...(await make()));
    expect((await expectRefused(scene)).message).toMatch(/certificate/);
  });
});

test.each(["localhost", "127.0.0.1"])("a certificate is good for %s", async (name) => {
  const scene = await prepare();
  surroundedBy({ SSL_CERT_FILE: authority.save(scene.path("root.pem")) });
  await expectRefreshed(scene, byTls(scene.server, { host: name }));
});

describe("a server is refused before it is told anything", () => {
  test("whose root nobody has named, until somebody does", async () => {
    const scene = await prepare();
    surroundedBy();
    const error = await expectRefused(scene);
    expect(error.message).toMatch(/certificate/);
    surroundedBy({ NODE_EXTRA_CA_CERTS: authority.save(scene.path("root.pem")) });
    await expectRefreshed(scene);
  });

  test("whose certificate is another authority's", async () => {
    const scene = await prepare({ identity: anotherAuthority.server });
    surroundedBy({ NODE_EXTRA_CA_CERTS: authority.save(scene.path("root.pem")) });
    await expectRefused(scene);
  });

  test("whose certificate is for another host", async () => {
    const scene = await prepare({ identity: authority.anothers });
    surroundedBy({ NODE_EXTRA_CA_CERTS: authority.save(scene.path("root.pem")) });
    const error = await expectRefused(scene);
    expect(error.message).toMatch(/certificate/);
  });
});

describe("an error names the file, if TLS fails and it is", () => {
  test.each([
    ["an empty directory", mkdirSync],
    ["empty", (path) => writeFileSync(path, "")],
    ["without a certificate", (path) => writeFileSync(path, authority.server.key)],
  ])("%s", async (_, make) => {
    const scene = await prepare();
    const path = scene.path("roots");
    make(path);
    surroundedBy({ SSL_CERT_FILE: path });
    const error = await expectRefused(scene);
    expect(error.message).toContain(path);
  });

  test("missing at first, and is read once it is there", async () => {
    const scene = await prepare();
    surroundedBy({ SSL_CERT_FILE: scene.path("root.pem") });
    await expectRefused(scene);
    authority.save(scene.path("root.pem"));
    await expectRefreshed(scene);
  });

  test("missing, but does not if something else fails", async () => {
    const { host, path } = await prepare();
    surroundedBy({ SSL_CERT_FILE: path("missing.pem") });
    stopClock();
    const nowhere = { tokenEndpoint: "https://no-such-host.invalid/token", clientId: "client" };
    const error = await typedRejection(refreshAs(host, "main", nowhere, { timeoutMs: 200 }), "provider_unreachable");
    expect(error.message).not.toContain("missing.pem");
  });
});

describe("an https endpoint that does no TLS is not told anything:", () => {
  const HELLO = "220 mail.example.test ESMTP\r\n";

  test.each([
    ["it speaks first", (socket) => socket.write(HELLO)],
    ["it answers a greeting with words", (socket) => socket.once("data", () => socket.write(HELLO))],
    ["it answers a greeting with HTTP", (socket) => socket.once("data", () => socket.end("HTTP/1.1 400 Bad\r\n\r\n"))],
    ["it hangs up on a greeting", (socket) => socket.once("data", () => socket.end())],
    ["it resets on a greeting", (socket) => socket.once("data", () => socket.resetAndDestroy())],
  ])("%s", async (_, onConnection) => {
    surroundedBy();
    const said = [];
    const server = await startServer(undefined, {
      onConnection(socket) {
        socket.on("data", (bytes) => said.push(bytes));
        onConnection(socket);
      },
    });
    const refreshToken = token("refresh");
    const call = refreshOAuthToken({ ...byTls(server), refreshToken });
    const error = await typedRejection(call, "provider_unreachable");
    expect(error.refreshFailure.class).toBe("not_sent");
    await server.log.seen({ type: "closed" }, server.connections);
    expect(Buffer.concat(said).includes(refreshToken)).toBe(false);
  });
});
