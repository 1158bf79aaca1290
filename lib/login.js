const args = require("./arguments.js");
const { OAuthRefreshLockError, unwrap } = require("./errors.js");
const { HostStores } = require("./host-stores.js");
const { native } = require("./native.js");
const { programOf } = require("./neighbours.js");
const { OAUTH_PRESETS } = require("./presets.js");
const { toJson } = require("./result.js");
const { surroundings } = require("./surroundings.js");
const { tokenEndpoint } = require("./token-endpoint.js");

const OPTIONS = ["stateDir", "agentDir", "mainAgentDir", "store", "trustedVolume", "replace", "refreshedBy"];
const REFRESHED_BY = ["tokenEndpoint", "clientId", "clientSecretEnv"];

async function saveOAuthLogin(provider, profileId, credential, options) {
  const { replace, refreshedBy, ...given } = args.optionsObject(options, "options", OPTIONS);
  const { request, store } = prepared(provider, profileId, given);
  const beside = fieldsOf(refreshedBy);
  const replaces = args.flag("replace", replace);
  const login = await textOf(credential);
  const { identityClaims = {} } = Object.hasOwn(OAUTH_PRESETS, provider) ? OAUTH_PRESETS[provider] : {};
  return unwrap(await native().saveLogin(request, store, login, beside, identityClaims, replaces));
}

/**
 * What a login was stored with for whoever refreshes it.
 *
 * @returns {Promise<{ tokenEndpoint?: string, clientId?: string, clientSecretEnv?: string } | null>} `null`: there is no login
 */
async function refreshedBy(provider, profileId, where) {
  const { request, store } = prepared(provider, profileId, where);
  return unwrap(await native().refreshedBy(request, store)) ?? null;
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

/** @param {unknown} credential in any form that a refresh function may give it */
async function textOf(credential) {
  if (typeof credential !== "string") args.object("credential", credential);
  const login = await toJson(credential).catch((error) => {
    if (error instanceof OAuthRefreshLockError && error.code !== "provider_refused") throw error;
    throw args.invalid(
      "credential must be a login; it is an error, a provider's refusal, or an answer that can't be read",
    );
  });
  const program = programOf(login);
  if (program === undefined) return login;
  throw args.invalid(
    `this is ${program}'s own login, and of two programs with one refresh token the first spends it: log in once more for this one`,
  );
}

/** What is stored beside the tokens, so that whoever asks for one knows how to get the next. */
function fieldsOf(refreshedBy) {
  const given = args.optionsObject(refreshedBy, "refreshedBy", REFRESHED_BY);
  const { tokenEndpoint: url, clientId } = given;
  // One that nobody can ask is told now, and not when the token has expired.
  if (url !== undefined)
    tokenEndpoint("refreshedBy", { tokenEndpoint: args.id("refreshedBy.tokenEndpoint", url), clientId });
  const { clientSecretEnv } = given;
  if (typeof clientSecretEnv === "string" && !/^[A-Za-z_]\w*$/.test(clientSecretEnv))
    throw args.invalid("refreshedBy.clientSecretEnv must be the name of a variable, not its value");
  const fields = Object.entries(given).filter(([, value]) => value !== undefined);
  return fields.map(([name, value]) => ({ name, value: args.id(`refreshedBy.${name}`, value) }));
}

module.exports = { refreshedBy, removeOAuthLogin, saveOAuthLogin };
