import { AuthorizationCode } from "simple-oauth2";

export const name = "simple-oauth2";

export const asking =
  ({ url, timeoutMs }) =>
  ({ refresh }) => {
    const { origin, pathname } = new URL(url);
    const client = new AuthorizationCode({
      client: { id: "client", secret: "secret" },
      auth: { tokenHost: origin, tokenPath: pathname },
      http: { timeout: timeoutMs },
    });
    return client.createToken({ refresh_token: refresh }).refresh();
  };
