import { OAuth2Client } from "google-auth-library";

export const name = "google-auth-library";
/** It gives back the refresh token that it had, whatever the provider answered. */
export const keepsRefreshToken = true;

export const asking =
  ({ url, timeoutMs }) =>
  ({ refresh }) => {
    const client = new OAuth2Client({
      clientId: "client",
      clientSecret: "secret",
      endpoints: { oauth2TokenUrl: url },
      // It asks up to four times by itself, with the same refresh token; one of us is enough.
      transporterOptions: { timeout: timeoutMs, retryConfig: { retry: 0, noResponseRetries: 0 } },
    });
    client.setCredentials({ refresh_token: refresh });
    return client.refreshAccessToken();
  };
