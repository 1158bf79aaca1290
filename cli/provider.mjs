/**
 * A token endpoint on loopback, for demonstrations: refresh tokens can be used once, and a second use revokes the login
 * (RFC 9700 §4.14.2).
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

const token = () => randomBytes(24).toString("base64url");

/** @param {number} latencyMs how long an answer takes */
export async function startProvider(latencyMs) {
  const stats = { calls: 0, reused: 0, revoked: false, accessToken: undefined };
  const first = token();
  let live = first;
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    stats.calls += 1;
    const isLive = !stats.revoked && new URLSearchParams(body).get("refresh_token") === live;
    if (isLive) {
      live = token();
      stats.accessToken = token();
    } else {
      stats.reused += 1;
      stats.revoked = true;
    }
    const answer = isLive
      ? { access_token: stats.accessToken, refresh_token: live, token_type: "Bearer", expires_in: 3600 }
      : { error: "invalid_grant", error_description: "refresh_token_reused" };
    await pause(latencyMs);
    response.writeHead(isLive ? 200 : 400, { "content-type": "application/json", "cache-control": "no-store" });
    response.end(JSON.stringify(answer));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { url: `http://127.0.0.1:${port}/token`, refreshToken: first, stats, close };
}
