/** What one process may tell another about what it saw: when, and which token, without telling the token. */
import { createHash } from "node:crypto";

/** Now, in milliseconds since the epoch, with fractions. */
export const now = () => performance.timeOrigin + performance.now();

/**
 * Names a token so that two processes can tell whether they hold the same one.
 *
 * @returns {string} SHA-256, 64 hex digits
 */
export const digest = (token) => createHash("sha256").update(token).digest("hex");
