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
 * @property {number} [latency] how long it takes, in milliseconds
 */

/** One login at a time, and what has become of it. */
class Grant {
  calls = 0;
  reused = 0;
  /** The access token that was given last. */
  access;
  #tag;
  #live;
  #fault;

  constructor(tag, fault) {
    this.#tag = tag;
    this.#fault = { ...fault };
    this.#live = this.tokens(0).refresh;
    this.access = this.tokens(0).access;
  }

  tokens(id) {
    return { access: accessToken(`${this.#tag}.${id}`), refresh: `refresh.${this.#tag}.${id}` };
  }

  /** The access token of a refresh, if there was one. */
  get fresh() {
    return this.access === this.tokens(0).access ? undefined : this.access;
  }

  /** Whether the name can't be looked up, this once. */
  lookUp() {
    const { dns = false } = this.#fault;
    this.#fault.dns = false;
    return dns;
  }

  /** The answer; none if none ever comes. */
  exchange(refreshToken) {
    const id = ++this.calls;
    const { status, silent = false, spent = false, latency } = id === 1 ? this.#fault : {};
    const isFaulty = status !== undefined || silent;
    if (refreshToken !== this.#live) {
      this.reused += 1;
      this.#live = undefined;
      return { status: 401, body: REFUSED };
    }
    const { access, refresh } = this.tokens(id);
    if (!isFaulty || spent) this.#live = refresh;
    if (silent) return undefined;
    if (status !== undefined) return { status, body: { error: { message: "try again" } } };
    this.access = access;
    const body = { access_token: access, refresh_token: refresh, expires_in: 43_200, token_type: "Bearer" };
    return { status: 200, body, latency };
  }
}

/** Tells `call`, with the agent's number, before each answer. */
export async function startProvider({ latency }) {
  const events = new EventEmitter();
  let grant;
  const server = createServer(async (request, response) => {
    const answer = ({ status, body }) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(body));
    };
    const agent = Number(request.headers["x-agent"]);
    if (request.method === "GET") {
      const fails = grant.lookUp();
      if (fails) events.emit("call", agent);
      return answer({ status: 200, body: { fails } });
    }
    let body = "";
    for await (const chunk of request) body += chunk;
    const given = grant.exchange(new URLSearchParams(body).get("refresh_token"));
    events.emit("call", agent);
    if (given) setTimeout(() => answer(given), given.latency ?? latency);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    events,
    url: `http://127.0.0.1:${server.address().port}/`,
    /** A new login, whose first call fares as `fault` says. */
    grant: (tag, fault) => {
      grant = new Grant(tag, fault);
      return grant;
    },
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
