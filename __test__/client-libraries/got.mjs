import got from "got";

export const name = "got";

export const asking =
  ({ url, timeoutMs }) =>
  ({ refresh }, { signal }) =>
    got.post(url, {
      form: { grant_type: "refresh_token", refresh_token: refresh, client_id: "client" },
      responseType: "json",
      signal,
      timeout: { request: timeoutMs },
    });
