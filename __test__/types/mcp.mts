// The providers where the SDKs want theirs. Compiled, never run.
import { type AuthProvider, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import type { OAuthClientProvider } from "@modelcontextprotocol/sdk/client/auth.js";
import { StreamableHTTPClientTransport as OldTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { createOAuthClient } from "oauth-refresh-lock";
import { mcpAuthProvider, mcpClientProvider } from "oauth-refresh-lock/mcp";

declare global {
  // The SDK 1.x takes it from the browser's types, which a program of Node's may not have.
  type HeadersInit = ConstructorParameters<typeof Headers>[0];
}

const client = createOAuthClient({ provider: "acme", profileId: "acme:owner", refresh: () => null });
const url = new URL("https://mcp.acme.test/");

export const current: AuthProvider = mcpAuthProvider(client);
export const old: OAuthClientProvider = mcpClientProvider(client);
new StreamableHTTPClientTransport(url, { authProvider: mcpAuthProvider(client) });
new StreamableHTTPClientTransport(url, { fetch: client.fetch });
new OldTransport(url, { authProvider: mcpClientProvider(client) });
new OldTransport(url, { fetch: client.fetch });

// @ts-expect-error: not the options of one
mcpAuthProvider({ provider: "acme" });
