/**
 * Owners that are stopped, at any moment, and go on later: peers take over from them, and they do no harm.
 *
 * STUCK_ROUNDS=n tries every case n times; without it some are left out.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { outcome, tokensOf } from "./support/aftermath.mjs";
import { outlive } from "./support/outlive.mjs";
import { sideBySide } from "./support/processes.mjs";
import { createStuckLane } from "./support/stuck.mjs";
import { world } from "./support/world.mjs";

const LANES = 2;
const ROUNDS = Number(process.env.STUCK_ROUNDS ?? 1);
/** Of how many points one is tried, where not every case is. */
const STRIDE = process.env.STUCK_ROUNDS ? 1 : 4;

let lanes;
beforeAll(async () => {
  lanes = await Promise.all(Array.from({ length: LANES }, () => createStuckLane()));
});
afterAll(async () => {
  await Promise.all((lanes ?? []).map((lane) => lane.close()));
});

/** Does these jobs, side by side, each on a host of its own. */
async function inLanes(jobs, work) {
  const free = [...lanes];
  const takeLane = async () => {
    const lane = free.pop();
    await lane.renew();
    return lane;
  };
  await sideBySide(jobs, LANES, takeLane, async (job, lane) => {
    const host = lane.host();
    await lane.renew(await work(job, lane, host));
    host.remove();
  });
}

/** Stops an owner at these file operations of its call or, without `at`, at each `stride`th until it makes no more. */
async function stopAtPoints(what, { second, at, from = 1, stride = 1, ...options }) {
  let undisturbed = Number.POSITIVE_INFINITY;
  const cases = [];
  function* points() {
    for (let round = 0; round < ROUNDS; round += 1)
      if (at) yield* at;
      else for (let point = from; point < undisturbed; point += stride) yield point;
  }
  await inLanes(points(), async (point, lane, host) => {
    const caller = "one";
    if (second) {
      expect((await lane.call(host, caller)).error).toBeUndefined();
      host.put(host.tokens(caller));
    }
    const owner = lane.startOwner({ fault: `${point}:stop` });
    const id = owner.ask(world.ask(host, caller));
    void owner.finish();
    const label = `${what}, stopped at point ${point}`;
    if (await owner.hasStopped()) {
      const wake = () => owner.goOn();
      const { tokens, ...found } = await outlive(lane, { host, owner, id, caller, label, wake }, options);
      cases.push({ point, ...found });
      return tokens;
    }
    const settled = owner.first("settled", id);
    expect(outcome(settled), `${label}: ${settled?.error?.shown}`).toBe("refreshed");
    undisturbed = Math.min(undisturbed, point);
    return tokensOf(settled);
  });
  report(what, cases);
  return cases;
}

function report(what, cases) {
  const counts = {};
  const count = (name) => {
    counts[name] = (counts[name] ?? 0) + 1;
  };
  for (const { state, doubt, owner } of cases) {
    count(doubt ? `${state} (${doubt})` : state);
    count(`owner ${owner}`);
  }
  const list = Object.entries(counts).map(([name, number]) => `${number} ${name}`);
  console.log(`${what}: ${cases.length} owners stopped at file operations: ${list.join(", ")}`);
}

describe("stopped at any file operation", () => {
  let doubtful;

  test("taken over from", async () => {
    const cases = await stopAtPoints("taken over from", {});
    expect(cases.length).toBeGreaterThan(100);
    for (const state of ["dispatched", "received", "committed"]) {
      expect(cases.filter((one) => one.state === state).length, state).toBeGreaterThan(0);
    }
    // Between the answer's arrival and its first byte in the journal.
    expect(cases.filter(({ doubt }) => doubt === "grant dead")).toHaveLength(ROUNDS);
    doubtful = new Set(cases.filter(({ doubt }) => doubt).map(({ point }) => point));
  });

  test("taken over from by callers that do not want to ask in doubt", async () => {
    const cases = await stopAtPoints("in doubt", { uncertain: "fail", at: doubtful });
    expect(cases.every(({ doubt }) => doubt === "nobody asks")).toBe(true);
  });

  test("taken over from in a later refresh", async () => {
    const cases = await stopAtPoints("in a later refresh", { second: true, stride: STRIDE });
    expect(cases.length).toBeGreaterThan(70 / STRIDE);
  });

  test("going on in time", async () => {
    const cases = await stopAtPoints("going on in time", { inTime: true, from: Math.ceil(STRIDE / 2), stride: STRIDE });
    expect(cases.length).toBeGreaterThan(100 / STRIDE);
  });
});

describe("stopped during the provider's call", () => {
  test.each([
    { moment: "before it is sent", lingerAt: "called", sends: true },
    { moment: "before the provider answers", answer: "later" },
    { moment: "when the answer has come", answer: "meanwhile" },
    { moment: "when the refresh function has the answer", lingerAt: "answered" },
  ])("$moment", async ({ moment, lingerAt, answer, sends }) => {
    const options = [{}, { uncertain: "fail" }, { inTime: true }];
    const jobs = Array.from({ length: ROUNDS * options.length }, (_, index) => options[index % options.length]);
    await inLanes(jobs, async (job, lane, host) => {
      const until = join(host.stateDir, "go-on");
      const linger = lingerAt && { at: lingerAt, until, manner: "deaf" };
      const held = answer && world.holdAnswer(host.old.refresh);
      const owner = lane.startOwner();
      const id = owner.ask(world.ask(host, "one", undefined, { linger }));
      void owner.finish();
      await (held ? held.rotated : owner.heard(lingerAt));
      await owner.stop();
      if (answer === "meanwhile") {
        held.release();
        await world.answered(host.old.refresh);
      }
      const wake = () => {
        writeFileSync(until, "");
        held?.release();
        owner.goOn();
      };
      const stuck = { host, owner, id, caller: "one", label: `stopped ${moment}`, wake, sends };
      const { state, tokens } = await outlive(lane, stuck, job);
      expect(state).toBe("dispatched");
      return tokens;
    });
  });
});
