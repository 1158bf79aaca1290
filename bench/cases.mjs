/** All that is measured, in the order of the page. */
import { handoff } from "./cases/handoff.mjs";
import { killed } from "./cases/killed.mjs";
import { pair } from "./cases/pair.mjs";
import { stormCase } from "./cases/storm.mjs";

export const CASES = [stormCase, pair, handoff, killed];
