const args = require("./arguments.js");
const { Caller } = require("./caller.js");
const { hostName, nativeCoordinator } = require("./coordinator.js");
const { hasSubscribers, publish, tellFailure } = require("./events.js");
const { HostStores } = require("./host-stores.js");
const { native } = require("./native.js");
const { isHolder } = require("./queue.js");
const { RefreshTurn } = require("./refresh-turn.js");
const { surroundings } = require("./surroundings.js");
const { tokenEndpoint } = require("./token-endpoint.js");

function withOAuthRefreshLock(provider, profileId, refresh, options) {
  return startRefresh(provider, profileId, refresh, options, true);
}

/** As {@link withOAuthRefreshLock}, for a caller that will try again later: it does not wait for a lock or a pause, but fails. */
function refreshIfFree(provider, profileId, refresh, options) {
  return startRefresh(provider, profileId, refresh, options, false);
}

async function startRefresh(provider, profileId, refresh, options, patient) {
  args.checkKey(provider, profileId);
  args.refuseSwapped("refresh", refresh, options, (request) => Object.hasOwn(request, "tokenEndpoint"));
  const endpoint = typeof refresh === "function" ? undefined : tokenEndpoint("refresh", refresh);
  const request = args.refreshArguments(options);
  const { signal, timeoutMs, callTimeoutMs, stateDir, stores, coordinator } = request;
  request.provider = provider;
  request.profileId = profileId;
  request.surroundings =
    stores.length > 0 ? surroundings(stateDir) : surroundings(stateDir, request.agentDir, request.mainAgentDir);
  const hosts = new HostStores(stores);
  const [own, main] = hosts.natives;
  if (coordinator) request.hostName = hostName();
  // Code that holds a key may not ask for it, be there a token or not.
  const glances = stores.length === 0 && !signal?.aborted && !isHolder();
  const {
    credential,
    lockPath,
    agentDir,
    refresh: call,
    opened,
  } = native().startRefresh(request, own, main, nativeCoordinator(coordinator), glances, hasSubscribers());
  if (credential) {
    publish("fresh", { provider, profileId, lockPath, agentDir });
    return { outcome: "fresh", credential: JSON.parse(credential) };
  }
  const subject = { provider, profileId, lockPath: lockPath ?? undefined };
  const caller = new Caller({ signal, timeoutMs }, () => void turn.timedOut());
  const how = endpoint ?? { refresh, classify: request.classify };
  const turn = new RefreshTurn(call, subject, caller, {
    ...how,
    callTimeoutMs,
    patient,
    hosts,
    serveUnexpired: request.serveUnexpired,
  });
  tellFailure(caller, subject, turn.begin(opened));
  return caller.promise;
}

module.exports = { refreshIfFree, withOAuthRefreshLock };
