/** A real OAuth server for all tests of a file, and what they do with it. */
import { afterAll, beforeAll, beforeEach } from "vitest";
import { withOAuthRefreshLock } from "../../index.mjs";
import { expired, MINUTE, PROFILE, PROVIDER } from "./host.mjs";
import { startProvider } from "./oauth/provider.mjs";
import { createRefresh } from "./oauth/refresh.mjs";

export let server;
export let refreshAtServer;
/** Called when the server has dealt with a refresh, before it answers. */
export const on = { refreshCall() {} };

beforeAll(async () => {
  server = await startProvider({ onRefreshCall: (call) => on.refreshCall(call) });
  refreshAtServer = createRefresh(server);
});
beforeEach(() => {
  server.resetStats();
  server.setLatency(0);
  on.refreshCall = () => {};
});
afterAll(() => server.close());

export const call = (host, agent, refresh, options, profile = PROFILE) =>
  withOAuthRefreshLock(PROVIDER, profile, refresh, host.as(agent, options));

/** A credential of a real grant, expired. */
export const granted = async (fields) =>
  expired({ ...(await server.obtainGrant()), expires: Date.now() - MINUTE, ...fields });

export const credentialOf = (host, agent, profile = PROFILE) => JSON.parse(host.store(agent)).profiles[profile];
