/** Stored logins for the transports of the official TypeScript SDK of MCP. See docs/client.md. */
import type { OAuthClient } from "./index.js";

/** `AuthProvider` of `@modelcontextprotocol/client` 2.x. */
export interface McpAuthProvider {
  /** An access token that is good. */
  token(): Promise<string>;
  /** Replaces the token that was given last; the transport then sends the request once more. */
  onUnauthorized(): Promise<void>;
}

/** `OAuthClientProvider` of `@modelcontextprotocol/sdk` 1.x, for a login that is stored. */
export interface McpClientProvider {
  /** Says to the SDK that nobody can be sent anywhere. */
  readonly redirectUrl: undefined;
  /** The SDK asks for it; nothing is registered. */
  readonly clientMetadata: { redirect_uris: string[] };
  /** None: the SDK has no client to refresh with. */
  clientInformation(): undefined;
  /** An access token that is good, and no refresh token: the SDK never asks the provider. */
  tokens(): Promise<{ access_token: string; token_type: string }>;
  /** The SDK calls this when a server has refused the token. Replaces it, once a minute at most, and rejects with `access_refused`. */
  discoveryState(): Promise<never>;
  /** @throws `no_login`: logging in is the host's business */
  saveTokens(): never;
  /** @throws `no_login` */
  redirectToAuthorization(): never;
  /** @throws `no_login` */
  saveCodeVerifier(): never;
  /** @throws `no_login` */
  codeVerifier(): never;
}

/**
 * The login as `authProvider` of a transport of `@modelcontextprotocol/client` 2.x: a token for each request, and another one after
 * a 401.
 *
 * The SDK does not say which token a server refused. If this provider gave out another one in the 30 s before, as many refusals as
 * there were requests with that one replace nothing.
 *
 * @throws `invalid_argument`; the provider's functions reject as those of the client
 */
export function mcpAuthProvider(client: OAuthClient): McpAuthProvider;

/**
 * The login as `authProvider` of a transport of `@modelcontextprotocol/sdk` 1.x, for a host that can't pass `fetch: client.fetch`.
 *
 * Every request has a token that is good. The SDK can't be made to send a request again with another token: if a server refuses one
 * that has not expired, the request fails with `access_refused`, and the next has another token.
 *
 * @throws `invalid_argument`; the provider's functions reject as those of the client
 */
export function mcpClientProvider(client: OAuthClient): McpClientProvider;
