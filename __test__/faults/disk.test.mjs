/** A disk that fails once, at any file operation of a refresh and in any way. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createLane, firstDeathIn, firstFor, goOn, outcome, suffer } from "./support/aftermath.mjs";
import { readJournal } from "./support/journal.mjs";
import { sideBySide } from "./support/processes.mjs";
import { stopTimers, world } from "./support/world.mjs";

const LANES = 3;
const ERRNOS = { EPERM: 1, EIO: 5, EMFILE: 24, ENOSPC: 28, EROFS: 30 };
const types = readFileSync(join(import.meta.dirname, "..", "..", "index.d.ts"), "utf8");
const CODES = types
  .split("type ErrorCode =")[1]
  .split(";\n")[0]
  .match(/(?<=\| ")\w+(?=")/g);

/** How many file operations a call makes: one more, and a death on order does not come. */
async function countPoints(before, name) {
  const first = await firstFor(async (host, point) => {
    await before(host);
    return (await suffer(host, name, `${point}:kill`)).signal !== "SIGKILL";
  });
  expect(first).toBeGreaterThan(30);
  return first - 1;
}

/**
 * One call for each point and fault, and what must hold afterwards.
 *
 * @param {(host: object) => Promise<object | undefined>} [run.before] what happens first; gives what the provider answered
 * @param {string} [run.name] which agent then suffers the fault
 */
async function atEachPoint({ faults, before = async () => {}, name = "one", check }) {
  const points = await countPoints(before, name);
  const jobs = faults.flatMap(([what, fault]) =>
    Array.from({ length: points }, (_, index) => ({
      label: `${what} at point ${index + 1}`,
      order: `${index + 1}:${fault}`,
    })),
  );
  const others = ["two", "one", "main"].filter((other) => other !== name).concat(name);
  const createContext = () => createLane();
  await sideBySide(jobs, LANES, createContext, async ({ label, order }, lane) => {
    const host = lane.host();
    const earlier = await before(host);
    const answers = world.answersTo(host.old.refresh);
    const { code, agent, settled, unsaved, fields } = await suffer(host, name, order);
    expect({ code, output: agent.output }, label).toEqual({ code: unsaved ? null : 0, output: "" });
    expect(settled, label).toBeDefined();
    const { error } = settled;
    if (error) {
      expect(error.name, `${label}: ${error.shown}`).toBe("OAuthRefreshLockError");
      expect(CODES, label).toContain(error.code);
      expect(error.code, label).not.toBe("internal");
      expect(error.message, label).not.toBe("");
    }
    const asked = agent.first("called") !== undefined;
    expect(world.answersTo(host.old.refresh), label).toEqual(asked ? [...answers, "refreshed"] : answers);
    check({ host, label, settled, asked, fields });
    const found = await goOn({ host, fields: fields ?? earlier, label }, others, false);
    await lane.renew(found.tokens);
    host.remove();
  });
  return { points, pairs: jobs.length };
}

test("a disk that fails once loses nothing and spends nothing twice", async () => {
  stopTimers();
  const counts = { refused: 0, refreshed: 0 };
  const codes = new Map();
  const faults = [...Object.entries(ERRNOS), ["a short write", "short"]];
  const check = ({ host, label, settled, asked, fields }) => {
    if (!asked) {
      expect(settled.error, `${label}: ${outcome(settled)}`).toBeDefined();
      codes.set(settled.error.code, (codes.get(settled.error.code) ?? 0) + 1);
      counts.refused += 1;
      return;
    }
    counts.refreshed += 1;
    expect(outcome(settled), label).toBe("refreshed");
    expect(settled.result.credential, label).toMatchObject(fields);
    // Durable before visible.
    const { receipts } = readJournal(world.lockPath(host));
    const inJournal = receipts.some(({ credential }) => credential.includes(fields.refresh));
    expect(inJournal || host.holders(fields).length > 0, label).toBe(true);
  };
  const { points, pairs } = await atEachPoint({ faults, check });
  const list = [...codes].map(([code, number]) => `${number} ${code}`).join(", ");
  console.log(
    `${pairs} disk faults (${points} file operations, 6 kinds): ${counts.refreshed} refreshed all the same, ` +
      `${counts.refused} refused before the provider was asked (${list})`,
  );
});

test("a disk that fails from some point on loses nothing that it had taken", async () => {
  stopTimers();
  const unsaved = [];
  const check = ({ host, label, settled, asked, fields }) => {
    if (!asked) {
      expect(settled.error, `${label}: ${outcome(settled)}`).toBeDefined();
    } else if (settled.error) {
      expect(settled.error.code, label).toBe("receipt_unsaved");
      expect(host.holders(fields), label).toEqual([]);
      unsaved.push(label);
    }
  };
  const { pairs } = await atEachPoint({ faults: [["a disk that is gone", "crash"]], check });
  console.log(`${pairs} points from which on the disk fails: ${unsaved.length} with an answer that could not be saved`);
  // The journal's write of the answer, and its sync.
  expect(unsaved).toHaveLength(2);
});

test.each([
  { what: "died before it could ask", states: ["dispatched", "received", "committed"] },
  { what: "died with the answer in the journal", states: ["received", "committed"] },
])("the same for whoever follows one that $what", async ({ what, states }) => {
  const death = await firstDeathIn(states);
  stopTimers();
  const before = async (host) => {
    const { fields } = await suffer(host, "one", `${death}:kill`);
    expect(readJournal(world.lockPath(host))?.state).toBe(states[0]);
    return fields;
  };
  const counts = { served: 0, refused: 0 };
  const check = ({ settled, asked, label }) => {
    if (settled.error) expect(asked, `${label}: ${settled.error.shown}`).toBe(false);
    counts[settled.error ? "refused" : "served"] += 1;
  };
  const { pairs } = await atEachPoint({ faults: [["EIO", ERRNOS.EIO]], before, name: "two", check });
  console.log(
    `${pairs} disk faults for whoever follows one that ${what}: ${counts.served} served, ${counts.refused} refused`,
  );
});
