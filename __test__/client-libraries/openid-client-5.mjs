import { custom, Issuer } from "openid-client-5";

export const name = "openid-client 5";

export const asking =
  ({ url, timeoutMs }) =>
  ({ refresh }) => {
    const issuer = new Issuer({ issuer: new URL(url).origin, token_endpoint: url });
    const client = new issuer.Client({ client_id: "client", token_endpoint_auth_method: "none" });
    client[custom.http_options] = () => ({ timeout: timeoutMs });
    return client.refresh(refresh);
  };
