/**
 * Loads `oidc-provider`, also on Node 20, where it works but for `URL.parse` and prints a warning.
 */

if (typeof URL.parse !== "function") {
  // Node 22 has it; `oidc-provider` checks redirect URIs with it.
  Object.defineProperty(URL, "parse", {
    configurable: true,
    writable: true,
    value: (/** @type {string} */ url, /** @type {string | URL | undefined} */ base) => {
      try {
        return new URL(url, base);
      } catch {
        return null;
      }
    },
  });
}

/** @returns {Promise<any>} the module; it comes without types */
export async function loadOidcProvider() {
  const { warn } = console;
  console.warn = (...args) => {
    if (!String(args[0]).includes("Unsupported runtime")) warn(...args);
  };
  try {
    // @ts-expect-error: no types
    return await import("oidc-provider");
  } finally {
    console.warn = warn;
  }
}
