/** A server that wants a bearer token, and keeps what it was asked. */
import { buffer } from "node:stream/consumers";
import { onTestFinished } from "vitest";
import { serve } from "../../cli/provider.mjs";

/**
 * @param {(request: Asked, isAllowed: boolean) => object | undefined} [answers] `{ status, headers, body }` in place of 200 or 401
 *
 * @typedef {object} Asked
 * @property {string} method
 * @property {string} path
 * @property {import("node:http").IncomingHttpHeaders} headers
 * @property {string | undefined} access the token that it came with
 * @property {Buffer} body
 */
export async function startResource(answers = () => undefined) {
  /** @type {Asked[]} */
  const asked = [];
  const revoked = new Set();
  const { url, close } = await serve(async (request, response) => {
    const { method, url: path, headers } = request;
    const [, access] = headers.authorization?.match(/^Bearer (.+)$/) ?? [];
    const entry = { method, path, headers, access, body: await buffer(request) };
    asked.push(entry);
    const isAllowed = access !== undefined && !revoked.has(access);
    const { status = isAllowed ? 200 : 401, headers: more, body } = answers(entry, isAllowed) ?? {};
    response.writeHead(status, { "content-type": "text/plain", ...more });
    response.end(body ?? `${status}`);
  });
  onTestFinished(close);
  return {
    url,
    asked,
    /** Refuses this token from now on. */
    revoke: (access) => void revoked.add(access),
    accept: (access) => void revoked.delete(access),
  };
}
