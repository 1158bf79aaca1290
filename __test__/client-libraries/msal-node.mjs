import { PublicClientApplication } from "@azure/msal-node";

export const name = "msal-node";
/** It takes no limit: Node's own for `fetch` applies. */
export const usesGlobalTimeout = true;
/** It keeps the refresh token to itself, in its cache. */
export const keepsRefreshToken = true;
/**
 * Of an answer that is no JSON it keeps no status, and one without an `error` it takes for tokens. Of what went wrong with a
 * connection it keeps no more than that something did.
 */
export const hides = [
  "429 with Retry-After",
  "503 with Retry-After",
  "a refused connection",
  "a name that does not exist",
  "a certificate that nobody vouches for",
];

export const asking =
  ({ url }) =>
  async ({ refresh }) => {
    const metadata = {
      authorization_endpoint: "https://login.acme.test/authorize",
      token_endpoint: url,
      issuer: "https://login.acme.test/",
      jwks_uri: "https://login.acme.test/keys",
    };
    const client = new PublicClientApplication({
      auth: {
        clientId: "client",
        authority: "https://login.acme.test/tenant",
        knownAuthorities: ["login.acme.test"],
        authorityMetadata: JSON.stringify(metadata),
      },
    });
    return client.acquireTokenByRefreshToken({ refreshToken: refresh, scopes: ["s"] });
  };
