/** etcd for tests: one, or a cluster. */
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { binary, canConnect, directory, Engine, freePort, LOOPBACK, START_MS, write } from "./engine.mjs";

/**
 * @param {object} [options]
 * @param {{ rootPassword: string, users?: Record<string, { password: string, prefix?: string }> }} [options.auth] the users may
 *   read and write what begins with `prefix` alone
 * @param {{ cert: string, key: string, ca?: string }} [options.tls] PEM texts; with `ca` clients need a certificate too
 * @param {string[]} [options.flags]
 */
export async function startEtcd({ auth, tls, flags = [] } = {}) {
  const [engine] = await startEtcdCluster(1, { tls, flags });
  if (auth) await turnAuthOn(engine, auth);
  return engine;
}

/** Members of one cluster, each an engine with an endpoint of its own. */
export async function startEtcdCluster(size, { tls, flags = [] } = {}) {
  const file = binary("etcd");
  const scheme = tls ? "https" : "http";
  const members = [];
  for (let number = 1; number <= size; number++) {
    const dir = directory("etcd");
    // etcd leaves a directory that is there as it is.
    chmodSync(dir, 0o700);
    const [client, peer] = [await freePort(), await freePort()];
    members.push({ name: `member${number}`, dir, client, peer: `http://${LOOPBACK}:${peer}` });
  }
  const cluster = members.map(({ name, peer }) => `${name}=${peer}`).join(",");
  const engines = members.map(({ name, dir, client, peer }) => {
    const endpoint = `${scheme}://${LOOPBACK}:${client}`;
    const args = ["--name", name, "--data-dir", join(dir, "data"), "--logger", "zap", "--initial-cluster", cluster];
    args.push("--listen-client-urls", endpoint, "--advertise-client-urls", endpoint);
    args.push("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer);
    if (tls) {
      args.push(
        "--cert-file",
        write(join(dir, "cert.pem"), tls.cert),
        "--key-file",
        write(join(dir, "key.pem"), tls.key),
      );
      if (tls.ca) args.push("--client-cert-auth", "--trusted-ca-file", write(join(dir, "ca.pem"), tls.ca));
    }
    const engine = new Engine("etcd", {
      command: () => ({ file, args: [...args, ...flags], options: { cwd: dir, env: withoutEtcdSettings() } }),
      isReady: () => (tls || size > 1 ? canConnect(client) : isHealthy(endpoint)),
      dirs: [dir],
    });
    const url = `${tls ? "etcds" : "etcd"}://${LOOPBACK}:${client}`;
    return Object.assign(engine, { endpoint, url, port: client, post: (path, body) => post(endpoint, path, body) });
  });
  await Promise.all(engines.map((engine) => engine.start()));
  if (size > 1 && !tls) for (const { endpoint } of engines) await until(() => isHealthy(endpoint));
  return engines;
}

/** etcd reads its flags from the environment too. */
function withoutEtcdSettings() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("ETCD_")));
}

async function isHealthy(endpoint) {
  try {
    const response = await fetch(`${endpoint}/health`, { signal: AbortSignal.timeout(1_000) });
    return (await response.json()).health === "true";
  } catch {
    return false;
  }
}

async function until(isSo) {
  for (const end = Date.now() + START_MS; !(await isSo()); await sleep(50)) {
    if (Date.now() > end) throw new Error("etcd's members did not find each other");
  }
}

async function post(endpoint, path, body, token) {
  const headers = token === undefined ? {} : { authorization: token };
  const response = await fetch(`${endpoint}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  const text = await response.text();
  if (!response.ok) throw new Error(`etcd's ${path} answered ${response.status}: ${text}`);
  return JSON.parse(text);
}

async function turnAuthOn({ endpoint }, { rootPassword, users = {} }) {
  const base64 = (text) => Buffer.from(text).toString("base64");
  const ask = (path, body) => post(endpoint, `/v3/auth/${path}`, body);
  await ask("user/add", { name: "root", password: rootPassword });
  await ask("role/add", { name: "root" });
  await ask("user/grant", { user: "root", role: "root" });
  for (const [name, { password, prefix }] of Object.entries(users)) {
    await ask("user/add", { name, password });
    if (prefix === undefined) continue;
    await ask("role/add", { name });
    // The first key that does not begin with the prefix: its last byte one higher.
    const end = Buffer.from(prefix);
    end[end.length - 1] += 1;
    const perm = { permType: "READWRITE", key: base64(prefix), range_end: end.toString("base64") };
    await ask("role/grant", { name, perm });
    await ask("user/grant", { user: name, role: name });
  }
  await ask("enable", {});
}
