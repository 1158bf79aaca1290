// One instance for both module systems.
import cjs from "./mcp.js";

export const { mcpAuthProvider, mcpClientProvider } = cjs;
