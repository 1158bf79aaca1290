const { OAuthRefreshLockError } = require("./errors.js");
const { native } = require("./native.js");

/**
 * @typedef {object} RefreshFailure how a provider call failed; the class decides what the next caller may do
 * @property {"not_sent" | "answered_unspent" | "answered_dead" | "uncertain"} class
 * @property {number} [retryAfterMs] for how long the provider asked everyone to wait
 */

/** How providers say that a refresh token was used before (OpenClaw's list). The core has it too; this needs no addon. */
const REUSE_PHRASES = [
  "refresh_token_reused",
  "refresh token has already been used",
  "already been used to generate a new access token",
];

/** Codes of Node, undici and OpenSSL that only a connection that never came about can have. */
const NEVER_CONNECTED = new Set([
  "ENOTFOUND",
  "EAI_AGAIN",
  "EAI_FAIL",
  "EAI_NODATA",
  "ECONNREFUSED",
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

/** The same, where only a message is left of the error. */
const NEVER_CONNECTED_WORDS = /\b(getaddrinfo \w+|connect e\w+|enotfound|eai_again|econnrefused)\b/;
/** `"error": "invalid_grant"` and the like, in a body that was put into a message. */
const CODE_IN_WORDS = /"(?:error|code|type)"\s*:\s*"(\w+)"/g;
/** `failed: 503`, `HTTP 429`, `status code 502`, `(400)`. */
const STATUS_IN_WORDS = /(?:\bstatus(?: code)?|\bhttp(?:\/[\d.]+)?|\bfailed|\berror|\()[:=\s]*([45]\d\d)\b/;

/** How far an error's causes are followed. */
const MAX_DEPTH = 8;

/**
 * Classifies what a refresh function threw. What can't be told is uncertain: the provider may have rotated.
 *
 * @param {unknown} error
 * @returns {RefreshFailure}
 */
function classify(error) {
  // A call of ours, made inside a refresh function.
  if (error instanceof OAuthRefreshLockError && error.refreshFailure) return error.refreshFailure;
  try {
    return classified(causes(error));
  } catch {
    // An error that throws when it is looked at tells nothing.
    return { class: "uncertain" };
  }
}

function classified(chain) {
  const status = chain.map(statusOf).find((found) => found !== undefined);
  const failure = {
    class: native().classifyFailure({
      status,
      codes: chain.flatMap(codesOf),
      words: chain.map(wordsOf).join("\n"),
      neverConnected: chain.some((one) => neverConnected(one)),
    }),
  };
  if (failure.class === "answered_unspent") {
    const retryAfterMs = chain.map(retryAfter).find((found) => found !== undefined);
    if (retryAfterMs !== undefined) failure.retryAfterMs = retryAfterMs;
  }
  return failure;
}

function isRefreshTokenReusedError(error) {
  try {
    const words = causes(error).map(wordsOf).join("\n");
    return REUSE_PHRASES.some((phrase) => words.includes(phrase));
  } catch {
    return false;
  }
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

/** The bodies of an answer that an error carries, at the places where clients put them. */
function bodiesOf(one) {
  if (typeof one !== "object") return [];
  return [one, one.body, one.data, one.data?.payload, one.response?.data, one.response?.body].filter(
    (body) => body != null,
  );
}

/** What an error says of itself, lower-cased. */
function wordsOf(one) {
  const said = [one, one.message, one.error_description, one.code, ...bodiesOf(one)];
  for (const body of bodiesOf(one))
    said.push(body.error, body.error?.message, body.error?.code, body.error_description);
  return said
    .filter((word) => typeof word === "string")
    .join("\n")
    .toLowerCase();
}

/** The codes that an error carries. */
function codesOf(one) {
  const found = [...wordsOf(one).matchAll(CODE_IN_WORDS)].map(([, code]) => code);
  for (const body of bodiesOf(one)) found.push(body.code, body.error, body.error?.code, body.error?.type);
  // A message may be the code itself.
  found.push(
    ...(typeof one.message === "string" ? (one.message.toLowerCase().match(/\b[a-z]+(?:_[a-z]+)+\b/g) ?? []) : []),
  );
  return found.filter((code) => typeof code === "string");
}

function statusOf(one) {
  const given = [one.status, one.statusCode, one.response?.status, one.response?.statusCode];
  const found = given.find((status) => Number.isInteger(status) && status >= 100 && status < 600);
  if (found !== undefined) return found;
  const told = wordsOf(one).match(STATUS_IN_WORDS);
  return told ? Number(told[1]) : undefined;
}

/** RFC 9110 §10.2.3: seconds, or a date. */
function retryAfter(one) {
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

function neverConnected(one, depth = 0) {
  // Several addresses were tried, and none answered.
  if (Array.isArray(one.errors) && one.errors.length > 0) {
    return depth < MAX_DEPTH && one.errors.every((each) => each != null && neverConnected(each, depth + 1));
  }
  if (typeof one.syscall === "string") return one.syscall === "connect" || one.syscall.startsWith("getaddrinfo");
  if (one.code !== undefined) return NEVER_CONNECTED.has(one.code);
  return NEVER_CONNECTED_WORDS.test(wordsOf(one));
}

module.exports = { classify, isRefreshTokenReusedError };
