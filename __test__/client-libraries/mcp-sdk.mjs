import { refreshAuthorization } from "@modelcontextprotocol/sdk/client/auth.js";

export const name = "MCP SDK 1";
/** It keeps no header. */
export const keepsRetryAfter = false;

export const asking =
  ({ url, timeoutMs }) =>
  ({ refresh }, { signal }) => {
    const { origin } = new URL(url);
    return refreshAuthorization(origin, {
      metadata: {
        issuer: origin,
        authorization_endpoint: origin,
        token_endpoint: url,
        response_types_supported: ["code"],
      },
      clientInformation: { client_id: "client" },
      refreshToken: refresh,
      fetchFn: (input, init) =>
        fetch(input, { ...init, signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]) }),
    });
  };
