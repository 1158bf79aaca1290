const { onThisEngine } = require("./lib/engine.js");
const { mcpAuthProvider, mcpClientProvider } = require("./lib/mcp.js");

module.exports = onThisEngine({ mcpAuthProvider, mcpClientProvider });
