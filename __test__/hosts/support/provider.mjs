/**
 * A provider as strict as they come: each refresh token is good for one call, and whoever presents one again has its whole grant
 * revoked. It counts per grant.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

/** A login, and what became of it. */
class Grant {
  calls = 0;
  /** How often a refresh token came that had been exchanged before. */
  reused = 0;
  isRevoked = false;
  /** Who came with which refresh token, what it was exchanged for, when the answer had left (`closedAt`), and whether its line was cut. */
  presented = [];
  /** How long a call takes before and after its token is exchanged. */
  beforeMs;
  /** How long its access tokens live. */
  seconds = 3_600;
  afterMs = 0;
  #name;
  #rotates;
  #generation = 1;
  #gates = [];

  constructor(name, rotates) {
    this.#name = name;
    this.#rotates = rotates;
  }

  /** The tokens that are good now. */
  get newest() {
    const refresh = this.#rotates ? `refresh-${this.#name}-${this.#generation}` : `refresh-${this.#name}-1`;
    return { access: `access-${this.#name}-${this.#generation}`, refresh };
  }

  /** Whether this access token was one of this login's. */
  hasGiven(access) {
    return access.startsWith(`access-${this.#name}-`);
  }

  get generation() {
    return this.#generation;
  }

  /**
   * Holds the next call back: `before` its token is looked at, or `after` it was exchanged.
   *
   * @returns `reached` resolves when it is there, `release` lets it go on
   */
  hold(when) {
    const gate = { when };
    gate.reached = new Promise((resolve) => {
      gate.tell = resolve;
    });
    gate.released = new Promise((resolve) => {
      gate.release = resolve;
    });
    this.#gates.push(gate);
    return gate;
  }

  async pass(when) {
    const index = this.#gates.findIndex((gate) => gate.when === when);
    if (index < 0) return;
    const [gate] = this.#gates.splice(index, 1);
    gate.tell();
    await gate.released;
  }

  exchange(token, by) {
    const tokens = this.#exchange(token);
    const entry = { token, by, gave: tokens?.refresh };
    this.presented.push(entry);
    return { tokens, entry };
  }

  #exchange(token) {
    if (token !== this.newest.refresh) {
      this.reused += 1;
      this.isRevoked = true;
    }
    if (this.isRevoked) return undefined;
    this.#generation += 1;
    return this.newest;
  }
}

/** @param {{ delayMs?: number }} [options] how long a call takes */
export async function startProvider({ delayMs = 0 } = {}) {
  const grants = new Map();
  let logins = 0;
  const server = createServer(async (request, response) => {
    const answer = (status, value) => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
    };
    let body = "";
    try {
      for await (const chunk of request) body += chunk;
    } catch {
      return; // The line was cut.
    }
    const token = new URLSearchParams(body).get("refresh_token") ?? "";
    const grant = grants.get(/^refresh-(.+)-\d+$/.exec(token)?.[1]);
    if (!grant) return answer(400, { error: "invalid_request" });
    grant.calls += 1;
    await grant.pass("before");
    await sleep(grant.beforeMs ?? delayMs);
    const { tokens, entry } = grant.exchange(token, Number(request.headers["x-agent"]));
    // Its answer may have nowhere to go by now.
    entry.isCut = request.socket.destroyed;
    response.once("close", () => {
      entry.closedAt = performance.now();
    });
    await grant.pass("after");
    await sleep(grant.afterMs);
    if (!tokens) return answer(400, { error: "invalid_grant" });
    return answer(200, { access_token: tokens.access, refresh_token: tokens.refresh, expires_in: grant.seconds });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}/token`,
    port: server.address().port,

    /** @param {{ rotates?: boolean }} [options] */
    login({ rotates = true } = {}) {
      logins += 1;
      const grant = new Grant(`${process.pid}x${logins}`, rotates);
      grants.set(`${process.pid}x${logins}`, grant);
      return grant;
    },

    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
