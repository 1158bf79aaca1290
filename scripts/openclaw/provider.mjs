// The provider of the releases, as strict ones are: a refresh token can be used once, and a second use ends the login.
import { EventEmitter } from "node:events";
import { Grant as PlainGrant, startProvider as startPlainProvider } from "../../cli/provider.mjs";

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A JWT as Codex has it, whose signature nobody checks, and a refresh token. */
function tokensOf(id) {
  const claims = { jti: id, "https://api.openai.com/auth": { chatgpt_account_id: "account" } };
  return { access: `${part({ alg: "none" })}.${part(claims)}.x`, refresh: `refresh.${id}` };
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
class Grant extends PlainGrant {
  seconds = 43_200;
  #tag;
  #fault;

  constructor(tag, fault) {
    super((count) => tokensOf(`${tag}.${count}`));
    this.#tag = tag;
    this.#fault = { ...fault };
  }

  tokens(id) {
    return tokensOf(`${this.#tag}.${id}`);
  }

  /** The access token of a refresh, if there was one. */
  get fresh() {
    return this.count > 0 ? this.newest.access : undefined;
  }

  /** Whether the name can't be looked up, this once. */
  lookUp() {
    const { dns = false } = this.#fault;
    this.#fault.dns = false;
    return dns;
  }

  /** The answer, none if none ever comes, and how long it takes. */
  answer(refreshToken) {
    this.calls += 1;
    const { status, silent = false, spent = false, latency } = this.calls === 1 ? this.#fault : {};
    const isGood = refreshToken === this.newest.refresh;
    const isLost = isGood && (status !== undefined || silent);
    const answer = isLost && !spent ? undefined : this.exchange(refreshToken);
    if (isLost) return silent ? {} : { answer: [status, { error: { message: "try again" } }] };
    return this.isRevoked ? { answer: [401, REFUSED] } : { answer, latency };
  }
}

/** Tells `call`, with the agent's number, before each answer. */
export async function startProvider({ latency }) {
  const events = new EventEmitter();
  let grant;
  const server = await startPlainProvider(async (sent, request) => {
    const agent = Number(request.headers["x-agent"]);
    if (request.method === "GET") {
      const fails = grant.lookUp();
      if (fails) events.emit("call", agent);
      return [200, { fails }];
    }
    const { answer, latency: own = latency } = grant.answer(sent.get("refresh_token"));
    events.emit("call", agent);
    if (answer) await new Promise((resolve) => setTimeout(resolve, own));
    return answer;
  });
  return {
    ...server,
    events,
    /** A new login, whose first call fares as `fault` says. */
    grant: (tag, fault) => {
      grant = new Grant(tag, fault);
      return grant;
    },
  };
}
