/** All that is measured, in the order of the page. */
import { handoff } from "./cases/handoff.mjs";
import { killed } from "./cases/killed.mjs";
import { pair } from "./cases/pair.mjs";

export const CASES = [pair, handoff, killed];
