/** The scenarios' world as tests, and their figures. */
import { appendFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { missing } from "../../../scripts/hosts/engines.mjs";
import { startEngine } from "./engines.mjs";
import { startProvider } from "./provider.mjs";
import { served, troubles, World } from "./world.mjs";

const ENGINES = ["postgres", "etcd"];

/** The same tests on every engine that is installed; says loudly which is not. */
export function onEngines(title, body) {
  for (const name of ENGINES) {
    const why = missing(name);
    if (why) console.warn(`\nNOT TESTED: "${title}" on ${name}: ${why}\n`);
    describe.skipIf(why)(`${title}: ${name}`, () => body(name));
  }
}

/** @returns {{ readonly current: World }} */
export function useWorld(engine, { engineOptions, delayMs, faults = false, env } = {}) {
  const use = { current: undefined };
  beforeAll(async () => {
    const module = faults ? (await import("../../faults/support/package.mjs")).faultyPackage() : undefined;
    use.current = new World(await startEngine(engine, engineOptions), await startProvider({ delayMs }), {
      module,
      env,
    });
  });
  afterAll(() => use.current?.close());
  return use;
}

/**
 * The figures of a scenario, which have to be these exactly, and go into the table of `npm run hosts`.
 *
 * @param {{ scenario: string, engine: string }} what
 * @param {{ calls: number, reused?: number, served: number, of?: number, troubles?: object }} expected `served` of all, by default
 */
export function expectFigures({ scenario, engine }, grant, answers, expected) {
  const found = {
    calls: grant.calls,
    reused: grant.reused,
    served: served(grant, answers),
    of: answers.length,
    troubles: troubles(answers),
  };
  const { reused = 0, of = answers.length, troubles: expectedTroubles = {} } = expected;
  const wanted = { calls: expected.calls, reused, served: expected.served, of, troubles: expectedTroubles };
  const isAsExpected = JSON.stringify(found) === JSON.stringify(wanted);
  if (process.env.HOSTS_REPORT) {
    appendFileSync(process.env.HOSTS_REPORT, `${JSON.stringify({ scenario, engine, ...found, isAsExpected })}\n`);
  }
  const others = answers.filter(({ access }) => access !== grant.newest.access);
  expect(found, `${scenario} on ${engine}: ${JSON.stringify(others).slice(0, 4_000)}`).toEqual(wanted);
}
