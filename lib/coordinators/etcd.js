const args = require("../arguments.js");
const { HttpClient, RequestError } = require("./http.js");
const { startLimit } = require("./limit.js");
const { untilChanged } = require("./until-changed.js");

const OPTIONS = ["prefix", "username", "password", "ca", "cert", "key", "timeoutMs"];
const DEFAULT_PREFIX = "oauth-refresh-lock/";
const DEFAULT_TIMEOUT_MS = 5_000;
/** How long a watch lives before the row is read and the watch is opened again: it may have been cut off without noticing. */
const FIRST_WATCH_MS = 2_000;
const LAST_WATCH_MS = 10_000;
/** An authentication that etcd has forgotten, or that is older than the last change of users and rights. It did nothing then. */
const AUTHENTICATE_AGAIN = /invalid auth token|revision of auth store is old/;

/**
 * A coordinator over etcd 3.4 or newer, by its JSON gateway.
 *
 * @param {string | string[]} endpoints such as `https://etcd-0:2379`; all of one cluster
 * @param {{ prefix?: string, username?: string, password?: string, ca?: string | Uint8Array, cert?: string | Uint8Array,
 *   key?: string | Uint8Array, timeoutMs?: number }} [given]
 */
function etcdCoordinator(endpoints, given) {
  const options = args.optionsObject(given, "options", OPTIONS);
  const list = typeof endpoints === "string" ? [endpoints] : endpoints;
  if (!Array.isArray(list) || list.length === 0) {
    throw args.invalid("endpoints must be an address such as https://etcd-0:2379, or a non-empty array of them");
  }
  for (const name of ["username", "password"]) if (options[name] !== undefined) args.text(name, options[name]);
  if ((options.username === undefined) !== (options.password === undefined)) {
    throw args.invalid("username and password must be given together");
  }
  return new EtcdCoordinator(list.map(endpoint), {
    ...options,
    prefix: args.text("prefix", options.prefix ?? DEFAULT_PREFIX),
    timeoutMs: args.delay("timeoutMs", options.timeoutMs, { fallback: DEFAULT_TIMEOUT_MS }),
  });
}

function endpoint(text) {
  const url = typeof text === "string" && URL.canParse(text) ? new URL(text) : undefined;
  // Not shown: it may have a password in it.
  if (!url || !["http:", "https:"].includes(url.protocol)) {
    throw args.invalid("each of etcd's endpoints must be an address such as https://etcd-0:2379");
  }
  if (url.username || url.password) {
    throw args.invalid("etcd's endpoints must have no user and no password; give the options username and password");
  }
  if (url.pathname !== "/" || url.search || url.hash) {
    throw args.invalid("etcd's endpoints must end after the port; the path is always /v3");
  }
  return url;
}

class EtcdCoordinator {
  name = "etcd";
  #endpoints;
  /** The one that answered last. */
  #first = 0;
  #http;
  #prefix;
  #timeoutMs;
  #login;
  /** A promise of what `authorization` says. */
  #token;

  constructor(endpoints, { prefix, username, password, ca, cert, key, timeoutMs }) {
    this.#endpoints = endpoints;
    this.#prefix = prefix;
    this.#timeoutMs = timeoutMs;
    this.#login = username === undefined ? undefined : { name: username, password };
    this.#http = new HttpClient({ ca, cert, key });
  }

