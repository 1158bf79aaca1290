import * as client from "openid-client";

export const name = "openid-client";

export const asking =
  ({ url, timeoutMs }) =>
  ({ refresh }) => {
    const server = { issuer: new URL(url).origin, token_endpoint: url };
    const config = new client.Configuration(server, "client", undefined, client.None());
    client.allowInsecureRequests(config);
    config.timeout = timeoutMs / 1000;
    return client.refreshTokenGrant(config, refresh);
  };
