/** The provider of `npm run storm`: a real OAuth server. */
import { startProvider } from "./provider.mjs";
import { digest } from "./witness.mjs";

export async function startStormProvider(latencyMs) {
  const server = await startProvider({ latencyMs });
  const { refresh } = await server.obtainGrant();
  return {
    url: server.tokenEndpoint,
    refreshToken: refresh,
    stats() {
      const { calls, reuseErrors } = server.stats();
      return { calls, reused: reuseErrors, revoked: !server.isGrantAlive(refresh) };
    },
    isNewest: (access) => digest(access) === server.stats().accessDigests.at(-1),
    close: server.close,
  };
}
