const { readFile } = require("node:fs/promises");
const { join } = require("node:path");
const { randomUUID } = require("node:crypto");
const args = require("../arguments.js");
const { HttpClient, RequestError } = require("./http.js");
const { startLimit } = require("./limit.js");
const { untilChanged } = require("./until-changed.js");

const OPTIONS = ["namespace", "name", "server", "token", "ca", "timeoutMs"];
const DEFAULT_NAME = "oauth-refresh-lock";
const DEFAULT_TIMEOUT_MS = 5_000;
/** What a kubelet puts into every pod that has a service account. */
const ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount";
/** How long a watch lives before the Secret is read and the watch is opened again: it may have been cut off without noticing. */
const FIRST_WATCH_MS = 2_000;
const LAST_WATCH_MS = 10_000;
/** A Secret's name is a DNS subdomain of at most 253 characters; ours ends with a dash and 64 digits. */
const NAME = /^[a-z0-9]([a-z0-9.-]{0,180}[a-z0-9])?$/;
const NAMESPACE = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const KEY = /^[0-9a-f]{64}$/;
/** Of a row that no refresh token has. */
const NOBODYS_KEY = "0".repeat(64);
/** A value that is equal to the last one would be no write, and give no new version. */
const WRITE = "oauth-refresh-lock/write";

/**
 * A coordinator over the Kubernetes API: a Secret for each row. In a pod it needs no address and no token.
 *
 * It tells no ages: the API gives times to the second, each by the clock of whichever API server wrote it.
 *
 * @param {{ namespace?: string, name?: string, server?: string, token?: string | (() => string | Promise<string>),
 *   ca?: string | Uint8Array, timeoutMs?: number }} [given]
 */
function kubernetesCoordinator(given) {
  const options = args.optionsObject(given, "options", OPTIONS);
  const { namespace, name = DEFAULT_NAME, server, token, ca } = options;
  if (namespace !== undefined && !NAMESPACE.test(args.text("namespace", namespace))) {
    throw args.invalid("namespace must be the name of a Kubernetes namespace");
  }
  if (!NAME.test(args.text("name", name))) {
    throw args.invalid("name must be small letters, digits, dashes and dots, as the names of Secrets are");
  }
  if (token !== undefined && typeof token !== "function") args.text("token", token);
  return new KubernetesCoordinator({
    namespace,
    name,
    server: server === undefined ? undefined : address(server),
    token,
    ca,
    timeoutMs: args.delay("timeoutMs", options.timeoutMs, { fallback: DEFAULT_TIMEOUT_MS }),
  });
}

function address(text) {
  const url = typeof text === "string" && URL.canParse(text) ? new URL(text) : undefined;
  // Not shown: it may have a password in it.
  if (!url || !["http:", "https:"].includes(url.protocol) || url.username || url.password) {
    throw args.invalid("server must be the API server's address, such as https://10.96.0.1, without user and password");
  }
  return url;
}

class KubernetesCoordinator {
  name = "kubernetes";
  #options;
  /** A promise of where the Secrets are, and how to get there. */
  #place;
  #mayUpdate = false;

  constructor(options) {
    this.#options = options;
  }

  async load(key) {
    const answer = await this.#ask("read", "GET", key);
    if (answer.status === 404) return null;
    if (answer.status !== 200) throw this.#refusal("read", answer);
    return entryOf(answer.body);
  }

  async compareAndSwap(key, expected, value) {
    if (expected === null && !this.#mayUpdate) {
      // An account that could claim, and not tell the answer, is refused before the provider is asked.
      await this.compareAndSwap(NOBODYS_KEY, "1", "{}");
      this.#mayUpdate = true;
    }
    const secret = this.#secret(key, expected, value);
    const { status, body } = await this.#ask("write", expected === null ? "POST" : "PUT", key, secret);
    if (status === 200 || status === 201) return versionOf(body);
    if (status === 409 && body?.reason === (expected === null ? "AlreadyExists" : "Conflict")) return null;
    // A Secret that is not there has no version. A namespace that is not there is told of by a creation.
    if (status === 404 && expected !== null) return null;
    throw this.#refusal("write", { status, body });
  }

  async changed(key, version, signal) {
    const from = { resourceVersion: version };
    await untilChanged({
      listen: (turn) => this.#watch(key, version, from, turn),
      isChanged: async () => (await this.load(key))?.version !== version,
      firstMs: FIRST_WATCH_MS,
      lastMs: LAST_WATCH_MS,
      signal,
    });
  }

