import ky from "ky";

export const name = "ky";

export const asking =
  ({ url, timeoutMs }) =>
  ({ refresh }, { signal }) =>
    ky.post(url, {
      body: new URLSearchParams({ grant_type: "refresh_token", refresh_token: refresh, client_id: "client" }),
      signal,
      timeout: timeoutMs,
    });
