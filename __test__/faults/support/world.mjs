/**
 * What a test of faults works with: the package with faults, in this process and in others, and a real OAuth server.
 */
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, onTestFinished, vi } from "vitest";
import { startProvider } from "../../support/oauth/provider.mjs";
import { createRefresh } from "../../support/oauth/refresh.mjs";
import { digest } from "../../support/oauth/witness.mjs";
import { describeError } from "./errors.mjs";
import { Host, PROFILE, PROVIDER } from "./host.mjs";
import { faultyPackage } from "./package.mjs";
import { AgentProcess } from "./processes.mjs";

async function createWorld() {
  const module = faultyPackage();
  const { withOAuthRefreshLock, resolveOAuthRefreshLockPath } = createRequire(module)(dirname(module));
  const waits = new Map();
  const provider = await startProvider({ onRefreshCall: ({ refreshDigest }) => waits.get(refreshDigest)?.() });
  const neighbour = new AgentProcess({ package: module, timers: false });
  const server = { issuer: provider.issuer, tokenEndpoint: provider.tokenEndpoint, clientId: provider.clientId };
  const key = { provider: PROVIDER, profileId: PROFILE };

  return {
    module,
    provider,
    withOAuthRefreshLock,
    /** A process of agents that lives as long as the world. No timer of its own ever fires. */
    neighbour,

    async close() {
      await neighbour.finish();
      await provider.close();
      Host.removeAll();
    },

    /** Resolves once the server has dealt with this refresh token, with its answer on hold. */
    refreshed: (refresh) => new Promise((resolve) => waits.set(digest(refresh), resolve)),

    /** Resolves once the server has handed its answer to this refresh token to the network. */
    async answered(refresh) {
      const presented = digest(refresh);
      const isAnswered = (call) => call.refreshDigest === presented && call.answered;
      while (!provider.stats().calls.some(isAnswered)) await delay(1);
    },

    /** The same as `refreshed`, and holds the first answer to it back until `release` is called; the next ones go through. */
    holdAnswer(refresh) {
      const presented = digest(refresh);
      let release;
      const released = new Promise((resolve) => {
        release = resolve;
      });
      const rotated = new Promise((resolve) => {
        waits.set(presented, () => {
          waits.delete(presented);
          resolve();
          return released;
        });
      });
      return { rotated, release };
    },

    lockPath: (host) => resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir: host.stateDir }),

    /** What an agent's process is asked to do. */
    ask: (host, name, options, more) => ({ ...key, options: host.options(name, options), server, ...more }),

    /** A call in this process: `{ result }` or `{ error }`. `answered` is called before the refresh function returns. */
    async call(host, name, options, answered) {
      const ask = createRefresh(server);
      const refresh = async (credential, context) => {
        const fields = await ask(credential, context);
        answered?.(fields);
        return fields;
      };
      try {
        return { result: await withOAuthRefreshLock(PROVIDER, PROFILE, refresh, host.options(name, options)) };
      } catch (error) {
        return { error: describeError(error), raw: error };
      }
    },

    /** How the server answered those who presented this refresh token. */
    answersTo(refresh) {
      const presented = digest(refresh);
      return provider
        .stats()
        .calls.filter(({ refreshDigest }) => refreshDigest === presented)
        .map(({ answer }) => answer);
    },
  };
}

/** One for all tests of a file. @type {Awaited<ReturnType<typeof createWorld>>} */
export let world;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world?.close());

/** Stops this thread's timeouts until the test is over: whoever waits for one waits for ever. */
export function stopTimers() {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
}
