/** An OAuth token endpoint in a process of its own, whose refresh tokens are good for one use. It counts. */
import { once } from "node:events";
import { createServer } from "node:http";
import { sleep } from "./clock.mjs";
import { withProcesses } from "./processes.mjs";

/**
 * @typedef {object} Rules
 * @property {number} count how many logins
 * @property {number} latencyMs how long an answer takes
 * @property {number} [unavailable] so many calls are answered with 503
 * @property {boolean} [refuses] every call is refused for good
 *
 * @typedef {{ access: string, refresh: string }} Grant
 * @typedef {{ calls: number, spent: number, latest: string[] }} Stats `spent`: calls with a spent token; `latest`: the access
 *   tokens that are the newest of their login
 */

/** Long enough for a token. */
const token = (kind, number) => `${kind}-${String(number).padStart(64, "0")}`;

let rules = { count: 0, latencyMs: 0 };
let issued = 0;
let calls = 0;
let spent = 0;
/** Which login a refresh token is of, while it is good. */
let good = new Map();
let latest = [];

function issue(login) {
  issued += 1;
  const grant = { access: token("access", issued), refresh: token("refresh", issued) };
  good.set(grant.refresh, login);
  latest[login] = grant.access;
  return grant;
}

function answer(body) {
  calls += 1;
  if (calls <= (rules.unavailable ?? 0)) return [503, { error: "temporarily_unavailable" }];
  if (rules.refuses) return [400, { error: "invalid_grant", error_description: "revoked" }];
  const refresh = new URLSearchParams(body).get("refresh_token") ?? "";
  const login = good.get(refresh);
  if (login === undefined) {
    spent += 1;
    return [400, { error: "invalid_grant", error_description: "refresh_token_reused" }];
  }
  good.delete(refresh);
  const grant = issue(login);
  return [200, { access_token: grant.access, refresh_token: grant.refresh, expires_in: 3600, token_type: "Bearer" }];
}

export const work = {
  /** @returns {Promise<string>} its URL */
  async listen() {
    const server = createServer(async (request, response) => {
      let body = "";
      for await (const chunk of request.setEncoding("utf8")) body += chunk;
      const { latencyMs } = rules;
      const [status, json] = answer(body);
      if (latencyMs > 0) await sleep(latencyMs);
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(json));
    });
    server.keepAliveTimeout = 600_000;
    server.listen({ host: "127.0.0.1", port: 0, backlog: 1024 });
    await once(server, "listening");
    return `http://127.0.0.1:${server.address().port}/token`;
  },

  /** Begins anew. */
  async logIn(next) {
    rules = next;
    calls = 0;
    spent = 0;
    good = new Map();
    latest = [];
    return Array.from({ length: next.count }, (_, login) => issue(login));
  },

  async stats() {
    return { calls, spent, latest };
  },
};

export function withProvider(use) {
  return withProcesses(1, {}, async ([server]) => {
    const url = await server.call(import.meta.url, "listen");
    return use({
      url,
      logIn: (rules) => server.call(import.meta.url, "logIn", rules),
      stats: () => server.call(import.meta.url, "stats"),
    });
  });
}