  #secret(key, expected, value) {
    return JSON.stringify({
      apiVersion: "v1",
      kind: "Secret",
      metadata: {
        name: this.#nameOf(key),
        labels: { "app.kubernetes.io/managed-by": "oauth-refresh-lock" },
        annotations: { [WRITE]: randomUUID() },
        ...(expected === null ? {} : { resourceVersion: expected }),
      },
      type: "Opaque",
      data: { value: Buffer.from(value).toString("base64") },
    });
  }

  #nameOf(key) {
    if (!KEY.test(key)) throw new Error("The Kubernetes coordinator's keys must be 64 hexadecimal digits");
    return `${this.#options.name}-${key}`;
  }

  /** From the version on: what changed before the watch began is heard too. */
  async #watch(key, version, from, signal) {
    const { url, http } = await this.#where();
    const query = new URLSearchParams({
      watch: "1",
      fieldSelector: `metadata.name=${this.#nameOf(key)}`,
      ...from,
      timeoutSeconds: String(Math.ceil(LAST_WATCH_MS / 1_000)),
    });
    const headers = { authorization: `Bearer ${await this.#token()}`, accept: "application/json" };
    const heard = await http.listen(new URL(`${url}?${query}`), { method: "GET", headers, signal }, (line, status) => {
      if (status === 410 || (line.type === "ERROR" && line.object?.code === 410)) {
        // What happened since is forgotten, perhaps to other Secrets only. It listens from now on, which begins with the Secret as it is.
        delete from.resourceVersion;
        return "look";
      }
      if (status !== 200 || line.type === "ERROR") return "nothing";
      if (line.type === "BOOKMARK" || line.object?.metadata?.resourceVersion === version) return undefined;
      return "changed";
    });
    return heard ?? "nothing";
  }

  /** One request, and once more with a new token if the old one was refused: then nothing was done. */
  async #ask(step, method, key, body) {
    const limit = startLimit(this.#options.timeoutMs);
    try {
      const answer = await this.#askOnce(method, key, body, limit);
      return answer.status === 401 ? await this.#askOnce(method, key, body, limit) : answer;
    } catch (error) {
      throw this.#failure(step, error);
    }
  }

  async #askOnce(method, key, body, limit) {
    const { url, http } = await this.#where();
    const at = method === "POST" ? url : `${url}/${this.#nameOf(key)}`;
    const headers = { authorization: `Bearer ${await this.#token()}`, accept: "application/json" };
    if (body !== undefined) headers["content-type"] = "application/json";
    const ms = limit.left();
    const how = { method, headers, body, isFresh: body !== undefined, connectMs: ms, totalMs: ms };
    const { status, text } = await http.ask(new URL(at), how);
    try {
      return { status, body: JSON.parse(text) };
    } catch {
      // A proxy's word, perhaps; the status says enough where it is an error.
      if (status >= 400) return { status, body: undefined };
      throw new RequestError("an answer that is not the Kubernetes API's", true);
    }
  }

  async #where() {
    this.#place ??= findPlace(this.#options);
    const mine = this.#place;
    try {
      return await mine;
    } catch (error) {
      if (this.#place === mine) this.#place = undefined;
      throw error;
    }
  }

  /** The kubelet replaces the file, so that it is read each time. */
  async #token() {
    const { token } = this.#options;
    const text = token === undefined ? await account("token") : typeof token === "function" ? await token() : token;
    if (typeof text !== "string" || text.trim() === "") throw new RequestError("there is no token", false);
    return text.trim();
  }

  #failure(step, error) {
    if (!(error instanceof RequestError)) return error;
    const isUnknown = step === "write" && error.isSent;
    const then = isUnknown ? "whether it was written is unknown" : "see that the API server can be reached";
    return this.#error(step, error.message, then, error);
  }

  #refusal(step, { status, body }) {
    const said = typeof body?.message === "string" ? body.message.slice(0, 300) : `status ${status}`;
    return this.#error(step, `the API server says: ${said}`, this.#advice(step, status));
  }

  #advice(step, status) {
    if (status === 401) return "its token is not valid: see the pod's service account, or the option token";
    if (status === 403)
      return "its service account needs the verbs get, create, update and watch on secrets in this namespace";
    if (status === 404) return "see that the namespace exists";
    if (status === 429) return "nothing was done";
    return step === "write" && status >= 500 ? "whether it was written is unknown" : undefined;
  }

  #error(step, what, then, cause) {
    const { namespace = "its own namespace", name } = this.#options;
    const where = `the Secrets ${name}-… in ${namespace}`;
    const message = `The Kubernetes coordinator could not ${step} ${where}: ${what}${then ? `; ${then}` : ""}`;
    return new Error(message, cause === undefined ? undefined : { cause });
  }
}

/** The collection's URL and a client, from the options or from what a pod has. */
async function findPlace({ namespace, server, ca }) {
  const base = server ?? podServer();
  const authority = ca ?? (server === undefined ? await account("ca.crt") : undefined);
  const space = namespace ?? (await account("namespace")).trim();
  const path = base.pathname.replace(/\/$/, "");
  return {
    url: `${base.origin}${path}/api/v1/namespaces/${space}/secrets`,
    http: new HttpClient({ ca: authority }),
  };
}

function podServer() {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = "443" } = process.env;
  if (!host) {
    const advice = "run it in a pod, or give the options server, token, ca and namespace";
    throw new RequestError(`there is no KUBERNETES_SERVICE_HOST; ${advice}`, false);
  }
  return new URL(`https://${host.includes(":") ? `[${host}]` : host}:${port}`);
}

/** A file of the pod's service account. */
async function account(file) {
  try {
    return await readFile(join(ACCOUNT_DIR, file), "utf8");
  } catch (error) {
    const advice = "see automountServiceAccountToken, or give the options token, ca and namespace";
    throw new RequestError(`the service account's ${file} can't be read (${error.code}); ${advice}`, false, error);
  }
}

function entryOf(body) {
  const encoded = body?.data?.value;
  // The API leaves out what is empty.
  if (encoded === undefined && body?.metadata?.annotations?.[WRITE]) return { version: versionOf(body), value: "" };
  if (typeof encoded !== "string") throw new Error("The Kubernetes coordinator read a Secret that it did not write");
  return { version: versionOf(body), value: Buffer.from(encoded, "base64").toString() };
}

function versionOf(body) {
  const version = body?.metadata?.resourceVersion;
  if (typeof version !== "string" || version === "") {
    throw new Error(
      "The Kubernetes coordinator got an answer that is not the API's; whether it was written is unknown",
    );
  }
  return version;
}

module.exports = { kubernetesCoordinator };
