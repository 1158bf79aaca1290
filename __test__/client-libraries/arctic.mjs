import { OAuth2Client } from "arctic";

export const name = "arctic";
/** It takes no limit: Node's own for `fetch` applies. */
export const usesGlobalTimeout = true;
/** It keeps no header. */
export const keepsRetryAfter = false;

export const asking =
  ({ url }) =>
  ({ refresh }) =>
    new OAuth2Client("client", null, null).refreshAccessToken(url, refresh, []);
