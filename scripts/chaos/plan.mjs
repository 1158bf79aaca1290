/** What happens in a round, and when: by its seed alone. */
import { Random } from "../../__test__/support/random.mjs";

/** Within so many milliseconds all calls begin. */
const BEGIN_MS = 700;
const CALLS = 20;
const HOURS_MS = 3_600_000;

/**
 * @param {string} world where the login is: `files`, `sqlite`, or an engine that hosts share
 * @param {number} seed
 */
export function planOf(world, seed) {
  const random = new Random(seed);
  const chance = (percent) => random.below(100) < percent;
  const isShared = world === "postgres" || world === "etcd";
  const plan = {
    world,
    hosts: isShared ? 3 : 1,
    agents: chance(60) ? ["main", "one", "two"] : ["main"],
    names: chance(30) ? ["acme:main", "acme:other-name"] : ["acme:main"],
    /** How long access tokens live: longer than the round, or so short that calls of one round refresh several times. */
    seconds: chance(30) ? 1 : 3_600,
    beforeMs: random.of([0, 20, 120]),
    afterMs: random.of([0, 20, 120]),
    isOnSmallDisk: chance(50),
    isQuiet: chance(10),
    steps: [],
  };
  const at = (what, { from = 0, to = BEGIN_MS, ...more } = {}) =>
    plan.steps.push({ ms: from + random.below(to - from), what, pick: random.below(1 << 30), ...more });
  const times = (below, what, more) => {
    for (let left = random.below(below); left > 0; left -= 1) at(what, more?.());
  };
  const host = () => random.below(plan.hosts);
  const later = { from: 50, to: BEGIN_MS * 2 };

  for (let call = 0; call < CALLS; call += 1) {
    at("call", {
      host: host(),
      agent: random.of(plan.agents),
      profileId: random.of(plan.names),
      atEndpoint: chance(50),
      ...(!plan.isQuiet && {
        isRejecting: chance(15),
        isImpatient: chance(10),
        wrongByMs: chance(8) ? random.of([-4, 4]) * HOURS_MS : 0,
      }),
    });
  }
  if (!plan.isQuiet) {
    times(4, "kill", () => later);
    times(4, "stop", () => ({ ...later, forMs: random.below(1_200) }));
    if (chance(40))
      times(4, "cutProvider", () => ({ host: host(), way: random.of(["up", "down"]), bytes: random.below(600) }));
    if (chance(30)) times(4, "removeSidecars", () => ({ ...later, host: host() }));
    if (plan.isOnSmallDisk && chance(60))
      at(random.of(["fillDisk", "makeReadOnly"]), { ...later, host: host(), forMs: random.below(800) });
    if (isShared && chance(50))
      at("cutEngine", { host: host(), how: random.of(["cut", "sever", "down"]), forMs: random.below(1_500) });
    if (isShared && chance(10)) at("restartEngine");
    // Nobody can tell an old copy of a store from a new login. So no round has both.
    if (chance(25) && world !== "sqlite")
      times(4, "restoreStore", () => ({ ...later, host: host(), agent: random.of(plan.agents) }));
    else if (chance(35)) {
      times(3, "logIn", () => ({ host: host(), profileId: random.of(plan.names) }));
      if (chance(30) && world !== "sqlite") at("logOut", { host: host(), profileId: random.of(plan.names) });
    }
  }
  plan.steps.sort((one, other) => one.ms - other.ms);
  return plan;
}

/** Whether something of this kind happens in the round. */
export const has = (plan, ...kinds) => plan.steps.some(({ what }) => kinds.includes(what));
