/** A process of `storm`: an agent that wants a usable token. It is published, and so uses nothing of the tests. */
import { subscribe } from "node:diagnostics_channel";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { refreshOAuthToken, resolveOAuthRefreshLockPath, withOAuthRefreshLock } from "../index.mjs";
import { STORE_FILE } from "./state.mjs";

/** What it did when. */
const events = [];

async function withLock({ provider, profileId, url, ...options }) {
  const request = { tokenEndpoint: url, clientId: "storm" };
  const { stateDir, agentDir, mainAgentDir, coordinator } = options;
  const where = { stateDir, agentDir, mainAgentDir, coordinator };
  const result = await withOAuthRefreshLock(provider, profileId, request, where);
  return { outcome: result.outcome, access: result.credential.access };
}

/** What happens without us: everyone asks, and saves what comes. */
async function withoutLock({ profileId, url, agentDir }) {
  const path = join(agentDir, STORE_FILE);
  const store = JSON.parse(readFileSync(path, "utf8"));
  const credential = store.profiles[profileId];
  const request = { tokenEndpoint: url, clientId: "storm", refreshToken: credential.refresh };
  events.push({ type: "dispatched", at: Date.now() });
  Object.assign(credential, await refreshOAuthToken(request));
  writeFileSync(path, `${JSON.stringify(store, null, 2)}\n`);
  return { outcome: "refreshed", access: credential.access };
}

subscribe("oauth-refresh-lock", ({ type, at }) => events.push({ type, at }));
process.once("disconnect", () => process.exit());
process.once("message", async (/** @type {any} */ work) => {
  try {
    process.send({ ...(await (work.lock ? withLock(work) : withoutLock(work))), events });
  } catch ({ code, oauthError }) {
    process.send({ outcome: "failed", code: oauthError ?? code, events });
  }
});
// Loads the addon.
resolveOAuthRefreshLockPath("any", "any");
process.send({ ready: true });
