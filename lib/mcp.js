const args = require("./arguments.js");
const { OAuthRefreshLockError } = require("./errors.js");

/** For so long a server may still refuse a token that has been replaced: requests with it were under way. */
const LATE_MS = 30_000;
/** The SDK's own authorization replaces a token once in so long: it does not say whether the token was refused, or a scope is missing. */
const REPLACE_EVERY_MS = 60_000;

function mcpAuthProvider(client) {
  const given = new Given(client);
  return { token: () => given.token(), onUnauthorized: () => given.replace() };
}

function mcpClientProvider(client) {
  const given = new Given(client);
  let replacesFrom = 0;
  return {
    redirectUrl: undefined,
    clientMetadata: { redirect_uris: [] },
    clientInformation: () => undefined,
    // Never the refresh token: with it the SDK would ask the provider by itself.
    tokens: async () => ({ access_token: await given.token(), token_type: "Bearer" }),
    // The first that the SDK wants to know when it sets out to get tokens by itself, before it sends anything.
    discoveryState: async () => {
      if (performance.now() < replacesFrom)
        throw accessRefused("less than a minute ago this process replaced the one before");
      replacesFrom = performance.now() + REPLACE_EVERY_MS;
      await given.replace();
      throw accessRefused("it has been replaced: send the request again");
    },
    saveTokens: loginIsHosts,
    redirectToAuthorization: loginIsHosts,
    saveCodeVerifier: loginIsHosts,
    codeVerifier: loginIsHosts,
  };
}

/** The tokens that a transport was given. It does not say which of them a server refused. */
class Given {
  #client;
  #access;
  /** When the token was given, by `performance.now()`; the newest last. */
  #times = [];
  /** The one before. */
  #late = { access: undefined, times: [] };

  constructor(client) {
    if (typeof client?.token !== "function" || typeof client.fetch !== "function") {
      throw args.invalid(`client must be what createOAuthClient returns, not ${args.kind(client)}`);
    }
    this.#client = client;
  }

  async token() {
    const access = await this.#client.token();
    if (access !== this.#access) {
      this.#late = { access: this.#access, times: this.#times };
      this.#access = access;
      this.#times = [];
    }
    this.#times = [...recent(this.#times), performance.now()];
    return access;
  }

  /** Replaces the token that was refused, unless another caller has. */
  async replace() {
    const rejectedAccess = this.#refused();
    if (rejectedAccess !== undefined) await this.#client.token({ rejectedAccess });
  }

  /** As many as were given the last token shortly before it was replaced may hear late that it is refused; then it is the new one. */
  #refused() {
    this.#late.times = recent(this.#late.times);
    if (this.#late.times.shift() !== undefined) return this.#late.access;
    this.#times.shift();
    return this.#access;
  }
}

function recent(times) {
  const from = performance.now() - LATE_MS;
  return times.filter((time) => time > from);
}

function accessRefused(what) {
  return new OAuthRefreshLockError(
    "access_refused",
    `the MCP server refused the access token, and ${what}. If it refuses that one too, log in again, with the scopes that the server wants`,
  );
}

function loginIsHosts() {
  throw new OAuthRefreshLockError(
    "no_login",
    "this provider refreshes a stored login and does not log in: log in with the host, and store the credential that the login gives",
  );
}

module.exports = { mcpAuthProvider, mcpClientProvider };
