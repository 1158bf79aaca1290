/** Against a stand-in of the Kubernetes API, as no package brings the real one. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { kubernetesCoordinator } from "../../index.mjs";
import { startKubernetesStandIn } from "../../scripts/hosts/kubernetes-stand-in.mjs";
import { createAuthority } from "../support/certificates.mjs";
import { expectQuiet, expectRight, newKey } from "./support/engines.mjs";

async function start(options) {
  const api = await startKubernetesStandIn(options);
  onTestFinished(() => api.close());
  return api;
}

const connect = (api, options) =>
  kubernetesCoordinator({ server: api.url, namespace: "default", token: "token", ...options });

test("it keeps a coordinator's rules", async () => {
  const api = await start();
  const notes = await expectRight(connect(api), connect(api));
  expect(notes.told).not.toMatch("not within");
  await expect.poll(api.watching).toBe(0);
});

test("a row is a Secret with a valid name, which says whose it is", async () => {
  const api = await start();
  const key = newKey();
  await connect(api, { name: "team.logins" }).compareAndSwap(key, null, '{"a":1}');
  const secret = api.secrets.get(`team.logins-${key}`);
  expect(secret).toMatchObject({
    type: "Opaque",
    metadata: { labels: { "app.kubernetes.io/managed-by": "oauth-refresh-lock" } },
    data: { value: Buffer.from('{"a":1}').toString("base64") },
  });
});

test("by TLS it trusts the given authority, and no other", async () => {
  const authority = await createAuthority();
  const api = await start({ tls: authority.server });
  expect(await connect(api, { ca: authority.root }).compareAndSwap(newKey(), null, "{}")).toMatch(/\d/);
  await expect(connect(api).compareAndSwap(newKey(), null, "{}")).rejects.toThrow(
    /certificate.*API server can be reached/,
  );
});

test("a token that was replaced is read again, and the request repeated", async () => {
  let current = "first";
  const api = await start({ token: () => current });
  let reads = 0;
  const token = () => (reads++ === 2 ? "first" : current);
  const coordinator = connect(api, { token });
  const key = newKey();
  const version = await coordinator.compareAndSwap(key, null, "1");
  current = "second";
  expect(await coordinator.compareAndSwap(key, version, "2")).toMatch(/\d/);
  expect(api.requests.map(({ method }) => method)).toEqual(["PUT", "POST", "PUT", "PUT"]);
});

test.each([
  ["a token that is refused", {}, { token: "sesame" }, "its token is not valid"],
  ["a right that is missing", { verbs: ["get"] }, {}, "verbs get, create, update and watch"],
  [
    "a right that only the answer needs",
    { verbs: ["get", "create", "watch"] },
    {},
    "verbs get, create, update and watch",
  ],
  ["a namespace that is not there", {}, { namespace: "elsewhere" }, "see that the namespace exists"],
  ["no token", {}, { token: "" }, "there is no token"],
])("%s is told of", async (_, server, options, message) => {
  const api = await start(server);
  const coordinator = connect(api, options);
  const error = await coordinator.compareAndSwap(newKey(), null, "{}").catch((thrown) => thrown);
  expect(error.message).toMatch(message);
  expect(error.message).not.toMatch("sesame");
  expect(api.secrets.size).toBe(0);
});

test("outside a pod it says which options it needs", async () => {
  await expect(kubernetesCoordinator().load(newKey())).rejects.toThrow(
    "give the options server, token, ca and namespace",
  );
  const half = kubernetesCoordinator({ server: "http://127.0.0.1:1", namespace: "default" });
  await expect(half.load(newKey())).rejects.toThrow("automountServiceAccountToken");
});

test("without the right to watch it looks now and then", async () => {
  const api = await start({ verbs: ["get", "create", "update"] });
  const coordinator = connect(api);
  const key = newKey();
  const version = await coordinator.compareAndSwap(key, null, "1");
  const told = coordinator.changed(key, version, new AbortController().signal);
  await connect(api).compareAndSwap(key, version, "2");
  await told;
});

test("does not tell a waiter while nothing changes", async () => {
  const coordinator = connect(await start());
  const [key, other] = [newKey(), newKey()];
  const version = await coordinator.compareAndSwap(key, null, "1");
  await expectQuiet(coordinator, key, version, () => coordinator.compareAndSwap(other, null, "1"));
});

test("that the API has forgotten what happened to others is no change, and the next one is told", async () => {
  const api = await start();
  const coordinator = connect(api);
  const [key, other] = [newKey(), newKey()];
  const version = await coordinator.compareAndSwap(key, null, "1");
  await coordinator.compareAndSwap(other, null, "1");
  api.compact();
  await expectQuiet(coordinator, key, version, () => connect(api).compareAndSwap(newKey(), null, "1"));
  expect(api.requests.filter(({ query }) => query.watch)).toHaveLength(2);
});

test("a change that the API has forgotten is found", async () => {
  const api = await start();
  const coordinator = connect(api);
  const key = newKey();
  const version = await coordinator.compareAndSwap(key, null, "1");
  await coordinator.compareAndSwap(key, version, "2");
  api.compact();
  await coordinator.changed(key, version, new AbortController().signal);
  expect(api.requests.filter(({ query }) => query.watch)).toHaveLength(1);
});

test("a watch that breaks is opened again", async () => {
  const api = await start();
  const coordinator = connect(api);
  const key = newKey();
  const version = await coordinator.compareAndSwap(key, null, "1");
  const told = coordinator.changed(key, version, new AbortController().signal);
  await expect.poll(api.watching).toBe(1);
  api.drop();
  await expect.poll(api.watching).toBe(0);
  await expect.poll(api.watching, { timeout: 20_000 }).toBe(1);
  await connect(api).compareAndSwap(key, version, "2");
  await told;
});

describe("when the answer to a write", () => {
  const lost = async (intercept) => {
    const api = await start();
    const coordinator = connect(api, { timeoutMs: 1_000 });
    // The first one looks at its rights before.
    await coordinator.compareAndSwap(newKey(), null, "{}");
    api.way.intercept = intercept;
    const error = await coordinator.compareAndSwap(newKey(), null, "{}").catch((thrown) => thrown);
    api.way.intercept = undefined;
    expect(error.message).toMatch("whether it was written is unknown");
    expect(api.requests.filter(({ method }) => method === "POST")).toHaveLength(2);
  };

  test("does not come, it is unknown, and not sent again", () => lost(() => true));
  test("comes too late, it is unknown", () =>
    lost(async () => {
      await sleep(2_000);
      return false;
    }));
  test("breaks off, it is unknown", () => lost((request) => request.socket.destroy()));
  test("is a gateway's, it is unknown", () =>
    lost((_request, response) => {
      response.writeHead(504, { "content-type": "text/html" }).end("<html>");
      return true;
    }));
  test("is not the API's, it is unknown", () =>
    lost((_request, response) => {
      response.writeHead(200).end("{}");
      return true;
    }));
});

test("a Secret of somebody else's is not taken for a row", async () => {
  const api = await start();
  const key = newKey();
  api.secrets.set(`oauth-refresh-lock-${key}`, { metadata: { resourceVersion: "7" }, data: {} });
  await expect(connect(api).load(key)).rejects.toThrow("a Secret that it did not write");
});

test.each([
  [{ name: "Not A Name" }],
  [{ namespace: "a/b" }],
  [{ server: "https://user:sesame@host" }],
  [{ server: "host:6443" }],
  [{ token: 7 }],
  [{ tokens: "x" }],
])("wrong options are refused: %j", (options) => {
  const refused = () => kubernetesCoordinator(options);
  expect(refused).toThrow(expect.objectContaining({ code: "invalid_argument" }));
  expect(refused).not.toThrow("sesame");
});
