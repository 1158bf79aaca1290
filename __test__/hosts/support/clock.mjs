import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A claim of this age is in doubt, as src/coordinator.rs says. */
export const CLAIM_LIMIT_MS = 180_000;

/** The boot's clock, as the agents with faults see it that have its `env`. It can be put forward. */
export class Clock {
  #dir = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-clock-"));
  #file = join(this.#dir, "ahead");
  #aheadMs = 0;

  constructor() {
    writeFileSync(this.#file, "");
    this.env = { OAUTH_REFRESH_LOCK_CLOCK_AHEAD: this.#file };
  }

  advance(ms) {
    this.#aheadMs += ms;
    truncateSync(this.#file, this.#aheadMs);
  }

  remove() {
    rmSync(this.#dir, { recursive: true });
  }
}
