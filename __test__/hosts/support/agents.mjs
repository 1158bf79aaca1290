import { join } from "node:path";
import { Child } from "../../support/child.mjs";

const AGENT = join(import.meta.dirname, "agent.mjs");

/** A process of agents; see agent.mjs. */
export class Agent extends Child {
  isKilled = false;
  #asked = 0;

  /** @param {{ package?: string, node?: string, env?: NodeJS.ProcessEnv }} [options] */
  constructor({ package: module, node, env } = {}) {
    super(AGENT, { node, env: { ...(module && { TEST_PACKAGE: module }), ...env } });
    this.ready = this.heard("ready");
  }

  get isAlive() {
    return this.end === undefined && !this.isKilled;
  }

  /**
   * Makes a call.
   *
   * @returns {Call}
   */
  call(ask) {
    return new Call(this, ask, ++this.#asked);
  }

  /** No more calls: it has to end by itself. */
  async finish() {
    this.send({ isDone: true });
    return { ...(await super.finish()), output: this.output };
  }

  kill() {
    this.isKilled = true;
    return super.kill();
  }
}

/** A call under way. */
export class Call {
  #agent;
  #from;

  constructor(agent, ask, id) {
    this.#agent = agent;
    this.#from = agent.tells.length;
    const isAnswer = (tell) => tell.told === "became" && tell.id === id;
    this.isOver = false;
    /** What became of it; `{ died }` if its process did. Never rejects. */
    this.became = this.#heard(isAnswer).then(
      ({ became }) => became,
      () => ({ died: agent.end.signal ?? agent.end.code, message: agent.output }),
    );
    void this.became.then(() => {
      this.isOver = true;
    });
    agent.send({ id, ask });
  }

  get agent() {
    return this.#agent;
  }

  #heard(isIt) {
    return this.#agent.until(() => this.#agent.tells.slice(this.#from).find(isIt));
  }

  /** It has reached a point at which it was to be held. */
  held(at) {
    return this.#heard((tell) => tell.told === "held" && tell.at === at);
  }

  blocked() {
    return this.#heard((tell) => tell.told === "blocked");
  }

  /** This event has been told, or the call is over. */
  async event(type) {
    const isIt = (tell) => (tell.told === "event" && tell.type === type) || tell.told === "became";
    return (await this.#heard(isIt)).type;
  }

  goOn(point) {
    this.#agent.send({ point });
  }
}
