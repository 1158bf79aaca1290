/** The provider, in a process of its own. It counts. */
import { Grant, startProvider } from "../cli/provider.mjs";
import { sleep } from "./clock.mjs";
import { withProcesses } from "./processes.mjs";

/**
 * @typedef {object} Rules
 * @property {number} count how many logins
 * @property {number} latencyMs how long an answer takes
 * @property {number} [unavailable] so many calls are answered with 503
 * @property {boolean} [refuses] every call is refused for good
 *
 * @typedef {{ calls: number, latest: string[] }} Stats `latest`: the access tokens that are the newest of their login
 */

let rules = { count: 0, latencyMs: 0 };
let calls = 0;
let logins = 0;
/** By what the refresh tokens of a login begin with. */
let grants = new Map();

function logIn() {
  const login = ++logins;
  // Long enough for a token.
  const token = (kind, count) => `${kind}-${login}-${String(count).padStart(64, "0")}`;
  const grant = new Grant((count) => ({ access: token("access", count), refresh: token("refresh", count) }));
  grant.isRevoked = rules.refuses ?? false;
  grants.set(`refresh-${login}`, grant);
  return grant.newest;
}

function answer(refreshToken) {
  calls += 1;
  if (calls <= (rules.unavailable ?? 0)) return [503, { error: "temporarily_unavailable" }];
  return grants.get(refreshToken.slice(0, refreshToken.lastIndexOf("-"))).exchange(refreshToken);
}

export const work = {
  /** @returns {Promise<string>} its URL */
  async listen() {
    const { url } = await startProvider(async (sent) => {
      const { latencyMs } = rules;
      const answered = answer(sent.get("refresh_token"));
      if (latencyMs > 0) await sleep(latencyMs);
      return answered;
    });
    return url;
  },

  /** Begins anew. @returns the tokens of each login */
  async logIn(next) {
    rules = next;
    calls = 0;
    grants = new Map();
    return Array.from({ length: next.count }, logIn);
  },

  /** @returns {Promise<Stats>} */
  async stats() {
    return { calls, latest: [...grants.values()].map(({ newest }) => newest.access) };
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
