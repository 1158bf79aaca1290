/**
 * A process of agents. Calls the package as its parent asks, tells it every event and every step, and waits for its
 * word at each. Ends by itself once its parent has gone and no call keeps it.
 *
 * @typedef {object} Ask
 * @property {number} id
 * @property {"refresh" | "lock" | "path"} ask
 * @property {string} provider
 * @property {string} profileId
 * @property {object} [options]
 * @property {number} [callers] that many calls, all at once
 * @property {object} [server] the refresh function asks this server, once the parent gives its word
 * @property {object} [endpoint] in the refresh function's place: a request to a token endpoint
 * @property {{ path: string, own: string, main?: string, isStuck?: boolean }} [sqlite] credentials are in this database; a stuck
 *   store never ends a swap
 * @property {boolean} [barrier] hold the calls back until the parent says "go"
 */
import { subscribe } from "node:diagnostics_channel";
import { resolveOAuthRefreshLockPath, withOAuthProfileLock, withOAuthRefreshLock } from "../../index.mjs";
import { CHANNEL, deferred } from "./events.mjs";
import { createRefresh, discover } from "./oauth/refresh.mjs";
import { commands, tell } from "./told.mjs";

/** What the parent says or has said, by request and word. */
const words = new Map();
/** Server connections, made before the barrier. */
const servers = new Map();

function said(id, word) {
  const key = `${id}:${word}`;
  if (!words.has(key)) words.set(key, deferred());
  return words.get(key);
}

function plain(error) {
  if (!(error instanceof Error)) return { thrown: error };
  const { name, message, code, error: oauth, path, lockPath, holder } = error;
  return { name, message, code, oauth, path, lockPath, holder };
}

async function storesIn({ path, own, main, isStuck }, id) {
  const { sqliteStore } = await import("../../examples/sqlite-store.mjs");
  const compareAndSwap = () => {
    tell("swapping", { id });
    return new Promise(() => {});
  };
  const open = (agent) => ({ ...sqliteStore(path, agent), ...(isStuck && { compareAndSwap }) });
  return { store: open(own), ...(main && { mainStore: open(main) }) };
}

async function refreshAt(server) {
  if (!servers.has(server.issuer)) servers.set(server.issuer, createRefresh(await discover(server)));
  return servers.get(server.issuer);
}

const asks = {
  async refresh({ id, provider, profileId, options: given, server, endpoint, sqlite }) {
    const options = { ...given, ...(sqlite && (await storesIn(sqlite, id))) };
    if (endpoint) return (signal) => withOAuthRefreshLock(provider, profileId, endpoint, { ...options, signal });
    const ask = server && (await refreshAt(server));
    return (signal) =>
      withOAuthRefreshLock(
        provider,
        profileId,
        async (credential, context) => {
          tell("called", { id, credential });
          const { fields } = await said(id, "answer").promise;
          return ask ? ask(credential, context) : fields;
        },
        { ...options, signal },
      );
  },
  async lock({ id, provider, profileId, options }) {
    const work = async () => {
      tell("called", { id });
      return (await said(id, "answer").promise).fields;
    };
    return (signal) => withOAuthProfileLock(provider, profileId, work, { ...options, signal });
  },
  async path({ provider, profileId, options }) {
    return async () => resolveOAuthRefreshLockPath(provider, profileId, options);
  },
};

async function serve(request) {
  const { id, ask, callers = 1, barrier } = request;
  const controllers = Array.from({ length: callers }, () => new AbortController());
  void said(id, "abort").promise.then(({ reason }) => {
    for (const controller of controllers) controller.abort(reason);
  });
  const call = await asks[ask](request);
  if (barrier) {
    tell("ready", { id });
    await said(id, "go").promise;
  }
  const outcomes = await Promise.all(
    controllers.map(({ signal }) =>
      call(signal).then(
        (result) => ({ result }),
        (error) => ({ error: plain(error) }),
      ),
    ),
  );
  tell("settled", { id, outcomes });
}

subscribe(CHANNEL, (event) => tell("event", { event }));
tell("started");
for await (const command of commands()) {
  if (command.ask) void serve(command);
  else said(command.id, command.word).resolve(command);
}
