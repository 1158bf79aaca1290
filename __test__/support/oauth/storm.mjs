/** The provider of `npm run storm`, a real OAuth server; and the engine that its hosts share a login by. */
import coordinators from "../../../lib/coordinators/postgres.js";
import { missing, startEtcd, startPostgres } from "../../../scripts/hosts/engines.mjs";
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

export async function startStormCoordinator() {
  if (!missing("postgres")) {
    const engine = await startPostgres();
    engine.sql(coordinators.postgresSchema());
    return ours(engine);
  }
  if (missing("etcd")) throw new Error(`several hosts need an engine: ${missing("postgres")}, or ${missing("etcd")}`);
  return ours(await startEtcd());
}

const ours = (engine) => ({ url: engine.url, stop: () => engine.remove() });
