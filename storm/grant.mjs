/**
 * Logs in as a person would, with a browser's cookies but no browser: authorization code with PKCE and `offline_access`.
 */
import * as oauth from "oauth4webapi";

/**
 * @typedef {object} Server what a client has to know
 * @property {string} issuer
 * @property {string} authorizationEndpoint
 * @property {string} tokenEndpoint
 * @property {string} clientId
 * @property {string} redirectUri
 *
 * @typedef {object} Grant
 * @property {string} access
 * @property {string} refresh
 * @property {number} expires milliseconds since the epoch
 */

/** A browser's cookies for one host; every name occurs on one path only, so paths do not matter. */
function cookieJar() {
  /** @type {Map<string, string>} */
  const cookies = new Map();
  return {
    header: () => [...cookies].map(([name, value]) => `${name}=${value}`).join("; "),
    /** @param {Response} response */
    take(response) {
      for (const line of response.headers.getSetCookie()) {
        const [, name, value] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
        if (value) cookies.set(name, value);
        else if (name) cookies.delete(name);
      }
    },
  };
}

/**
 * Follows redirects until the server sends the browser back to the client.
 *
 * @param {URL} start
 * @param {string} redirectUri
 * @returns {Promise<URL>} the redirect to the client, with the code
 */
async function browse(start, redirectUri) {
  const jar = cookieJar();
  let url = start;
  for (let hop = 0; hop < 10; hop += 1) {
    const response = await fetch(url, { redirect: "manual", headers: { cookie: jar.header() } });
    await response.arrayBuffer();
    jar.take(response);
    const location = response.headers.get("location");
    if (!location) throw new Error(`login: HTTP ${response.status} at ${url.pathname}`);
    url = new URL(location, url);
    if (url.href.startsWith(redirectUri)) return url;
  }
  throw new Error("login: too many redirects");
}

/**
 * Obtains a new grant from the server.
 *
 * @param {Server} server
 * @returns {Promise<Grant>}
 */
export async function obtainGrant(server) {
  const as = {
    issuer: server.issuer,
    authorization_endpoint: server.authorizationEndpoint,
    token_endpoint: server.tokenEndpoint,
    authorization_response_iss_parameter_supported: true,
  };
  const client = { client_id: server.clientId, id_token_signed_response_alg: "ES256" };
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();

  const authorization = new URL(server.authorizationEndpoint);
  authorization.search = new URLSearchParams({
    client_id: server.clientId,
    redirect_uri: server.redirectUri,
    response_type: "code",
    scope: "openid offline_access",
    prompt: "consent",
    state,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
  }).toString();

  const answer = oauth.validateAuthResponse(as, client, await browse(authorization, server.redirectUri), state);
  const response = await oauth.authorizationCodeGrantRequest(
    as,
    client,
    oauth.None(),
    answer,
    server.redirectUri,
    verifier,
    { [oauth.allowInsecureRequests]: true },
  );
  const tokens = await oauth.processAuthorizationCodeResponse(as, client, response);
  if (!tokens.refresh_token) throw new Error("login: the server issued no refresh token");
  return {
    access: tokens.access_token,
    refresh: tokens.refresh_token,
    expires: Date.now() + (tokens.expires_in ?? 0) * 1000,
  };
}
