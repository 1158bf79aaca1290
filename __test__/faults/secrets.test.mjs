/**
 * No token is told: whatever goes well or wrong, none is in a file but the stores and the sealed journal, in an error, an
 * event, or anything printed.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { inspect } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { describeError } from "./support/errors.mjs";
import { AGENTS, Host, PROFILE, PROVIDER } from "./support/host.mjs";
import { readJournal } from "./support/journal.mjs";
import { OBSTACLES, REFUSED } from "./support/obstacles.mjs";
import { AgentProcess, oneCall } from "./support/processes.mjs";
import { world } from "./support/world.mjs";

const HOUR = 3_600_000;

test("a run in which everything happens tells no token", async () => {
  const secrets = new Set();
  const said = [];
  const codes = new Set();
  const outcomes = new Set();
  const types = new Set();

  const listener = (event) => {
    types.add(event.type);
    said.push(inspect(event, { depth: null }), JSON.stringify(event));
  };
  subscribe("oauth-refresh-lock", listener);
  onTestFinished(() => {
    unsubscribe("oauth-refresh-lock", listener);
  });

  const createHost = async () => {
    const host = new Host(await world.provider.obtainGrant());
    onTestFinished(() => host.remove());
    return host;
  };
  let host = await createHost();

  /** A disk that is gone keeps what a store was to be replaced by, beside it, until the next write. */
  let isTorn = false;

  /** Learns the tokens that are about, and looks for them in every file. */
  function look() {
    for (const tokens of [host.old, ...AGENTS.map((name) => host.parsed(name))]) {
      for (const token of Object.values(tokens ?? {})) if (token) secrets.add(token);
    }
    const sealed = readJournal(world.lockPath(host))?.receipts.length > 0;
    const journal = `${world.lockPath(host)}.journal`;
    const tellers = host.tellers([...secrets]);
    const isAllowed = (file) => (file === journal && sealed) || (isTorn && file.endsWith(".oauth-refresh-lock.tmp"));
    expect(tellers.filter((file) => !isAllowed(file))).toEqual([]);
    for (const file of host.otherFiles()) expect(statSync(file).mode & 0o777, file).toBe(0o600);
    return sealed;
  }

  function note({ result, error }) {
    if (error) {
      said.push(error.shown);
      codes.add(error.code ?? error.oauth ?? error.message);
    } else if (result) {
      const { credential, ...rest } = result;
      secrets.add(credential.access).add(credential.refresh);
      said.push(JSON.stringify(rest));
      if (rest.notSaved) codes.add(rest.notSaved.code);
      outcomes.add(result.outcome);
    }
    look();
    return { result, error };
  }

  /** A call in this process with a refresh function of its own. */
  async function call(name, refresh, options) {
    const asked = typeof refresh === "function" ? refresh : async () => refresh;
    try {
      return note({ result: await world.withOAuthRefreshLock(PROVIDER, PROFILE, asked, host.options(name, options)) });
    } catch (error) {
      return note({ error: describeError(error) });
    }
  }
  const real = async (name, options, answered) => note(await world.call(host, name, options, answered));
  const elsewhere = async (name, options, fault) => {
    const { agent, settled, fields } = await oneCall({ package: world.module, fault }, world.ask(host, name, options));
    said.push(agent.output);
    for (const { event } of agent.tells) if (event) listener(event);
    if (fields) secrets.add(fields.access).add(fields.refresh);
    return settled ? note(settled) : look();
  };
  const newLogin = async () => {
    host.put(await world.provider.obtainGrant());
    look();
  };
  /** Tokens that only the refresh function knows. */
  let made = 0;
  const fields = (more) => {
    made += 1;
    const [access, refresh] = [`made-access-${made}-x9Q`, `made-refresh-${made}-x9Q`];
    secrets.add(access).add(refresh);
    return { access, refresh, expires: Date.now() + HOUR, ...more };
  };

  // All goes well.
  await real("one");
  await real("two");
  await elsewhere("main", { forceRefresh: true });
  await elsewhere("one", { rejectedAccess: host.parsed("main").access });

  // The stores do not take the answer; it stays in the journal, and only there.
  await newLogin();
  const ends = [];
  await real("one", {}, () => {
    for (const name of ["one", "main"]) ends.push(OBSTACLES[0].raise(host.storePath(name)));
  });
  expect(look()).toBe(true);
  await elsewhere("two");
  await real("one");
  for (const end of ends) end();
  await real("two");
  expect(look()).toBe(false);

  // A store that can't be written to begin with.
  await newLogin();
  const end = REFUSED[0]?.raise(host.storePath("one"));
  await real("one");
  end?.();

  // The answer is of no use, or of somebody else.
  for (const useless of [fields({ expires: "soon" }), fields({ access: 1 }), fields({ email: "other@example.test" })]) {
    await newLogin();
    await call("one", useless);
    await call("two", fields(), { uncertain: "fail" });
  }
  await newLogin();
  const circular = fields();
  circular.self = circular;
  await call("one", circular);

  // A login lands while the call is under way, and a logout.
  await newLogin();
  await call("one", async () => {
    await newLogin();
    return fields();
  });
  // Another host: that answer waits in the journal for an agent that still holds the token it replaces.
  host = await createHost();
  await call("one", () => {
    for (const name of AGENTS) host.logOut(name);
    return fields();
  });
  await newLogin();

  // The refresh function fails.
  const failWith = (error) => () => {
    throw error;
  };
  await call("one", failWith(Object.assign(new Error("slow down"), { status: 429, retryAfterMs: 60_000 })), {
    timeoutMs: 1000,
  });
  await call("two", fields(), { timeoutMs: 1000 });
  await newLogin();
  await call("one", failWith("no error"));
  await newLogin();
  const late = fields();
  let answer;
  const answered = new Promise((resolve) => {
    answer = () => resolve(late);
  });
  await call("one", () => answered, { timeoutMs: 50 });
  answer();
  await real("two");
  await newLogin();
  await call("one", () => new Promise(() => {}), { callTimeoutMs: 20, uncertain: "fail" });
  expect(codes).toContain("refresh_call_timeout");
  // That one keeps its lock; the others are told who has it.
  await elsewhere("two", { timeoutMs: 100 });
  await call("two", fields(), { signal: AbortSignal.abort() });

  // Another host: one that was cut off, and a grant that died with it.
  host = await createHost();
  world.provider.setLatency(60_000);
  const rotated = world.refreshed(host.old.refresh);
  const owner = new AgentProcess({ package: world.module });
  owner.ask(world.ask(host, "one"));
  await rotated;
  await real("two", { timeoutMs: 50 });
  await owner.kill();
  said.push(owner.output);
  world.provider.setLatency(0);
  await real("two", { uncertain: "fail" });
  await real("two");
  await elsewhere("one");

  // A disk that fails for good, at every point at which the answer is being saved.
  // A lock file that can't be removed any more fails nothing, so one success is not the end.
  isTorn = true;
  for (let [point, successes] = [20, 0]; successes < 10; point += 1) {
    await newLogin();
    const { error } = await elsewhere("one", {}, `${point}:crash`);
    successes = error ? 0 : successes + 1;
    // What it left is cleared away, so that the next one gets as far as it is to get.
    await elsewhere("one");
  }
  for (const name of AGENTS) {
    await newLogin();
    await real(name);
  }
  isTorn = false;
  look();
  await elsewhere("two");

  // A spent token is back, and its successor is nowhere.
  await newLogin();
  const spent = host.old;
  await real("one");
  host.put(spent);
  await real("two");

  // Stores that are torn in the middle of a token.
  await newLogin();
  const path = host.storePath("one");
  truncateSync(path, readFileSync(path).indexOf(host.old.refresh) + 10);
  await real("one");
  await elsewhere("one");
  writeFileSync(path, JSON.stringify({ version: 1, profiles: { [PROFILE]: [host.old.refresh] } }));
  await real("one");
  await newLogin();

  // Arguments at the wrong place.
  await call("one", fields(), { timeoutMs: host.old.refresh });
  await call("one", fields(), { stateDir: host.old.refresh });
  await call("one", fields(), { uncertain: host.old.refresh });

  // The native side's objects.
  const { native } = createRequire(world.module)(join(world.module, "..", "lib", "native.js"));
  const request = {
    provider: PROVIDER,
    profileId: PROFILE,
    forceRefresh: false,
    surroundings: { workingDir: "/", osHome: "/" },
  };
  const asked = { serveUnexpired: true, ...request, rejectedAccess: host.old.access, ...host.options("one") };
  const nativeCall = native().startRefresh(asked, undefined, undefined, undefined, false, true);
  said.push(inspect(nativeCall, { showHidden: true, depth: null, getters: true }));

  const all = said.join("\n");
  expect([...secrets].filter((secret) => all.includes(secret))).toEqual([]);
  expect(secrets.size).toBeGreaterThan(40);
  expect([...outcomes].sort()).toEqual(["adopted", "fresh", "recovered", "refreshed"]);
  const expectedTypes = ["acquired", "adopted", "dispatched", "failed", "fresh", "mirrored", "recovered", "refreshed"];
  expect([...types].sort()).toEqual(expect.arrayContaining(expectedTypes));
  expect([...codes].sort()).toEqual(
    expect.arrayContaining([
      "caller_aborted",
      "caller_timeout",
      "file_lock_timeout",
      "grant_dead",
      "identity_mismatch",
      "invalid_argument",
      "invalid_refresh_result",
      "receipt_unsaved",
      "refresh_backoff",
      "refresh_call_timeout",
      "refresh_threw_non_error",
      "refresh_token_spent",
      "refresh_uncertain",
      "store_invalid",
      "store_unwritable",
      "superseded",
    ]),
  );
  console.log(
    `${secrets.size} tokens looked for in ${said.length} texts and every file; codes: ${[...codes].sort().join(", ")}`,
  );
});
