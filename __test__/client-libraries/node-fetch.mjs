import fetch from "node-fetch";

export const name = "node-fetch";

export const asking =
  ({ url, timeoutMs }) =>
  ({ refresh }, { signal }) =>
    fetch(url, {
      method: "POST",
      body: new URLSearchParams({ grant_type: "refresh_token", refresh_token: refresh, client_id: "client" }),
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    });
