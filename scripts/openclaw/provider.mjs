// An OAuth provider on loopback as strict ones are: a refresh token can be used once, and a second use ends the login.
import { EventEmitter, once } from "node:events";
import { createServer } from "node:http";

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A JWT as Codex has it; nobody checks its signature. */
export function accessToken(id) {
  const claims = { jti: id, "https://api.openai.com/auth": { chatgpt_account_id: "account" } };
  return `${part({ alg: "none" })}.${part(claims)}.x`;
}

const REFUSED = { error: { message: "refresh token has already been used", code: "refresh_token_reused" } };

/**
 * @typedef {object} Fault of the first call
 * @property {number} [status] the answer, instead of a token; the refresh token is not used
 * @property {boolean} [silent] no answer ever comes
 * @property {boolean} [spent] the refresh token is used all the same
 * @property {boolean} [dns] the name of the provider can't be looked up
 *
 * @param {{ latency: number, fault?: Fault }} how
 */
export async function startProvider({ latency, fault = {} }) {
  const events = new EventEmitter();
  const stats = { calls: 0, reused: 0, access: undefined };
  let live = "r0";
  let dnsFails = fault.dns === true;
  const server = createServer(async (request, response) => {
    const answer = (status, body) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(body));
    };
    if (request.method === "GET") {
      const fails = dnsFails;
      dnsFails = false;
      if (fails) events.emit("call", Number(request.headers["x-agent"]));
      return answer(200, { fails });
    }
    let body = "";
    for await (const chunk of request) body += chunk;
    const id = ++stats.calls;
    const first = id === 1 ? fault : {};
    const isFaulty = first.status !== undefined || first.silent === true;
    const isLive = new URLSearchParams(body).get("refresh_token") === live;
    if (!isLive) stats.reused += 1;
    if (!isFaulty || first.spent || !isLive) {
      live = isLive ? `r${id}` : undefined;
      if (isLive && !isFaulty) stats.access = accessToken(`${id}`);
    }
    events.emit("call", Number(request.headers["x-agent"]));
    if (first.silent) return;
    const tokens = { access_token: stats.access, refresh_token: live, expires_in: 43_200, token_type: "Bearer" };
    setTimeout(() => {
      if (first.status !== undefined) answer(first.status, { error: { message: "try again" } });
      else answer(isLive ? 200 : 401, isLive ? tokens : REFUSED);
    }, latency);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { stats, events, url: `http://127.0.0.1:${server.address().port}/`, close };
}
