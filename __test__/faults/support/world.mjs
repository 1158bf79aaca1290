/**
 * What a test of faults works with: the package with faults, in this process and in others, and a real OAuth server.
 */
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { afterAll, onTestFinished, vi } from "vitest";
import { startProvider } from "../../../storm/provider.mjs";
import { createRefresh } from "../../../storm/refresh.mjs";
import { digest } from "../../../storm/witness.mjs";
import { describeError } from "./errors.mjs";
import { PROFILE, PROVIDER } from "./host.mjs";
import { faultyPackage } from "./package.mjs";

export async function createWorld() {
  const module = faultyPackage();
  const { withOAuthRefreshLock, resolveOAuthRefreshLockPath } = createRequire(module)(dirname(module));
  let onRefreshCall;
  const provider = await startProvider({ onRefreshCall: (call) => onRefreshCall?.(call) });
  afterAll(() => provider.close());
  const server = { issuer: provider.issuer, tokenEndpoint: provider.tokenEndpoint, clientId: provider.clientId };
  const key = { provider: PROVIDER, profileId: PROFILE };

  return {
    module,
    provider,

    /** Is told each refresh that the server has dealt with; its answer is on hold. */
    onRefreshCall(listener) {
      onRefreshCall = listener;
    },

    lockPath: (host) => resolveOAuthRefreshLockPath(PROVIDER, PROFILE, { stateDir: host.stateDir }),

    /** What an agent's process is asked to do. */
    ask: (host, name, options, more) => ({ ...key, options: host.options(name, options), server, ...more }),

    /** A call in this process: `{ result }` or `{ error }`. */
    async call(host, name, options) {
      const refresh = createRefresh(server);
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

/** Stops this thread's timeouts until the test is over: whoever waits for one waits for ever. */
export function stopTimers() {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
}
