/**
 * @typedef {object} RefreshFailure how a provider call failed; the class decides what the next caller may do
 * @property {"not_sent" | "answered_unspent" | "answered_dead" | "uncertain"} class
 * @property {number} [retryAfterMs] for how long the provider asked everyone to wait
 */

/** How providers say that a refresh token was used before (OpenClaw's list). */
const REUSE_PHRASES = [
  "refresh_token_reused",
  "refresh token has already been used",
  "already been used to generate a new access token",
];

/** Node's and undici's codes of a connection that never came about. */
const NOT_CONNECTED = new Set([
  "ENOTFOUND",
  "EAI_AGAIN",
  "EAI_FAIL",
  "EAI_NODATA",
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "EHOSTDOWN",
  "ENETUNREACH",
  "ENETDOWN",
  "EADDRNOTAVAIL",
  "UND_ERR_CONNECT_TIMEOUT",
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "CERT_UNTRUSTED",
  "CERT_REVOKED",
  "CERT_REJECTED",
  "CERT_SIGNATURE_FAILURE",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "HOSTNAME_MISMATCH",
  "ERR_TLS_CERT_ALTNAME_INVALID",
  "ERR_SSL_WRONG_VERSION_NUMBER",
  "ERR_SSL_UNSUPPORTED_PROTOCOL",
  "ERR_SSL_NO_PROTOCOLS_AVAILABLE",
]);

/** RFC 6749 §5.2: the request was refused before the refresh token was looked at. */
const REFUSED_UNSPENT = new Set([
  "invalid_request",
  "invalid_client",
  "unauthorized_client",
  "unsupported_grant_type",
  "invalid_scope",
  "temporarily_unavailable",
  "slow_down",
]);

/** How far an error's causes are followed. */
const MAX_DEPTH = 8;

/**
 * Classifies what a refresh function threw. What can't be told is uncertain: the provider may have rotated.
 *
 * @param {unknown} error
 * @returns {RefreshFailure}
 */
function classify(error) {
  const chain = causes(error);
  if (isRefreshTokenReusedError(error) || chain.some((one) => words(one).includes("invalid_grant"))) {
    return { class: "answered_dead" };
  }
  const refused = chain.some((one) => codes(one).some((code) => REFUSED_UNSPENT.has(code)));
  const status = chain.map(statusOf).find((found) => found !== undefined);
  if (refused || status === 429 || status === 503 || (status >= 400 && status < 500 && status !== 408)) {
    const retryAfterMs = chain.map(retryAfter).find((found) => found !== undefined);
    return { class: "answered_unspent", ...(retryAfterMs !== undefined && { retryAfterMs }) };
  }
  if (status === undefined && chain.some(neverConnected)) return { class: "not_sent" };
  return { class: "uncertain" };
}

function isRefreshTokenReusedError(error) {
  return causes(error).some((one) => REUSE_PHRASES.some((phrase) => words(one).includes(phrase)));
}

/** The error and its causes, outermost first. */
function causes(error) {
  const chain = [];
  for (
    let one = error;
    one != null && chain.length < MAX_DEPTH;
    one = typeof one === "object" ? one.cause : undefined
  ) {
    chain.push(one);
  }
  return chain;
}

/** What an error says of itself, lower-cased. */
function words(one) {
  const said = typeof one === "object" ? [one.message, one.error_description, ...codes(one)] : [one];
  return said
    .filter((word) => typeof word === "string")
    .join("\n")
    .toLowerCase();
}

/** The codes that an error carries, at the places where clients put them. */
function codes(one) {
  if (typeof one !== "object") return [];
  const bodies = [one, one.body, one.data, one.response?.data, one.response?.body];
  return bodies
    .filter((body) => typeof body === "object" && body !== null)
    .flatMap((body) => [body.code, body.error, body.error?.code, body.error?.type])
    .filter((code) => typeof code === "string");
}

function statusOf(one) {
  if (typeof one !== "object") return undefined;
  return [one.status, one.statusCode, one.response?.status, one.response?.statusCode].find(
    (status) => Number.isInteger(status) && status >= 100 && status < 600,
  );
}

/** RFC 9110 §10.2.3: seconds, or a date. */
function retryAfter(one) {
  if (typeof one !== "object") return undefined;
  if (typeof one.retryAfterMs === "number" && one.retryAfterMs >= 0) return one.retryAfterMs;
  for (const headers of [one.headers, one.response?.headers]) {
    const value = typeof headers?.get === "function" ? headers.get("retry-after") : headers?.["retry-after"];
    if (value == null) continue;
    if (/^\s*\d+\s*$/.test(value)) return Number(value) * 1000;
    const date = Date.parse(value);
    if (!Number.isNaN(date)) return Math.max(0, date - Date.now());
  }
  return undefined;
}

function neverConnected(one) {
  if (typeof one !== "object") return false;
  // Several addresses were tried, and none answered.
  if (Array.isArray(one.errors) && one.errors.length > 0) return one.errors.every(neverConnected);
  return one.syscall === "connect" || one.syscall === "getaddrinfo" || NOT_CONNECTED.has(one.code);
}

module.exports = { classify, isRefreshTokenReusedError };
