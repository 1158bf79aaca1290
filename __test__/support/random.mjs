/** Numbers that look random and are the same in every run. */
export class Random {
  #state;

  constructor(seed) {
    this.#state = seed >>> 0;
  }

  /** A whole number from 0 to `below` - 1 (mulberry32). */
  below(below) {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  }

  /** One of these. */
  of(choices) {
    return choices[this.below(choices.length)];
  }

  /** Text of up to `length` of these pieces. */
  text(pieces, length) {
    return Array.from({ length: this.below(length + 1) }, () => this.of(pieces)).join("");
  }
}
