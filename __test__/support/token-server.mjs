/** A token endpoint on loopback that answers as a script says, byte for byte, and keeps what reaches it. */
import { once } from "node:events";
import { createServer } from "node:net";
import { onTestFinished } from "vitest";
import { EventLog } from "./events.mjs";
import { token } from "./secrets.mjs";

/** An answer's bytes. A header that is `null` is left out. */
export function http(status, body = "", headers = {}) {
  const bytes = Buffer.from(body);
  const all = { "content-type": "application/json", "content-length": bytes.length, ...headers };
  const lines = Object.entries(all).flatMap(([name, value]) => (value === null ? [] : [`${name}: ${value}\r\n`]));
  return Buffer.concat([Buffer.from(`HTTP/1.1 ${status} Whatever\r\n${lines.join("")}\r\n`), bytes]);
}

/** The same, with JSON. */
export const json = (value, status = 200, headers = {}) => http(status, JSON.stringify(value), headers);

/** What a token endpoint gives. */
export const tokens = (fields) => ({
  access_token: token("access"),
  refresh_token: token("refresh"),
  token_type: "Bearer",
  expires_in: 3600,
  ...fields,
});

/** A JSON Web Token with these claims. */
export function jwt(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "none" })}.${part(claims)}.${token("signature")}`;
}

/** Scripts: write this and keep the connection, or close it. */
export const says = (bytes) => (_, socket) => socket.write(bytes);
export const ends = (bytes) => (_, socket) => socket.end(bytes);
/** Gives tokens, new ones each time. */
export const gives = (fields) => (_, socket) => socket.write(json(tokens(fields)));
/** One script after the other; the last one stays. */
export function inTurn(...scripts) {
  let at = 0;
  return (request, socket) => scripts[Math.min(at++, scripts.length - 1)](request, socket);
}

/** The request at the beginning of these bytes, and what follows it; nothing before it is whole. */
function parsed(bytes) {
  const end = bytes.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  const [first, ...lines] = bytes.subarray(0, end).toString("latin1").split("\r\n");
  const [method, path] = first.split(" ");
  const headers = Object.fromEntries(
    lines.map((line) => line.split(/: (.*)/s)).map(([name, value]) => [name.toLowerCase(), value]),
  );
  const from = end + 4;
  const to = from + Number(headers["content-length"] ?? 0);
  if (bytes.length < to) return undefined;
  return { request: { method, path, headers, body: bytes.toString("utf8", from, to) }, rest: bytes.subarray(to) };
}

/**
 * @typedef {object} Request
 * @property {string} method
 * @property {string} path
 * @property {Record<string, string>} headers
 * @property {string} body
 */
export class TokenServer {
  /** `connected`, `requested`, `closed`: the last once a connection is over. */
  log = new EventLog();
  /** @type {Request[]} whole ones, in the order in which they came */
  requests = [];
  connections = 0;
  #sockets = new Set();
  #server;

  constructor(script, { onConnection, create = createServer } = {}) {
    this.script = script;
    this.#server = create((socket) => {
      this.connections += 1;
      this.#sockets.add(socket);
      // A client that goes away is told by `closed`.
      socket.on("error", () => {});
      socket.once("close", () => {
        this.#sockets.delete(socket);
        this.log.add({ type: "closed" });
      });
      this.log.add({ type: "connected" });
      if (onConnection) onConnection(socket);
      else this.#listenTo(socket);
    });
    this.#server.on("tlsClientError", () => this.log.add({ type: "refused" }));
  }

  #listenTo(socket) {
    let bytes = Buffer.alloc(0);
    socket.on("data", (chunk) => {
      bytes = Buffer.concat([bytes, chunk]);
      for (let next = parsed(bytes); next; next = parsed(bytes)) {
        bytes = next.rest;
        this.requests.push(next.request);
        this.script(next.request, socket);
        this.log.add({ type: "requested" });
      }
    });
  }

  async listen({ host = "127.0.0.1", port = 0 } = {}) {
    this.#server.listen({ host, port, backlog: 512 });
    await once(this.#server, "listening");
    this.port = this.#server.address().port;
    return this;
  }

  get url() {
    return `http://127.0.0.1:${this.port}/token`;
  }

  /** Resolves once `count` requests have come. */
  requested(count = 1) {
    return this.log.seen({ type: "requested" }, count);
  }

  /** Which refresh tokens were presented, in order. */
  get presented() {
    return this.requests.map(({ body }) => new URLSearchParams(body).get("refresh_token"));
  }

  async close() {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

/** A server for the running test. */
export async function startServer(script = gives(), { listen, ...options } = {}) {
  const server = await new TokenServer(script, options).listen(listen);
  onTestFinished(() => server.close());
  return server;
}

/** A script that answers when told to. */
export function holding(fields) {
  const waiting = [];
  let isOpen = false;
  const answer = (socket) => socket.write(json(tokens(fields)));
  return {
    script: (_, socket) => void (isOpen ? answer(socket) : waiting.push(socket)),
    /** Answers what has come, and at once what comes. */
    open() {
      isOpen = true;
      for (const socket of waiting.splice(0)) answer(socket);
    },
    /** How many wait for their answer. */
    get held() {
      return waiting.length;
    },
  };
}

/** A port that nobody listens at. */
export async function freePort() {
  const server = await new TokenServer(() => {}).listen();
  await server.close();
  return server.port;
}

/** How to ask this server. */
export const at = (server, request) => ({ tokenEndpoint: server.url, clientId: "client", ...request });
