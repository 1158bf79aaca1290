/** All that is measured, in the order of the page. */
import { crowd } from "./cases/crowd.mjs";
import { durability } from "./cases/durability.mjs";
import { failing } from "./cases/failing.mjs";
import { fastPath } from "./cases/fast-path.mjs";
import { handoff } from "./cases/handoff.mjs";
import { killed } from "./cases/killed.mjs";
import { loading } from "./cases/loading.mjs";
import { pair } from "./cases/pair.mjs";
import { profiles } from "./cases/profiles.mjs";
import { stormCase } from "./cases/storm.mjs";
import { waiting } from "./cases/waiting.mjs";

export const CASES = [
  stormCase,
  failing,
  profiles,
  crowd,
  fastPath,
  pair,
  handoff,
  killed,
  waiting,
  durability,
  loading,
];
