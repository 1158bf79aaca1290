/** A real MCP server over streamable HTTP on loopback, which wants a bearer token that it is told to accept. */
import { randomUUID } from "node:crypto";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { onTestFinished } from "vitest";
import { serve } from "../../cli/provider.mjs";

/** @param {(access: string) => boolean | Promise<boolean>} isAccepted */
export async function startMcpServer(isAccepted) {
  const sessions = new Map();
  const asked = [];
  const refusal = { status: 401, challenge: 'Bearer error="invalid_token"' };

  async function open() {
    const server = new McpServer({ name: "tested", version: "1.0.0" });
    server.registerTool("whoami", {}, ({ requestInfo }) => ({
      content: [{ type: "text", text: requestInfo.headers.authorization }],
    }));
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => void sessions.set(id, transport),
    });
    await server.connect(transport);
    return transport;
  }

  const { url, close } = await serve(async (request, response) => {
    const { method, url: path, headers } = request;
    const [, access] = headers.authorization?.match(/^Bearer (.+)$/) ?? [];
    asked.push({ method, path, access });
    const isMine = path === "/mcp";
    if (!isMine || access === undefined || !(await isAccepted(access))) {
      response.writeHead(isMine ? refusal.status : 404, isMine ? { "www-authenticate": refusal.challenge } : {});
      return response.end();
    }
    const transport = sessions.get(headers["mcp-session-id"]) ?? (await open());
    return transport.handleRequest(request, response);
  });
  onTestFinished(async () => {
    for (const transport of sessions.values()) await transport.close();
    await close();
  });
  return { url: new URL("/mcp", url), asked, refusal };
}