  async load(key) {
    // Linearizable, as everything is that does not ask for `serializable`.
    return this.#ask("read", "kv/range", { key: this.#key(key) }, ({ kvs = [] }) => {
      if (!Array.isArray(kvs)) throw nonsense();
      if (kvs.length === 0) return null;
      const { mod_revision: version, value = "" } = kvs[0] ?? {};
      if (!isRevision(version) || typeof value !== "string") throw nonsense();
      return { version, value: Buffer.from(value, "base64").toString() };
    });
  }

  async compareAndSwap(name, expected, value) {
    if (expected !== null && !isRevision(expected)) throw new Error("The etcd coordinator never gave this version");
    const key = this.#key(name);
    const compare =
      expected === null
        ? { key, target: "CREATE", result: "EQUAL", create_revision: "0" }
        : { key, target: "MOD", result: "EQUAL", mod_revision: expected };
    const put = { request_put: { key, value: base64(value) } };
    return this.#ask("write", "kv/txn", { compare: [compare], success: [put] }, ({ succeeded = false, header }) => {
      // The gateway leaves out what is false.
      if (typeof succeeded !== "boolean" || !isRevision(header?.revision)) throw nonsense();
      return succeeded ? header.revision : null;
    });
  }

  async changed(key, version, signal) {
    const at = { key: this.#key(key), start_revision: next(version) };
    await untilChanged({
      listen: (turn) => this.#watch(at, turn),
      isChanged: async () => (await this.load(key))?.version !== version,
      firstMs: FIRST_WATCH_MS,
      lastMs: LAST_WATCH_MS,
      signal,
    });
  }

  /** From the next revision on: what changed before the watch began is heard too. */
  async #watch(at, signal) {
    const url = new URL("/v3/watch", this.#endpoints[this.#first]);
    const headers = await this.#headers(startLimit(this.#timeoutMs));
    const how = { method: "POST", headers, body: JSON.stringify({ create_request: at }), signal };
    const heard = await this.#http.listen(url, how, ({ result }) => {
      if (result?.events?.length > 0) return "changed";
      if (result?.canceled && isRevision(result.compact_revision)) {
        // What happened up to there is forgotten, perhaps to other rows only.
        at.start_revision = next(result.compact_revision);
        return "look";
      }
      if (result?.canceled) return "nothing";
      return result === undefined ? "nothing" : undefined;
    });
    return heard ?? "nothing";
  }

  /** Asks the endpoints in turn, and makes something of the answer. What may have been written is not sent again. */
  async #ask(step, path, body, understand) {
    const limit = startLimit(this.#timeoutMs);
    const ask = (headers) => this.#inTurn(step === "read", path, body, headers, limit);
    try {
      return understand(await this.#authorized(limit, ask));
    } catch (error) {
      throw this.#failure(step, error);
    }
  }

  /** With a new token if etcd does not take the old one. */
  async #authorized(limit, ask) {
    try {
      return await ask(await this.#headers(limit));
    } catch (error) {
      if (!this.#login || !AUTHENTICATE_AGAIN.test(error.message) || !(error instanceof Refusal)) throw error;
      this.#token = undefined;
      return ask(await this.#headers(limit));
    }
  }

  async #headers(limit) {
    const json = { "content-type": "application/json" };
    if (!this.#login) return json;
    this.#token ??= this.#inTurn(true, "auth/authenticate", this.#login, json, limit).then(({ token }) => {
      if (typeof token !== "string" || token === "") throw nonsense();
      return token;
    });
    const mine = this.#token;
    try {
      return { ...json, authorization: await mine };
    } catch (error) {
      if (this.#token === mine) this.#token = undefined;
      throw error;
    }
  }

  async #inTurn(mayRepeat, path, body, headers, limit) {
    const text = JSON.stringify(body);
    const count = this.#endpoints.length;
    const first = this.#first;
    let failure;
    for (let tried = 0; tried < count && limit.left() > 0; tried++) {
      const index = (first + tried) % count;
      // One that hangs must leave time for the others.
      const share = limit.left() / (count - tried);
      const totalMs = mayRepeat ? share : limit.left();
      try {
        const url = new URL(`/v3/${path}`, this.#endpoints[index]);
        const how = { method: "POST", headers, body: text, isFresh: !mayRepeat, connectMs: share, totalMs };
        const answer = await this.#http.ask(url, how);
        const value = parse(answer);
        this.#first = index;
        return value;
      } catch (error) {
        error.endpoint ??= this.#endpoints[index].host;
        failure ??= error;
        if (error instanceof Refusal && !error.isTemporary) throw error;
        // One that hangs would make every later write unknown too.
        this.#first = (index + 1) % count;
        if (error.isSent !== false && !mayRepeat) throw error;
      }
    }
    throw failure ?? new RequestError("no time was left", false);
  }

  #failure(step, error) {
    if (!(error instanceof RequestError)) return error;
    const at = error.endpoint ?? this.#endpoints.map(({ host }) => host).join(", ");
    const isUnknown = step === "write" && error.isSent;
    const then = isUnknown ? "whether it was written is unknown" : advice(error);
    return new Error(`The etcd coordinator could not ${step} at ${at}: ${error.message}${then ? `; ${then}` : ""}`, {
      cause: error,
    });
  }

  #key(key) {
    return base64(this.#prefix + key);
  }
}

const next = (revision) => String(BigInt(revision) + 1n);

/** etcd's own error. `isSent` stays true where etcd may have done it all the same. */
class Refusal extends RequestError {
  constructor(message, status) {
    super(`etcd: ${message}`, status >= 500);
    this.status = status;
    /** Another member may be better off. */
    this.isTemporary = status >= 500;
  }
}

/** The JSON of an answer; an error of etcd's is thrown. */
function parse({ status, text }) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new RequestError(`an answer that is not etcd's, with status ${status}`, true);
  }
  if (typeof value !== "object" || value === null) throw nonsense();
  if (status === 200 && value.error === undefined) return value;
  const message = typeof value.message === "string" ? value.message : value.error;
  throw new Refusal(typeof message === "string" ? message.slice(0, 300) : `status ${status}`, status);
}

/** What to do about an error. */
function advice(error) {
  const { message, status } = error;
  if (/permission denied/.test(message)) return "grant its user READWRITE on the prefix";
  if (/user name is empty/.test(message)) return "this etcd wants a user: give the options username and password";
  if (/authentication failed|invalid user/.test(message))
    return "compare the options username and password with etcd's";
  if (/authentication is not enabled/.test(message))
    return "this etcd has no users: leave the options username and password out";
  if (status === 404) return "etcd must be 3.4 or newer, with its gateway on";
  if (error.isSent) return undefined;
  return "nothing was sent; see that etcd runs and can be reached";
}

function nonsense() {
  return new RequestError("an answer that is not etcd's", true);
}

function isRevision(revision) {
  return typeof revision === "string" && /^[1-9]\d{0,18}$/.test(revision);
}

function base64(text) {
  return Buffer.from(text).toString("base64");
}

module.exports = { etcdCoordinator };
