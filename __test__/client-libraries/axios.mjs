import axios from "axios";

export const name = "axios";

export const asking =
  ({ url, timeoutMs }) =>
  ({ refresh }, { signal }) =>
    axios.post(url, new URLSearchParams({ grant_type: "refresh_token", refresh_token: refresh, client_id: "client" }), {
      signal,
      timeout: timeoutMs,
    });
