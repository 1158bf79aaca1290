import { fetch, ProxyAgent } from "undici";

export const name = "undici's ProxyAgent";
export const isProxied = true;

export const asking =
  ({ url, timeoutMs, proxy }) =>
  ({ refresh }, { signal }) =>
    fetch(url, {
      method: "POST",
      body: new URLSearchParams({ grant_type: "refresh_token", refresh_token: refresh, client_id: "client" }),
      dispatcher: new ProxyAgent({ uri: proxy, headersTimeout: timeoutMs }),
      signal,
    });
