/** On a real etcd: one member and three, with users, by TLS. */
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { serve } from "../../cli/provider.mjs";
import { etcdCoordinator } from "../../index.mjs";
import { freePort, startEtcd, startEtcdCluster } from "../../scripts/hosts/engines.mjs";
import { createAuthority, createSelfSigned } from "../support/certificates.mjs";
import { describeWith, expectQuiet, expectRight, forever, newKey, own, thrownBy } from "./support/engines.mjs";

const FOR_BOTH = [
  { name: "basicConstraints", cA: true, critical: true },
  { name: "extKeyUsage", serverAuth: true, clientAuth: true },
  { name: "subjectAltName", altNames: [{ type: 7, ip: "127.0.0.1" }] },
];

const closedPort = async () => `http://127.0.0.1:${await freePort()}`;

describeWith(["etcd"], "etcd", () => {
  let etcd;
  beforeAll(async () => {
    etcd = await startEtcd();
    return () => etcd.remove();
  });
  const coordinatorOf = (options) => etcdCoordinator(etcd.endpoint, options);

  test("keeps a coordinator's rules, and tells of changes", async () => {
    const notes = await expectRight(coordinatorOf(), coordinatorOf());
    expect(notes.told).not.toMatch("not within");
  });

  test("keeps them under another prefix, and the prefixes are apart", async () => {
    const [one, other] = [coordinatorOf({ prefix: "a/" }), coordinatorOf({ prefix: "b/" })];
    const key = newKey();
    expect(await one.compareAndSwap(key, null, "1")).toMatch(/^\d+$/);
    expect(await other.load(key)).toBeNull();
  });

  test("does not tell a waiter while nothing changes", async () => {
    const coordinator = coordinatorOf();
    const [key, other] = [newKey(), newKey()];
    const version = await coordinator.compareAndSwap(key, null, "1");
    await expectQuiet(coordinator, key, version, () => coordinator.compareAndSwap(other, null, "1"));
  });

  test("tells a waiter at once when what it waits for was compacted", async () => {
    const coordinator = coordinatorOf();
    const key = newKey();
    const first = await coordinator.compareAndSwap(key, null, "1");
    const second = await coordinator.compareAndSwap(key, first, "2");
    const third = await coordinator.compareAndSwap(key, second, "3");
    await etcd.post("/v3/kv/compaction", { revision: third, physical: true });
    await coordinator.changed(key, first, forever());
    await expectRight(coordinator, coordinatorOf());
  });

  test("does not take it for a change that other rows' history was compacted, and tells of the next one", async () => {
    const coordinator = coordinatorOf();
    const key = newKey();
    const version = await coordinator.compareAndSwap(key, null, "1");
    const other = await coordinator.compareAndSwap(newKey(), null, "1");
    await etcd.post("/v3/kv/compaction", { revision: other, physical: true });
    await expectQuiet(coordinator, key, version, async () => {
      for (let write = 0; write < 5; write++) await coordinator.compareAndSwap(newKey(), null, "1");
    });
  });

  test("is not kept waiting by an endpoint that refuses connections", async () => {
    const coordinator = etcdCoordinator([await closedPort(), etcd.endpoint]);
    const key = newKey();
    const version = await coordinator.compareAndSwap(key, null, "1");
    expect(await coordinator.load(key)).toEqual({ version, value: "1" });
  });

  test("is served by the same coordinator after it was killed, and a waiter is told", async () => {
    const killed = await own(startEtcd());
    const coordinator = etcdCoordinator(killed.endpoint);
    const key = newKey();
    const version = await coordinator.compareAndSwap(key, null, "1");
    const waiting = coordinator.changed(key, version, forever());
    await killed.kill();
    const error = await thrownBy(coordinator.compareAndSwap(key, version, "2"));
    expect(error.message).toMatch(/nothing was sent; see that etcd runs/);
    await killed.start();
    // What was acknowledged before is there.
    expect(await coordinator.load(key)).toEqual({ version, value: "1" });
    expect(await coordinator.compareAndSwap(key, version, "2")).toMatch(/^\d+$/);
    await waiting;
  });

  test("that stands still is told of in time", async () => {
    const still = await own(startEtcd());
    const coordinator = etcdCoordinator(still.endpoint, { timeoutMs: 300 });
    await still.pause();
    expect((await thrownBy(coordinator.load(newKey()))).message).toMatch("within 300 ms");
    const error = await thrownBy(coordinator.compareAndSwap(newKey(), null, "{}"));
    expect(error.message).toMatch(/within 300 ms; (whether it was written is unknown|nothing was sent)/);
    still.resume();
    expect(await etcdCoordinator(still.endpoint).load(newKey())).toBeNull();
  });

  test("with a user keeps the rules, also after its tokens were forgotten", async () => {
    const auth = {
      rootPassword: "sesame-root",
      users: { app: { password: "sesame/app", prefix: "oauth-refresh-lock/" } },
    };
    const guarded = await own(startEtcd({ auth }));
    const as = (options) => etcdCoordinator(guarded.endpoint, options);
    const user = { username: "app", password: "sesame/app" };
    const [one, another] = [as(user), as(user)];
    await expectRight(one, another);
    const key = newKey();
    const version = await one.compareAndSwap(key, null, "1");
    // Simple tokens are in memory only.
    await guarded.restart();
    expect(await one.compareAndSwap(key, version, "2")).toMatch(/^\d+$/);
    const told = another.changed(key, version, forever());
    await told;
    for (const [options, message] of [
      [{}, "this etcd wants a user"],
      [{ username: "app", password: "sesame-wrong" }, "compare the options username and password"],
      [{ ...user, prefix: "others/" }, "grant its user READWRITE on the prefix"],
    ]) {
      const error = await thrownBy(as(options).compareAndSwap(newKey(), null, "{}"));
      expect(error.message).toMatch(message);
      expect(JSON.stringify([error.message, error.stack, String(error.cause)])).not.toMatch("sesame");
    }
    const told2 = await thrownBy(coordinatorOf(user).load(newKey()));
    expect(told2.message).toMatch("leave the options username and password out");
  });

  test("by TLS, of an authority that Node does not know", async () => {
    const authority = await createAuthority();
    const secure = await own(startEtcd({ tls: authority.server }));
    await expectRight(etcdCoordinator(secure.endpoint, { ca: authority.root }));
    const error = await thrownBy(etcdCoordinator(secure.endpoint).compareAndSwap(newKey(), null, "{}"));
    expect(error.message).toMatch(/certificate.*nothing was sent/);
  });

  test("by TLS that wants a certificate of its clients too", async () => {
    // One for both: etcd's gateway shows the server's to etcd itself.
    const both = await createSelfSigned({ extensions: FOR_BOTH });
    const secure = await own(startEtcd({ tls: { ...both, ca: both.cert } }));
    const { cert, key } = both;
    const coordinator = etcdCoordinator(secure.endpoint, { ca: cert, cert, key });
    const notes = await expectRight(coordinator);
    expect(notes.told).not.toMatch("not within");
    const without = etcdCoordinator(secure.endpoint, { ca: cert });
    expect((await thrownBy(without.load(newKey()))).message).toMatch(/could not read at/);
  });

  test("of three members serves through the others when the leader is killed, and when one stands still", async () => {
    const members = await startEtcdCluster(3);
    for (const member of members) onTestFinished(() => member.remove());
    const coordinator = etcdCoordinator(
      members.map(({ endpoint }) => endpoint),
      { timeoutMs: 3_000 },
    );
    const another = etcdCoordinator(members.map(({ endpoint }) => endpoint).reverse());
    await expectRight(coordinator, another);
    const leader = await leaderOf(members);
    const key = newKey();
    let version = await coordinator.compareAndSwap(key, null, "1");
    const waiting = another.changed(key, version, forever());
    await leader.kill();
    version = await persisting(() => coordinator.compareAndSwap(key, version, "2"), coordinator, key, "2");
    await waiting;
    await leader.start();
    await expect.poll(async () => (await coordinator.load(key)).version, { timeout: 20_000 }).toBe(version);
    await members[0].pause();
    expect(await persisting(() => coordinator.compareAndSwap(key, version, "3"), coordinator, key, "3")).not.toBe(
      version,
    );
    members[0].resume();
  });
});

