/** What lies between a caller and a token endpoint: the environment that names it, proxies, and HTTP/2. */
import { createSecureServer } from "node:http2";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { createServer as createTlsServer } from "node:tls";
import { onTestFinished, vi } from "vitest";
import { at, startServer, tokens } from "./token-server.mjs";

const ROOTS = ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_USE_SYSTEM_CA"];
const VARIABLES = ROOTS.concat(["HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"].flatMap((name) => [name, name.toLowerCase()]));

/** Has this thread's environment name this network, and no other, until the test is over. */
export function surroundedBy(env = {}) {
  for (const name of VARIABLES) vi.stubEnv(name, env[name]);
  onTestFinished(() => {
    vi.unstubAllEnvs();
  });
}

/** How to ask this server by TLS, under one of its names. */
export const byTls = (server, { host = "127.0.0.1", ...request } = {}) =>
  at(server, { tokenEndpoint: `https://${host}:${server.port}/token`, ...request });

/** A script of a proxy: makes every tunnel end at this server, whatever name was asked for. */
export const tunnelsTo = (server) => (_, socket) => {
  const beyond = connect(server.port, "127.0.0.1");
  for (const side of [socket, beyond]) side.on("error", () => {});
  socket.once("close", () => beyond.destroy());
  beyond.once("close", () => socket.destroy());
  socket.removeAllListeners("data");
  socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
  socket.pipe(beyond).pipe(socket);
};

/** A script for {@link startHttp2Server}: gives tokens, new ones each time. */
export function givesByHttp2(_, stream) {
  stream.respond({ ":status": 200, "content-type": "application/json" });
  stream.end(JSON.stringify(tokens()));
}

/** A token endpoint that speaks HTTP/2 only. Its scripts are given the stream in the socket's place. */
export async function startHttp2Server(identity, script = givesByHttp2) {
  async function take(stream, { ":method": method, ":path": path, ...headers }) {
    // A stream that is reset is told by what the caller makes of it.
    stream.on("error", () => {});
    const request = { method, path, headers, body: await text(stream) };
    server.requests.push(request);
    script(request, stream);
    server.log.add({ type: "requested" });
  }
  const create = (listener) => createSecureServer(identity).on("secureConnection", listener).on("stream", take);
  const server = await startServer(undefined, { create, onConnection: () => {} });
  return server;
}

/**
 * An HTTP/2 endpoint that answers its only stream with what Node's own server would not send: a body that breaks off with this
 * error code (RFC 9113 §6.4).
 */
export async function startResettingHttp2Server(identity, body, code) {
  const frame = (type, flags, stream, payload) => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head.writeUInt8(type, 3);
    head.writeUInt8(flags, 4);
    head.writeUInt32BE(stream, 5);
    return Buffer.concat([head, payload]);
  };
  const [DATA, HEADERS, RST_STREAM, SETTINGS] = [0, 1, 3, 4];
  const END_HEADERS = 4;
  /** `:status: 200`, in HPACK's static table. */
  const STATUS_200 = Buffer.of(0x88);
  const reason = Buffer.alloc(4);
  reason.writeUInt32BE(code);
  const create = (listener) => createTlsServer({ ...identity, ALPNProtocols: ["h2"] }, listener);
  return startServer(undefined, {
    create,
    onConnection(socket) {
      socket.write(frame(SETTINGS, 0, 0, Buffer.alloc(0)));
      let bytes = Buffer.alloc(0);
      socket.on("data", (chunk) => {
        bytes = Buffer.concat([bytes, chunk]);
        if (!bytes.includes("grant_type=refresh_token")) return;
        bytes = Buffer.alloc(0);
        const answer = [frame(HEADERS, END_HEADERS, 1, STATUS_200), frame(DATA, 0, 1, Buffer.from(body))];
        socket.write(Buffer.concat([...answer, frame(RST_STREAM, 0, 1, reason)]));
      });
    },
  });
}
