/**
 * Agents of several PID namespaces, as containers are, with one state directory. Each looks dead to the others, or like
 * one of their own processes.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { startAgent } from "./support/agents.mjs";
import { lockPathOn } from "./support/calls.mjs";
import { answer, createHost, expired, storeText } from "./support/host.mjs";

const AGENTS = 4;

/** A namespace of its own for each, which ends with it. */
const asUser = process.getuid?.() === 0 ? [] : ["--user", "--map-root-user"];
const ELSEWHERE = ["unshare", ...asUser, "--fork", "--kill-child=SIGKILL", "--pid", "--mount-proc"];

const [program, ...given] = ELSEWHERE;
const { status, error, stderr } = spawnSync(program, [...given, "true"], { encoding: "utf8" });
const whyNot = status === 0 ? "" : ` (skipped: no PID namespaces here: ${error?.message ?? stderr?.trim()})`;
if (whyNot) console.warn(whyNot);

const startHere = () => startAgent();
const startElsewhere = () => startAgent({ through: ELSEWHERE });

/** Has an owner ask the provider, while agents of this namespace and of others, each a process 1, wait for it. */
async function contend(startOwner) {
  const names = ["main", ...Array.from({ length: 2 * AGENTS }, (_, number) => `agent-${number + 1}`)];
  const old = expired();
  const host = createHost(Object.fromEntries(names.map((name) => [name, old])));
  const owner = await startOwner();
  const call = owner.refresh({ options: host.as("main") });
  expect(await call.called).toEqual(old);
  const starts = Array.from({ length: 2 * AGENTS }, (_, number) => (number % 2 ? startHere() : startElsewhere()));
  const agents = await Promise.all(starts);
  const calls = agents.map((agent, at) => agent.refresh({ options: host.as(names[at + 1]) }));
  await Promise.all(agents.map(({ log }) => log.seen({ type: "waiting" })));
  expect(calls.flatMap((one) => one.calls)).toEqual([]);
  const expectServed = async (fields, outcomes) => {
    for (const { result, error } of (await Promise.all(outcomes)).flat()) {
      expect(error).toBeUndefined();
      expect(result.credential).toMatchObject(fields);
    }
    for (const name of names) expect(host.store(name), name).toBe(storeText({ ...old, ...fields }));
  };
  return { host, owner, call, agents, calls, old, expectServed };
}

const cases = [
  ["this namespace", startHere],
  ["another namespace", startElsewhere],
];

test.skipIf(whyNot).each(cases)(`one provider call for all of them, by an owner of %s${whyNot}`, async (_, start) => {
  const { host, owner, call, calls, expectServed } = await contend(start);
  const { pid } = JSON.parse(readFileSync(`${lockPathOn(host)}.lock`, "utf8"));
  expect(pid).toBe(start === startHere ? owner.pid : 1);
  const fields = answer();
  call.answer(fields);
  const settled = [call, ...calls].map((one) => one.settled);
  await expectServed(fields, settled);
  expect(calls.flatMap((one) => one.calls)).toEqual([]);
});

test.skipIf(whyNot).each(cases)(
  `the death of an owner of %s lets them go on, and ask once${whyNot}`,
  async (_, start) => {
    const { owner, agents, calls, old, expectServed } = await contend(start);
    await owner.kill();
    const next = await Promise.race(calls.map((one) => one.called.then(() => one)));
    const fields = answer();
    next.answer(fields);
    await expectServed(
      fields,
      calls.map((one) => one.settled),
    );
    expect(calls.flatMap((one) => one.calls)).toEqual([old]);
    const reclaimed = agents.flatMap(({ log }) => log.matching({ type: "reclaimed" }));
    expect(reclaimed).toHaveLength(1);
  },
);

/** Starts two whose process ids and start times, to a hundredth of a second, are the same. */
async function startTwins() {
  const born = new Map();
  for (;;) {
    const crowd = await Promise.all(Array.from({ length: AGENTS }, startElsewhere));
    for (const agent of crowd) {
      const child = readFileSync(`/proc/${agent.pid}/task/${agent.pid}/children`, "utf8").trim();
      // The command stands in parentheses, and may hold anything.
      const [, fields] = /\) ([^)]*)$/.exec(readFileSync(`/proc/${child}/stat`, "utf8"));
      const startTime = fields.split(" ")[19];
      if (born.has(startTime)) return [born.get(startTime), agent];
      born.set(startTime, agent);
    }
  }
}

test.skipIf(whyNot)(`nor does an owner's death stop its twin${whyNot}`, async () => {
  const [owner, twin] = await startTwins();
  const host = createHost({ main: expired(), twin: expired() });
  const call = owner.refresh({ options: host.as("main") });
  await call.called;
  const { pid, starttime } = JSON.parse(readFileSync(`${lockPathOn(host)}.lock`, "utf8"));
  const next = twin.refresh({ options: host.as("twin") });
  await twin.log.seen({ type: "waiting" });
  await owner.kill();
  await next.called;
  expect(JSON.parse(readFileSync(`${lockPathOn(host)}.lock`, "utf8"))).toMatchObject({ pid, starttime });
  const fields = answer();
  next.answer(fields);
  const [{ result }] = await next.settled;
  expect(result.credential).toMatchObject(fields);
});

test.skipIf(whyNot)(
  `who looks from within a namespace sees an owner outside, and says what can't be told${whyNot}`,
  async () => {
    const host = createHost({ main: expired() });
    const owner = await startHere();
    const call = owner.refresh({ options: host.as("main") });
    await call.called;
    const waiter = await startHere();
    const waiting = waiter.refresh({ options: host.as("main") });
    await waiter.log.seen({ type: "waiting" });
    const code = `
    import { inspectOAuthRefreshLocks } from ${JSON.stringify(new URL("../index.mjs", import.meta.url).href)};
    console.log(JSON.stringify(await inspectOAuthRefreshLocks({ stateDir: process.argv[1] })));`;
    const look = (through) => {
      const [command, ...args] = [...through, process.execPath, "--input-type=module", "-e", code, host.stateDir];
      return JSON.parse(spawnSync(command, args, { encoding: "utf8" }).stdout);
    };
    const pid = owner.pid;
    expect(look(ELSEWHERE)).toMatchObject([{ holder: { pid, isElsewhere: true, command: null }, waiters: null }]);
    expect(look([])).toMatchObject([{ holder: { pid, isElsewhere: false } }]);
    call.answer(answer());
    await Promise.all([call.settled, waiting.settled]);
  },
);
