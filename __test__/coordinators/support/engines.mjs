/** Real engines in tests. Where one is not installed, its tests are skipped, and say why. */
import { createHash, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { describe, expect, onTestFinished } from "vitest";
import { checkCoordinator } from "../../../index.mjs";
import { missing } from "../../../scripts/hosts/engines.mjs";

/** A `describe` that needs engines. */
export function describeWith(engines, name, body) {
  const why = engines.map(missing).filter(Boolean).join("; ");
  if (why) console.warn(`SKIPPED: ${name}: ${why}`);
  describe.skipIf(why)(why ? `${name} (${why})` : name, body);
}

export const newKey = () => createHash("sha256").update(randomUUID()).digest("hex");

/** For one test. */
export async function own(starting) {
  const engine = await starting;
  onTestFinished(() => engine.remove());
  return engine;
}

/** A host program's pool. */
export function pool(url, options) {
  const made = new pg.Pool({ connectionString: url, max: 4, ...options });
  made.on("error", () => {});
  onTestFinished(() => {
    // A server that stands still says no goodbye.
    void made.end().catch(() => {});
  });
  return made;
}

/** Nothing that checks the rules found anything. Returns the notes by rule. */
export async function expectRight(coordinator, another) {
  const { checks } = await checkCoordinator(coordinator, { another });
  expect(checks.filter(({ ok }) => !ok)).toEqual([]);
  return Object.fromEntries(checks.map(({ rule, detail }) => [rule, detail]));
}

/** An adapter may tell a waiter early. Ours don't, though something else happens `meanwhile`. */
export async function expectQuiet(coordinator, key, version, meanwhile = () => {}) {
  const abort = new AbortController();
  let isTold = false;
  const waiting = coordinator.changed(key, version, abort.signal).then(() => {
    isTold = true;
  });
  await sleep(400);
  await meanwhile();
  await sleep(600);
  expect(isTold).toBe(false);
  abort.abort();
  await waiting;
}

/** A busy machine may make it late now and then; a fault makes it late each time. */
export async function expectSooner(limitMs, measure) {
  for (let tries = 5; ; tries--) {
    const tookMs = await measure();
    if (tookMs < limitMs) return;
    if (tries === 1) expect(tookMs).toBeLessThan(limitMs);
  }
}

/** What a promise was rejected with. */
export async function thrownBy(promise) {
  const thrown = await promise.then(
    (value) => expect.fail(`it resolved with ${JSON.stringify(value)}`),
    (error) => error,
  );
  expect(thrown).toBeInstanceOf(Error);
  return thrown;
}

/** A signal that never aborts, and has no listener when the test is over. */
export const forever = () => new AbortController().signal;
