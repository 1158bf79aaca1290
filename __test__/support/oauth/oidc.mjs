/** Loads `oidc-provider`, also on Node 20, where it works but for `URL.parse` and prints a warning. */

if (typeof URL.parse !== "function") {
  // Node 22 has it; `oidc-provider` checks redirect URIs with it.
  Object.defineProperty(URL, "parse", {
    configurable: true,
    writable: true,
    value: (url, base) => {
      try {
        return new URL(url, base);
      } catch {
        return null;
      }
    },
  });
}

export async function loadOidcProvider() {
  const { warn } = console;
  console.warn = (...args) => {
    if (!String(args[0]).includes("Unsupported runtime")) warn(...args);
  };
  try {
    return await import("oidc-provider");
  } finally {
    console.warn = warn;
  }
}
