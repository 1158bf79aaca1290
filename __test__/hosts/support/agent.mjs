/**
 * An agent on one of several hosts: it makes one call when its parent says so, and tells what became of it. A host is a state
 * directory.
 *
 * @typedef {object} Ask
 * @property {string} stateDir
 * @property {{ postgres?: string, etcd?: string }} engine where the coordinator is
 * @property {string} provider the token endpoint's address
 * @property {boolean} [asFunction] ask by a refresh function, else at the endpoint
 * @property {object} [options] more options
 * @property {string[]} [holdAt] stop when one of these is told: `dispatched`, `called`, `answered`
 */
import { subscribe } from "node:diagnostics_channel";
import { createRequire } from "node:module";
import { join } from "node:path";
import pg from "pg";

const require = createRequire(import.meta.url);
const { withOAuthRefreshLock } = require("../../../index.js");
const { postgresCoordinator } = require("../../../lib/coordinators/postgres.js");
const { etcdCoordinator } = require("../../../lib/coordinators/etcd.js");

const tell = (told, more) => new Promise((resolve) => process.send({ told, ...more }, resolve));
let goOn = () => {};

async function hold(told, holdAt = []) {
  if (!holdAt.includes(told)) return;
  await new Promise((resolve) => {
    goOn = resolve;
    void tell(told);
  });
}

function coordinatorOf({ postgres, etcd }) {
  if (etcd) return etcdCoordinator(etcd);
  if (!postgres) return undefined;
  const pool = new pg.Pool({ connectionString: postgres, max: 3 });
  pool.on("error", () => {});
  return postgresCoordinator(pool);
}

const asking =
  (provider, holdAt) =>
  async (credential, { signal }) => {
    await hold("called", holdAt);
    const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: credential.refresh });
    const response = await fetch(provider, { method: "POST", body, signal });
    const answer = await response.json();
    await hold("answered", holdAt);
    if (!response.ok) throw Object.assign(new Error(answer.error), { error: answer.error, status: response.status });
    const { access_token: access, refresh_token: refresh, expires_in: seconds } = answer;
    return { access, refresh, expires: Date.now() + seconds * 1000 };
  };

async function call({ stateDir, engine, provider, asFunction, options, holdAt }) {
  const agentDir = join(stateDir, "agents", "main", "agent");
  const refresh = asFunction ? asking(provider, holdAt) : { tokenEndpoint: provider, clientId: "agents" };
  const began = performance.now();
  const all = { stateDir, agentDir, mainAgentDir: agentDir, coordinator: coordinatorOf(engine), ...options };
  try {
    const result = await withOAuthRefreshLock("acme", "acme:main", refresh, all);
    const { outcome, credential, adoptedFrom, notShared, refreshError } = result;
    return {
      outcome,
      access: credential.access,
      adoptedFrom,
      notShared,
      refreshError: refreshError?.code,
      ms: performance.now() - began,
    };
  } catch (error) {
    return { error: error.code ?? error.error ?? String(error), message: error.message, ms: performance.now() - began };
  }
}

subscribe("oauth-refresh-lock", ({ type }) => void tell("event", { type }));
process.on("message", async (ask) => {
  if (ask === "go on") return goOn();
  const became = await call(ask);
  await tell("became", { became });
  if (!ask.stays) process.disconnect();
});
await tell("ready");
