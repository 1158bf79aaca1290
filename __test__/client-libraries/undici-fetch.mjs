import { Agent, fetch } from "undici";

export const name = "undici's fetch";

export const asking =
  ({ url, timeoutMs }) =>
  ({ refresh }, { signal }) =>
    fetch(url, {
      method: "POST",
      body: new URLSearchParams({ grant_type: "refresh_token", refresh_token: refresh, client_id: "client" }),
      dispatcher: new Agent({ headersTimeout: timeoutMs }),
      signal,
    });
