/**
 * @typedef {object} Column
 * @property {string} key
 * @property {string} title
 * @property {"µs" | "ms" | "KiB" | ""} unit
 *
 * @typedef {object} Bench what a case works with
 * @property {boolean} quick
 * @property {number} rounds
 * @property {string} directory its own, empty
 * @property {import("./peers.mjs").Entrant[]} entrants
 * @property {import("./floor.mjs").Floor | undefined} floor
 *
 * @typedef {object} Case
 * @property {string} name
 * @property {string} title
 * @property {string} about
 * @property {(what: string) => boolean} [isBrief] which situations the short page shows
 * @property {Column[]} columns the first is the one that ratios are taken of
 * @property {(bench: Bench, table: Table) => Promise<void>} run measures each contender once per round, in turns, so that what
 *   else the machine does hits all alike
 */

/**
 * What a case has measured: for each situation and contender, each figure once per round.
 *
 * @typedef {object} Row
 * @property {string} what the situation
 * @property {string} who the contender
 * @property {Record<string, number[]>} figures by column
 * @property {string} [reason] why there are none
 */

/** The name of the floor's row. */
export const FLOOR = "floor";

export class Table {
  rows = [];

  /** @param {Record<string, number>} figures of one round */
  add(what, who, figures) {
    const row = this.#row(what, who);
    for (const [key, value] of Object.entries(figures)) {
      row.figures[key] ??= [];
      row.figures[key].push(value);
    }
  }

  /** Measures a contender in one round, or says why it can't be measured. */
  async measure(what, { name, reason }, measured) {
    if (reason) return this.miss(what, name, reason);
    try {
      this.add(what, name, await measured());
    } catch (error) {
      this.miss(what, name, error.message.split("\n")[0]);
    }
  }

  miss(what, who, reason) {
    this.#row(what, who).reason = reason;
  }

  #row(what, who) {
    let row = this.rows.find((one) => one.what === what && one.who === who);
    if (!row) {
      row = { what, who, figures: {} };
      this.rows.push(row);
    }
    return row;
  }
}
