/**
 * What the package says on its diagnostics channel, to wait for and to count. No test sleeps: it waits for an event.
 */
export const CHANNEL = "oauth-refresh-lock";

/** @typedef {import("../../index.js").OAuthRefreshLockEvent} Event */

/** A promise and what settles it. */
export function deferred() {
  let settle;
  const promise = new Promise((resolve, reject) => {
    settle = { resolve, reject };
  });
  return { promise, ...settle };
}

/** Events in the order in which they came. */
export class EventLog {
  events = [];
  #waits = new Set();

  add = (event) => {
    this.events.push(event);
    for (const check of this.#waits) check();
  };

  /** Starts anew. */
  forget() {
    this.events = [];
  }

  /** The events that agree with `like` in every field it has. */
  matching(like) {
    return this.events.filter((event) => Object.entries(like).every(([name, value]) => event[name] === value));
  }

  /** The types of these events, in order. */
  types(like = {}) {
    return this.matching(like).map(({ type }) => type);
  }

  /** Resolves once `count` such events have come, those before this call included. */
  seen(like, count = 1) {
    return this.until(() => this.matching(like).length >= count);
  }

  /** Resolves once `condition` holds, which is looked at after each event. */
  until(condition) {
    return new Promise((resolve) => {
      const check = () => {
        if (!condition()) return;
        this.#waits.delete(check);
        resolve();
      };
      this.#waits.add(check);
      check();
    });
  }
}
