/** One thing that `doctor` has found, and how it is said. */

/**
 * @typedef {object} Finding
 * @property {"error" | "warning" | "info"} level an error keeps logins from being refreshed; info is as it may be
 * @property {string} code
 * @property {string} path
 * @property {string} meaning
 * @property {string} advice
 * @property {() => void} [repair] what `--fix` does about it
 * @property {string} [fixed] what it has done
 */

export const error = (code, path, meaning, advice) => ({ level: "error", code, path, meaning, advice });
export const warning = (code, path, meaning, advice) => ({ level: "warning", code, path, meaning, advice });
export const info = (code, path, meaning, advice) => ({ level: "info", code, path, meaning, advice });

/** A message without the path at its end. */
export const bare = (message, path) => (message.endsWith(`: ${path}`) ? message.slice(0, -path.length - 2) : message);
