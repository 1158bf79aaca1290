import * as oauth from "oauth4webapi";

export const name = "oauth4webapi";

export const asking =
  ({ url, timeoutMs }) =>
  async ({ refresh }, { signal }) => {
    const server = { issuer: new URL(url).origin, token_endpoint: url };
    const client = { client_id: "client" };
    const response = await oauth.refreshTokenGrantRequest(server, client, oauth.None(), refresh, {
      [oauth.allowInsecureRequests]: true,
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    });
    return oauth.processRefreshTokenResponse(server, client, response);
  };