async function leaderOf(members) {
  for (const member of members) {
    const { header, leader } = await member.post("/v3/maintenance/status", {});
    if (header.member_id === leader) return member;
  }
  throw new Error("no member leads");
}

/** As the core does: what is unknown is looked up before it is written again. */
async function persisting(swap, coordinator, key, value) {
  for (const end = Date.now() + 30_000; ; await sleep(100)) {
    try {
      const version = await swap();
      if (version !== null) return version;
      const entry = await coordinator.load(key);
      if (entry.value === value) return entry.version;
    } catch (error) {
      if (Date.now() > end) throw error;
    }
  }
}

describe("a server that answers wrongly", () => {
  /** Counts what it is sent. */
  async function fake(answer) {
    const asked = [];
    const { url, close } = await serve(async (request, response) => {
      let text = "";
      for await (const chunk of request) text += chunk;
      asked.push({ path: request.url, text });
      await answer(request, response);
    });
    onTestFinished(close);
    return { endpoint: url, asked };
  }
  const json = (response, value, status = 200) => {
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
  };
  const right = (request, response) =>
    json(response, request.url.endsWith("txn") ? { header: { revision: "9" }, succeeded: true } : { kvs: [] });

  test.each([
    ["never", () => {}],
    ["too late", (_request, response) => sleep(700).then(() => json(response, { succeeded: true }))],
    ["by hanging up", (request) => request.socket.destroy()],
    ["with half an answer", (_request, response) => response.writeHead(200, { "content-length": 99 }).write("{")],
    ["with a gateway's page", (_request, response) => response.writeHead(504).end("<html>")],
    [
      "with an error of etcd's that leaves it open",
      (_request, response) => json(response, { error: "etcdserver: request timed out", code: 14 }, 503),
    ],
    ["with JSON of another kind", (_request, response) => json(response, { ok: true })],
    ["with a list", (_request, response) => json(response, [])],
    [
      "with a revision that is none",
      (_request, response) => json(response, { succeeded: true, header: { revision: 7 } }),
    ],
    ["with more than a row", (_request, response) => response.writeHead(200).end("9".repeat(5_000_000))],
  ])("%s: a write is unknown, and not sent to the next endpoint; a read is", async (_, answer) => {
    const [wrong, other] = [await fake(answer), await fake(right)];
    const coordinator = etcdCoordinator([wrong.endpoint, other.endpoint], { timeoutMs: 1_000 });
    const error = await thrownBy(coordinator.compareAndSwap(newKey(), null, "{}"));
    expect(error.message).toMatch(/could not write at .*; whether it was written is unknown/);
    expect([wrong.asked.length, other.asked.length]).toEqual([1, 0]);
  });

  test.each([
    ["never", () => {}],
    ["by hanging up", (request) => request.socket.destroy()],
    [
      "with an error of its own",
      (_request, response) => json(response, { error: "etcdserver: no leader", code: 14 }, 503),
    ],
  ])("%s: a read goes to the next endpoint", async (_, answer) => {
    const [wrong, other] = [await fake(answer), await fake(right)];
    const coordinator = etcdCoordinator([wrong.endpoint, other.endpoint], { timeoutMs: 2_000 });
    expect(await coordinator.load(newKey())).toBeNull();
    expect([wrong.asked.length, other.asked.length]).toEqual([1, 1]);
    // The one that answered is asked first from now on.
    expect(await coordinator.load(newKey())).toBeNull();
    expect(wrong.asked).toHaveLength(1);
  });

  test("a write that hangs leaves the endpoint: the next one goes to another", async () => {
    const [hanging, other] = [await fake(() => {}), await fake(right)];
    const coordinator = etcdCoordinator([hanging.endpoint, other.endpoint], { timeoutMs: 1_000 });
    await thrownBy(coordinator.compareAndSwap(newKey(), null, "{}"));
    expect(await coordinator.compareAndSwap(newKey(), null, "{}")).toBe("9");
    expect([hanging.asked.length, other.asked.length]).toEqual([1, 1]);
  });

  test("a read that comes back as nonsense is not believed", async () => {
    for (const answer of [
      { kvs: [{ mod_revision: 7, value: "" }] },
      { kvs: {} },
      { kvs: [{}] },
      { kvs: [null] },
      "text",
    ]) {
      const wrong = await fake((_request, response) => json(response, answer));
      expect((await thrownBy(etcdCoordinator(wrong.endpoint).load(newKey()))).message).toMatch("not etcd's");
    }
  });

  test("a watch that is refused is not begun again at once", async () => {
    const refusing = await fake((request, response) =>
      request.url.endsWith("watch")
        ? response.end(`${JSON.stringify({ result: { canceled: true, cancel_reason: "permission denied" } })}\n`)
        : json(response, { kvs: [{ mod_revision: "5", value: "" }] }),
    );
    await expectQuiet(etcdCoordinator(refusing.endpoint), newKey(), "5");
    expect(refusing.asked).toHaveLength(1);
  });
});

test.each([
  [undefined],
  [[]],
  ["etcd-0:2379"],
  ["http://user:sesame@etcd-0:2379"],
  ["http://etcd-0:2379/v3"],
  [["http://etcd-0:2379", 7]],
  ["http://etcd-0:2379", { username: "app" }],
  ["http://etcd-0:2379", { prefix: 7 }],
  ["https://etcd-0:2379", { ca: 7 }],
  ["https://etcd-0:2379", { cert: "sesame", key: "sesame" }],
  ["http://etcd-0:2379", { pasword: "sesame" }],
])("wrong arguments are refused, without showing a password", (...given) => {
  const refused = () => etcdCoordinator(...given);
  expect(refused).toThrow(expect.objectContaining({ code: "invalid_argument" }));
  expect(refused).not.toThrow("sesame");
});
