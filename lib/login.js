const args = require("./arguments.js");
const { unwrap } = require("./errors.js");
const { HostStores } = require("./host-stores.js");
const { native } = require("./native.js");
const { surroundings } = require("./surroundings.js");
const { tokenEndpoint } = require("./token-endpoint.js");

const OPTIONS = ["stateDir", "agentDir", "mainAgentDir", "store", "trustedVolume", "replace", "refreshedBy"];
const REFRESHED_BY = ["tokenEndpoint", "clientId", "clientSecretEnv"];

async function saveOAuthLogin(provider, profileId, credential, options) {
  const { replace, refreshedBy, ...given } = args.optionsObject(options, "options", OPTIONS);
  const { request, store } = prepared(provider, profileId, given);
  const login = textOf(credential);
  const replaces = args.flag("replace", replace);
  return unwrap(await native().saveLogin(request, store, login, fieldsOf(refreshedBy), replaces));
}

async function removeOAuthLogin(provider, profileId, options) {
  const { replace, refreshedBy, ...given } = args.optionsObject(options, "options", OPTIONS);
  if (replace !== undefined || refreshedBy !== undefined) throw args.invalid("replace and refreshedBy are for logins");
  if (given.store !== undefined)
    throw args.invalid("a store of your own is logged out by you: take the credential out of it");
  const { request, store } = prepared(provider, profileId, given);
  return unwrap(await native().removeLogin(request, store));
}

/** Arguments as the native side takes them. */
function prepared(provider, profileId, given) {
  args.checkKey(provider, profileId);
  const {
    signal: _,
    timeoutMs: __,
    callTimeoutMs: ___,
    stores,
    coordinator: ____,
    ...request
  } = args.refreshArguments(given);
  request.surroundings =
    stores.length > 0
      ? surroundings(request.stateDir)
      : surroundings(request.stateDir, request.agentDir, request.mainAgentDir);
  const [store] = new HostStores(stores).natives;
  return { request: Object.assign(request, { provider, profileId }), store };
}

/** @param {unknown} credential an object, or the JSON text of one */
function textOf(credential) {
  if (typeof credential === "string") return credential;
  try {
    return JSON.stringify(args.object("credential", credential)) ?? "null";
  } catch (error) {
    if (error?.code === "invalid_argument") throw error;
    throw args.invalid("credential must consist of JSON values");
  }
}

/** What is stored beside the tokens, so that whoever asks for one knows how to get the next. */
function fieldsOf(refreshedBy) {
  const given = args.optionsObject(refreshedBy, "refreshedBy", REFRESHED_BY);
  const { tokenEndpoint: url, clientId } = given;
  // One that nobody can ask is told now, and not when the token has expired.
  if (url !== undefined)
    tokenEndpoint("refreshedBy", { tokenEndpoint: args.id("refreshedBy.tokenEndpoint", url), clientId });
  const fields = Object.entries(given).filter(([, value]) => value !== undefined);
  return fields.map(([name, value]) => ({ name, value: args.id(`refreshedBy.${name}`, value) }));
}

module.exports = { removeOAuthLogin, saveOAuthLogin };
