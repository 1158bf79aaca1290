/** A provider as strict as they come, on which hosts and chaos play. */
import { setTimeout as sleep } from "node:timers/promises";
import { Grant as PlainGrant, startProvider as startPlainProvider } from "../../../cli/provider.mjs";
import { deferred } from "../../support/events.mjs";

/** A login, and what became of it. */
class Grant extends PlainGrant {
  /** Who came with which refresh token, what it was exchanged for, when the answer had left (`closedAt`), and whether its line was cut. */
  presented = [];
  /** How long a call takes before and after its token is exchanged. */
  beforeMs;
  afterMs = 0;
  #name;
  #gates = [];

  constructor(name, rotates) {
    const last = (count) => (rotates ? count : 0) + 1;
    super((count) => ({ access: `access-${name}-${count + 1}`, refresh: `refresh-${name}-${last(count)}` }));
    this.#name = name;
  }

  /** Whether this access token was one of this login's. */
  hasGiven(access) {
    return access.startsWith(`access-${this.#name}-`);
  }

  /**
   * Holds the next call back: `before` its token is looked at, or `after` it was exchanged.
   *
   * @returns `reached` resolves when it is there, `release` lets it go on
   */
  hold(when) {
    const [reached, released] = [deferred(), deferred()];
    this.#gates.push({ when, reached, released });
    return { reached: reached.promise, release: released.resolve };
  }

  async pass(when) {
    const index = this.#gates.findIndex((gate) => gate.when === when);
    if (index < 0) return;
    const [{ reached, released }] = this.#gates.splice(index, 1);
    reached.resolve();
    await released.promise;
  }
}

/** @param {{ delayMs?: number }} [options] how long a call takes */
export async function startProvider({ delayMs = 0 } = {}) {
  const grants = new Map();
  const server = await startPlainProvider(async (sent, request, response) => {
    const token = sent.get("refresh_token") ?? "";
    const grant = grants.get(/^refresh-(.+)-\d+$/.exec(token)?.[1]);
    if (!grant) return [400, { error: "invalid_request" }];
    grant.calls += 1;
    await grant.pass("before");
    await sleep(grant.beforeMs ?? delayMs);
    const answer = grant.exchange(token);
    // The answer may have nowhere to go by now.
    const isCut = request.socket.destroyed;
    const entry = { token, by: Number(request.headers["x-agent"]), gave: answer[1].refresh_token, isCut };
    grant.presented.push(entry);
    response.once("close", () => {
      entry.closedAt = performance.now();
    });
    await grant.pass("after");
    await sleep(grant.afterMs);
    return answer;
  });
  return {
    ...server,

    /** @param {{ rotates?: boolean }} [options] */
    login({ rotates = true } = {}) {
      const name = `${process.pid}x${grants.size + 1}`;
      const grant = new Grant(name, rotates);
      grants.set(name, grant);
      return grant;
    },
  };
}
