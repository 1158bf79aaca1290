/**
 * A stand-in for the Kubernetes API server's Secrets, since no package brings the real one. It is not Kubernetes: it answers as the
 * API documents it, for what our adapter asks: create, get, update, watch, and their errors.
 */
import { once } from "node:events";
import { createServer as createPlain } from "node:http";
import { createServer as createTls } from "node:https";

const COLLECTION = /^\/api\/v1\/namespaces\/([^/]+)\/secrets(?:\/([^/]+))?$/;
const MAX_SECRET_BYTES = 1_048_576;

/**
 * @param {object} [options]
 * @param {{ cert: string, key: string }} [options.tls]
 * @param {() => string} [options.token] the only one that is let in, at this moment
 * @param {string[]} [options.verbs] what its owner may do
 * @param {string} [options.namespace] the only one that there is
 */
export async function startKubernetesStandIn({
  tls,
  token = () => "token",
  verbs = ["get", "create", "update", "watch"],
  namespace = "default",
} = {}) {
  const secrets = new Map();
  /** Every change, oldest first: what a watch tells. */
  let history = [];
  let revision = 100;
  let compacted = 0;
  const watchers = new Set();
  const requests = [];
  /** Tests may put something in the way: a function that gets each request, and returns true if it took it. */
  const way = { intercept: undefined };

  const handle = async (request, response) => {
    const url = new URL(request.url, "http://stand-in");
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    requests.push({ method: request.method, path: url.pathname, query: Object.fromEntries(url.searchParams) });
    if (await way.intercept?.(request, response, text)) return;
    answer(request, response, url, text);
  };

  function answer(request, response, url, text) {
    if (request.headers.authorization !== `Bearer ${token()}`)
      return fail(response, 401, "Unauthorized", "Unauthorized");
    const [, space, name] = COLLECTION.exec(url.pathname) ?? [];
    if (space === undefined) return fail(response, 404, "NotFound", "the server could not find the requested resource");
    const isWatch = ["1", "true"].includes(url.searchParams.get("watch") ?? "");
    const verb = { GET: isWatch ? "watch" : name ? "get" : "list", POST: "create", PUT: "update" }[request.method];
    if (!verbs.includes(verb)) {
      return fail(response, 403, "Forbidden", `secrets is forbidden: User "app" cannot ${verb} resource "secrets"`);
    }
    if (verb === "watch") return watch(response, url.searchParams);
    if (verb === "get") {
      const found = secrets.get(name);
      return found && space === namespace ? send(response, 200, found) : notFound(response, name);
    }
    write(response, verb, space, name, text);
  }

  function write(response, verb, space, name, text) {
    let secret;
    try {
      secret = JSON.parse(text);
    } catch {
      return fail(response, 400, "BadRequest", "the object provided is unrecognized");
    }
    if (Buffer.byteLength(text) > MAX_SECRET_BYTES) return fail(response, 422, "Invalid", "Too long");
    const id = secret.metadata?.name ?? "";
    if (!/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(id) || id.length > 253) {
      return fail(response, 422, "Invalid", `Secret "${id}" is invalid: metadata.name`);
    }
    if (space !== namespace) return fail(response, 404, "NotFound", `namespaces "${space}" not found`);
    const found = secrets.get(id);
    if (verb === "create") {
      if (secret.metadata.resourceVersion) {
        return fail(response, 400, "BadRequest", "resourceVersion should not be set on objects to be created");
      }
      if (found) return fail(response, 409, "AlreadyExists", `secrets "${id}" already exists`);
      return send(response, 201, store(id, secret, "ADDED"));
    }
    if (name !== id)
      return fail(response, 400, "BadRequest", "the name of the object does not match the name on the URL");
    if (!found) return notFound(response, id);
    const expected = secret.metadata.resourceVersion;
    if (expected && expected !== found.metadata.resourceVersion) {
      const message = `Operation cannot be fulfilled on secrets "${id}": the object has been modified`;
      return fail(response, 409, "Conflict", message);
    }
    // What changes nothing is not written, and keeps its version.
    if (isSame(found, secret)) return send(response, 200, found);
    send(response, 200, store(id, secret, "MODIFIED"));
  }

  function store(id, secret, type) {
    revision += 1;
    const metadata = {
      ...secret.metadata,
      namespace,
      uid: secrets.get(id)?.metadata.uid ?? `uid-${revision}`,
      resourceVersion: String(revision),
      creationTimestamp: secrets.get(id)?.metadata.creationTimestamp ?? new Date().toISOString().replace(/\.\d+/, ""),
    };
    const stored = { ...secret, metadata };
    secrets.set(id, stored);
    history.push({ revision, type, object: stored });
    for (const tell of watchers) tell({ type, object: stored });
    return stored;
  }

  function watch(response, query) {
    const [, name] = /^metadata\.name=(.+)$/.exec(query.get("fieldSelector") ?? "") ?? [];
    // Without a version: what is there, and then what changes.
    const isNow = !query.has("resourceVersion");
    const from = isNow ? revision : Number(query.get("resourceVersion"));
    response.writeHead(200, { "content-type": "application/json", "transfer-encoding": "chunked" });
    response.flushHeaders();
    if (from < compacted) {
      const message = `too old resource version: ${from} (${compacted})`;
      return response.end(`${JSON.stringify({ type: "ERROR", object: status(410, "Expired", message) })}\n`);
    }
    const tell = ({ type, object }) => {
      if (name === undefined || object.metadata.name === name) response.write(`${JSON.stringify({ type, object })}\n`);
    };
    if (isNow) for (const object of secrets.values()) tell({ type: "ADDED", object });
    for (const event of history) if (event.revision > from) tell(event);
    watchers.add(tell);
    const timer = setTimeout(() => response.end(), Number(query.get("timeoutSeconds") ?? "1800") * 1_000);
    response.on("close", () => {
      clearTimeout(timer);
      watchers.delete(tell);
    });
  }

  const server = tls ? createTls(tls, handle) : createPlain(handle);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  return {
    url: `${tls ? "https" : "http"}://127.0.0.1:${port}`,
    port,
    secrets,
    requests,
    way,
    /** How many watches are open. */
    watching: () => watchers.size,
    /** Forgets every change up to now. */
    compact() {
      compacted = revision;
      history = [];
    },
    /** Ends every connection, as a restart does. */
    drop: () => server.closeAllConnections(),
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

function isSame(found, given) {
  const content = ({ data, type, metadata: { annotations, labels } }) =>
    JSON.stringify({ data, type, annotations, labels });
  return content(found) === content(given);
}

function send(response, code, body) {
  response.writeHead(code, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

function status(code, reason, message) {
  return { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, code };
}

function fail(response, code, reason, message) {
  send(response, code, status(code, reason, message));
}

function notFound(response, name) {
  fail(response, 404, "NotFound", `secrets "${name}" not found`);
}
