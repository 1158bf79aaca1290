/** The refresh function, with a real OAuth client library: what a user of the package writes. */
import * as oauth from "oauth4webapi";

/** The server is on loopback and speaks plain HTTP. */
const PLAIN_HTTP = { [oauth.allowInsecureRequests]: true };

/**
 * Asks the server for its token endpoint. A process that has done so has made its first request: the storm measures
 * calls, not how long Node takes to load its HTTP client.
 *
 * @template {{ issuer: string }} T
 */
export async function discover(server) {
  const issuer = new URL(server.issuer);
  const response = await oauth.discoveryRequest(issuer, PLAIN_HTTP);
  const { token_endpoint } = await oauth.processDiscoveryResponse(issuer, response);
  if (!token_endpoint) throw new Error("the server names no token endpoint");
  return { ...server, tokenEndpoint: token_endpoint };
}

export function createRefresh({ issuer, tokenEndpoint, clientId }) {
  const as = { issuer, token_endpoint: tokenEndpoint };
  const client = { client_id: clientId, id_token_signed_response_alg: "ES256" };

  return async (credential, { signal } = {}) => {
    const response = await oauth.refreshTokenGrantRequest(as, client, oauth.None(), credential.refresh, {
      signal,
      ...PLAIN_HTTP,
    });
    const tokens = await oauth.processRefreshTokenResponse(as, client, response);
    return {
      access: tokens.access_token,
      ...(tokens.refresh_token && { refresh: tokens.refresh_token }),
      expires: Date.now() + (tokens.expires_in ?? 0) * 1000,
    };
  };
}
