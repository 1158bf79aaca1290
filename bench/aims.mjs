/** What we aim at, as ratios within one run where that is possible, and whether it is reached. */
import { situation as sizeOf } from "./cases/fast-path.mjs";
import { situation as profilesOf } from "./cases/profiles.mjs";
import { situation as crowdOf } from "./cases/storm.mjs";
import { NOBODY, SITUATIONS as WAITING } from "./cases/waiting.mjs";
import { middle, ratio, rowOf, short, worst } from "./figures.mjs";
import { OURS, OURS_NATIVE } from "./flows.mjs";

/** @typedef {(name: string, what: string, who: string) => import("./table.mjs").Row | undefined} Find */

/**
 * @typedef {object} Aim
 * @property {string} text
 * @property {number} limit
 * @property {string} unit
 * @property {(find: Find) => number} found not a number if it was not measured
 */

const ours = "ours";
const TWENTY = crowdOf({ agents: 20, processes: 20 }, 200);

/** Our figure in that of fs-ext, in whichever way of using it is the quicker. */
function toFsExt(find, name, what, key) {
  const own = find(name, what, ours)?.figures[key];
  const ratios = ["fs-ext", "fs-ext, file kept open"].map((who) => ratio(own, find(name, what, who)?.figures[key]));
  const known = ratios.filter(Number.isFinite);
  return known.length > 0 ? Math.max(...known) : Number.NaN;
}

/** What waiting costs more than not waiting, for one lock or for many. */
function ofWaiting(find, key) {
  const own = (what) => middle(find("waiting", what, ours), key);
  const idle = (what) => middle(find("waiting", what, NOBODY), key);
  return Math.max(...WAITING.map(({ what }) => own(what) - idle(what)));
}

const growthOfAgents = (find, who) => {
  const beyond = (agents) => {
    const what = crowdOf({ agents, processes: 1 }, 0);
    return middle(find("storm", what, who), "last");
  };
  return beyond(200) / beyond(20);
};

const growthOfStore = (find, who) =>
  middle(find("fast-path", sizeOf(1_000), who), "p50") - middle(find("fast-path", sizeOf(1), who), "p50");

const AIMS = [
  ...[OURS, OURS_NATIVE].flatMap((flow) => {
    const times = (find, what) => middle(find("storm", what, flow), "times");
    const inOne = (agents) => crowdOf({ agents, processes: 1 }, 200);
    return [
      {
        text: `Storm, 20 processes, 200 ms provider, ${flow}: last agent fresh, in provider's answers`,
        limit: 1.09,
        unit: "×",
        found: (find) => times(find, TWENTY),
      },
      {
        text: `The same, 20 agents in one process, ${flow}`,
        limit: 1.05,
        unit: "×",
        found: (find) => times(find, inOne(20)),
      },
      {
        text: `The same, 200 agents in one process, ${flow}`,
        limit: 1.3,
        unit: "×",
        found: (find) => times(find, inOne(200)),
      },
      {
        text: `Storm, 20 processes, 0 ms provider, ${flow}: last agent fresh`,
        limit: 24,
        unit: "ms",
        found: (find) => middle(find("storm", crowdOf({ agents: 20, processes: 20 }, 0), flow), "last"),
      },
      {
        text: `Ten times the agents in one process, 0 ms provider, ${flow}: times as long`,
        limit: 10,
        unit: "×",
        found: (find) => growthOfAgents(find, flow),
      },
      {
        text: `Ten times the profiles, ${flow}: times as long`,
        limit: 10,
        unit: "×",
        found: (find) =>
          middle(find("profiles", profilesOf(100, 10), flow), "last") /
          middle(find("profiles", profilesOf(10, 10), flow), "last"),
      },
    ];
  }),
  {
    text: "Free lock: p50, in fs-ext's (the quicker way to use it)",
    limit: 2,
    unit: "×",
    found: (find) => toFsExt(find, "pair", "lock and unlock", "p50"),
  },
  {
    text: "Usable credential in a store of 20 profiles: p50",
    limit: 10,
    unit: "µs",
    found: (find) => middle(find("fast-path", sizeOf(20), ours), "p50"),
  },
  {
    text: "Usable credential, 1,000 profiles instead of one: what it costs more, in what a plain read and parse costs more",
    limit: 1,
    unit: "×",
    found: (find) => growthOfStore(find, ours) / growthOfStore(find, "readFileSync and JSON.parse"),
  },
  {
    text: "Hand-off, 20 processes: p50, in fs-ext's",
    limit: 3,
    unit: "×",
    found: (find) => toFsExt(find, "handoff", "20 processes", "p50"),
  },
  {
    text: "Hand-off, 20 processes: p99, in fs-ext's",
    limit: 4,
    unit: "×",
    found: (find) => toFsExt(find, "handoff", "20 processes", "p99"),
  },
  {
    text: "Hand-off, 20 processes: longest wait, in fair shares",
    limit: 2,
    unit: "×",
    found: (find) => middle(find("handoff", "20 processes", ours), "unfair"),
  },
  {
    text: "Killed holder to the next owner: p99 of the worst round",
    limit: 5,
    unit: "ms",
    found: (find) => worst(find("killed", "SIGKILL of the holder to the next owner", ours), "p99"),
  },
  {
    text: "64 waiters: CPU, beyond that of a process in which nobody waits, per second",
    limit: 1,
    unit: "ms",
    found: (find) => ofWaiting(find, "cpu"),
  },
  {
    text: "64 waiters: wake-ups, beyond those of a process in which nobody waits, per second",
    limit: 1,
    unit: "",
    found: (find) => ofWaiting(find, "wakeUps"),
  },
  {
    text: "1,000 callers in one process, a store each: event-loop delay p99",
    limit: 5,
    unit: "ms",
    found: (find) => middle(find("crowd", "1000 callers, a store each", OURS), "delayP99"),
  },
];

/** @returns {string[][]} for each aim that was measured: what it is, what was found, whether it is reached */
export function judge(results) {
  const find = (name, what, who) => rowOf(results, name, what, who);
  return AIMS.map(({ text, limit, unit, found }) => {
    const value = found(find);
    const verdict = value <= limit ? "reached" : `missed: ${short(value / limit)} × the aim`;
    return { value, row: [`${text}: at most ${limit} ${unit}`.trim(), `${short(value)} ${unit}`.trim(), verdict] };
  })
    .filter(({ value }) => Number.isFinite(value))
    .map(({ row }) => row);
}
