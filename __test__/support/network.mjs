/**
 * What lies between a caller and a token endpoint: the environment that names it, proxies, and HTTP/2.
 */
import { createSecureServer } from "node:http2";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { onTestFinished, vi } from "vitest";
import { at, startServer, tokens } from "./token-server.mjs";

const VARIABLES = ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"].concat(
  ["HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"].flatMap((name) => [name, name.toLowerCase()]),
);

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
