import { describe, expect, onTestFinished, test } from "vitest";
import { withOAuthRefreshLock } from "../index.mjs";
import { startAgent } from "./support/agents.mjs";
import { listen } from "./support/calls.mjs";
import { deferred } from "./support/events.mjs";
import { createHost, expired, PROFILE, PROVIDER, storeText } from "./support/host.mjs";
import { ONE_REFRESH, startProvider } from "./support/oauth/provider.mjs";
import { createRefresh, discover } from "./support/oauth/refresh.mjs";

const CALLERS = 20;
const ROUNDS = 20;
const PROCESSES = 50;

/** The main agent and so many others. */
const fleetOf = (count) => ["main", ...Array.from({ length: count - 1 }, (_, number) => `agent-${number + 1}`)];

/** A store in which nothing is like in anybody else's but the login. */
const ownText = (agent, credential) => storeText(credential).replaceAll("bystander", `bystander of ${agent}`);

/** A server, and stores that hold one login of it. Every round has a login of its own, expired in every store. */
async function startRounds(names, options) {
  const server = await startProvider(options);
  onTestFinished(() => server.close());
  const host = createHost();

  return {
    server,
    host,

    async begin() {
      const { access, refresh } = await server.obtainGrant();
      const old = expired({ access, refresh, email: "owner@example.test", displayName: "Owner" });
      for (const name of names) host.seed(name, ownText(name, old));
      server.resetStats();
      return { old, files: Object.keys(host.tree({ locks: false })) };
    },

    /** One call, one token, everyone served, the login alive, and every byte where it belongs. */
    async verify({ old, files }, outcomes) {
      expect(server.stats()).toMatchObject(ONE_REFRESH);
      expect(outcomes.filter(({ error }) => error)).toEqual([]);
      const results = outcomes.map(({ result }) => result);
      const [{ credential, mirror }, ...others] = results.filter(({ outcome }) => outcome === "refreshed");
      expect(others).toEqual([]);
      expect(mirror ?? { written: true }).toMatchObject({ written: true });
      expect(results.filter((result) => result.credential.access !== credential.access)).toEqual([]);
      expect(results.filter((result) => result.credential.refresh !== credential.refresh)).toEqual([]);

      expect(credential.access).not.toBe(old.access);
      expect(server.isGrantAlive(old.refresh)).toBe(true);
      expect(server.isRefreshTokenUnused(credential.refresh)).toBe(true);
      expect(await server.isAccessTokenValid(credential.access)).toBe(true);

      const { access, refresh, expires } = credential;
      for (const name of names) {
        expect(host.store(name), `the store of ${name}`).toBe(ownText(name, { ...old, access, refresh, expires }));
      }
      // A look that a caller no longer waited for may still have its store's lock for a moment.
      await expect.poll(() => Object.keys(host.tree({ locks: false })), { timeout: 30_000 }).toEqual(files);
      for (const [path, what] of Object.entries(host.tree({ locks: false }))) {
        if (path.endsWith(".json")) expect(what, path).toMatch(/^file 600 /);
      }
    },
  };
}

describe("against a real OAuth server, one expired login costs one call", () => {
  test(`to ${CALLERS} agents in one process, ${ROUNDS} times over`, { timeout: 300_000 }, async () => {
    const names = fleetOf(CALLERS);
    const rounds = await startRounds(names);
    const ask = createRefresh(await discover(rounds.server));
    for (let round = 0; round < ROUNDS; round++) {
      const begun = await rounds.begin();
      const log = listen();
      const everybodyIsThere = deferred();
      const refresh = async (credential, context) => {
        await everybodyIsThere.promise;
        return ask(credential, context);
      };
      const calls = names.map((name) => withOAuthRefreshLock(PROVIDER, PROFILE, refresh, rounds.host.as(name)));
      await log.seen({ type: "dispatched" });
      everybodyIsThere.resolve();
      const outcomes = (await Promise.all(calls)).map((result) => ({ result }));
      await rounds.verify(begun, outcomes);
      // One trip through the lock for all.
      expect(log.types({ type: "acquired" })).toHaveLength(1);
    }
  });

  test("also if its tokens live shorter than the margin at which they count as expired", async () => {
    const names = fleetOf(CALLERS);
    const rounds = await startRounds(names, { accessTokenSeconds: 240 });
    const begun = await rounds.begin();
    const refresh = createRefresh(await discover(rounds.server));
    const calls = names.map((name) => withOAuthRefreshLock(PROVIDER, PROFILE, refresh, rounds.host.as(name)));
    const settled = await Promise.allSettled(calls);
    const outcomes = settled.map(({ value, reason }) => (reason ? { error: reason } : { result: value }));
    await rounds.verify(begun, outcomes);
  });

  test(`to ${PROCESSES} processes of ${CALLERS} callers, ${ROUNDS} times over`, { timeout: 300_000 }, async () => {
    const names = fleetOf(PROCESSES);
    const rounds = await startRounds(names);
    const { issuer, clientId } = rounds.server;
    const fleet = await Promise.all(names.map(() => startAgent()));
    for (let round = 0; round < ROUNDS; round++) {
      const begun = await rounds.begin();
      for (const { log } of fleet) log.forget();
      const calls = fleet.map((agent, at) =>
        agent.refresh({
          options: rounds.host.as(names[at]),
          callers: CALLERS,
          server: { issuer, clientId },
          barrier: true,
        }),
      );
      await Promise.all(calls.map(({ ready }) => ready));
      for (const call of calls) call.go();
      // The server is asked once one process is inside and all others stand before the lock.
      await Promise.all(calls.map(({ called }, at) => Promise.race([called, fleet[at].log.seen({ type: "waiting" })])));
      for (const call of calls) call.answer();
      const outcomes = (await Promise.all(calls.map(({ settled }) => settled))).flat();
      expect(outcomes).toHaveLength(PROCESSES * CALLERS);
      await rounds.verify(begun, outcomes);
      expect(calls.flatMap((call) => call.calls)).toEqual([begun.old]);
    }
    const ends = await Promise.all(fleet.map((agent) => agent.finish()));
    expect(ends).toEqual(fleet.map(() => ({ code: 0, signal: null })));
  });
});
