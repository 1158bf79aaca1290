/**
 * Token endpoints on loopback, for demonstrations, benchmarks and tests: a refresh token can be used once, and a second use revokes its
 * login (RFC 9700 §4.14.2).
 */
import { once } from "node:events";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";

/** A login, and what became of it. */
export class Grant {
  /** Counted by whoever answers for it. */
  calls = 0;
  /** How often a refresh token came that was not the newest. */
  reused = 0;
  isRevoked = false;
  /** How often it was refreshed. */
  count = 0;
  /** How long its access tokens live. */
  seconds = 3600;
  #issue;

  /** @param {(count: number) => { access: string, refresh: string }} [issue] the tokens after so many refreshes */
  constructor(issue = (count) => ({ access: `access-${count}`, refresh: `refresh-${count}` })) {
    this.#issue = issue;
    this.newest = issue(0);
  }

  /** @returns {[status: number, body: object]} */
  exchange(refreshToken) {
    if (refreshToken !== this.newest.refresh) {
      this.reused += 1;
      this.isRevoked = true;
    }
    if (this.isRevoked) return [400, { error: "invalid_grant", error_description: "refresh_token_reused" }];
    this.count += 1;
    this.newest = this.#issue(this.count);
    const { access: access_token, refresh: refresh_token } = this.newest;
    return [200, { access_token, refresh_token, token_type: "Bearer", expires_in: this.seconds }];
  }
}

/** An HTTP server on loopback. @param {import("node:http").RequestListener} [listener] */
export async function serve(listener) {
  const server = createServer(listener);
  // Clients keep connections; one that the server drops in between would look like a network failure.
  server.keepAliveTimeout = 600_000;
  server.listen({ host: "127.0.0.1", port: 0, backlog: 2048 });
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  async function close() {
    server.close();
    server.closeAllConnections();
    await once(server, "close");
  }
  return { server, port, url: `http://127.0.0.1:${port}`, close };
}

/**
 * A token endpoint.
 *
 * @param {(sent: URLSearchParams, request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse) =>
 *   Promise<[status: number, body: object] | undefined>} answer none if that has been given already, or never will be
 */
export async function startProvider(answer) {
  const { port, url, close } = await serve(async (request, response) => {
    const body = await text(request).catch(() => undefined);
    // The line was cut.
    if (body === undefined) return;
    const answered = await answer(new URLSearchParams(body), request, response);
    if (!answered) return;
    const [status, value] = answered;
    response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
    response.end(JSON.stringify(value));
  });
  return { port, url: `${url}/token`, close };
}
