import { request } from "undici";

export const name = "undici's request";

export const asking =
  ({ url, timeoutMs }) =>
  ({ refresh }, { signal }) =>
    request(url, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: `${new URLSearchParams({ grant_type: "refresh_token", refresh_token: refresh, client_id: "client" })}`,
      headersTimeout: timeoutMs,
      signal,
    });
