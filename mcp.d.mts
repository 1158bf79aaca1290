// For `import`: the same names, and no default export.
export * from "./mcp.js";
