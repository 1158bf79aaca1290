const { types } = require("node:util");
const { OAuthRefreshLockError, isError } = require("./errors.js");
const { classify } = require("./failure.js");
const { native } = require("./native.js");

/** What a class may keep to itself and give by a getter or a method. */
const ASKED = ["accessToken", "refreshToken", "idToken", "accessTokenExpiresAt", "expiresAt", "expiresIn"].concat(
  [
    "access_token",
    "refresh_token",
    "id_token",
    "expires_in",
    "expires_at",
    "expiry_date",
    "access",
    "refresh",
    "expires",
  ],
  ["token", "expiresOnTimestamp"],
);

/**
 * A refresh function's result as JSON text, for the core, which knows the shapes that client libraries give. Here is done what
 * JSON can't carry.
 *
 * @param {unknown} result
 * @returns {Promise<string | undefined>} `undefined`: the function had nothing to ask
 * @throws the result itself if it is an `Error`; `provider_refused` if it is the provider's refusal, that is, what a client gives
 *   that does not throw one
 */
async function toJson(result) {
  if (result == null) return undefined;
  if (isError(result)) throw result;
  const given = carried(result);
  const answer = typeof given === "string" ? formed(given) : await received(given);
  const json = textOf(answer);
  if (native().holdsToken(json)) return json;
  const asked = textOf(askedFor(answer));
  if (native().holdsToken(asked)) return asked;
  await throwRefusal(answer, json);
  return json;
}

/** An answer whose body is still to be read, as `fetch`, `ky` and undici's `request` give it: as JSON can carry it. */
async function received(result) {
  const body = bodyOf(result);
  if (!body) return result;
  const { status, statusCode, headers } = result;
  return { status: status ?? statusCode, headers, body: formed(await body.text()) };
}

function bodyOf(result) {
  try {
    // What ofetch and the like have read already, they keep beside it.
    if (result.bodyUsed === true && result._data != null) return { text: () => asText(result._data) };
    return [result, result.body].find((one) => typeof one?.text === "function");
  } catch {
    return undefined;
  }
}

/** JSON as it is; a form, as GitHub answers with where JSON is not asked for, as JSON. */
function formed(text) {
  return /^\s*[\w.-]+=\S*\s*$/.test(text) ? JSON.stringify(Object.fromEntries(new URLSearchParams(text.trim()))) : text;
}

/** As JSON can carry it: text for bytes, an object for a `Map` and its like, text for a big integer. */
function carried(value) {
  if (typeof value === "bigint") return `${value}`;
  if (types.isMap(value) || value instanceof URLSearchParams || value instanceof FormData) {
    return Object.fromEntries(value.entries());
  }
  if (types.isUint8Array(value) || types.isAnyArrayBuffer(value)) return Buffer.from(value).toString("utf8");
  return value;
}

/** The text of a body that was read as something else. */
function asText(data) {
  const given = carried(data);
  return typeof given === "string" ? given : textOf(given);
}

/** Of what JSON can't carry as a whole, as it has circles (axios and got hand on their sockets), the members that it can. */
function textOf(answer) {
  if (typeof answer === "string") return answer;
  if (typeof answer !== "object" || answer === null) return "null";
  try {
    return JSON.stringify(answer, plain) ?? "null";
  } catch {
    // Told by the core, without the words of an error that may quote the value.
  }
  const members = [];
  for (const name of namesOf(answer)) {
    try {
      const value = JSON.stringify(answer[name], plain);
      if (value !== undefined) members.push(`${JSON.stringify(name)}:${value}`);
    } catch {
      // A circle, or a getter that throws.
    }
  }
  return `{${members.join(",")}}`;
}

/** For `JSON.stringify`, which has asked a `Buffer` for its JSON before it asks us. */
function plain(name, value) {
  const given = this[name];
  return types.isUint8Array(given) ? carried(given) : carried(value);
}

function namesOf(answer) {
  try {
    return Object.keys(answer);
  } catch {
    return [];
  }
}

/** What an instance tells when it is asked; a method may throw if it has nothing to tell. */
function askedFor(answer) {
  const told = {};
  for (const name of typeof answer === "object" ? ASKED : []) {
    try {
      const value = typeof answer[name] === "function" ? answer[name]() : answer[name];
      if (value != null) told[name] = value;
    } catch {
      // It has none.
    }
  }
  return told;
}

/** Raises the refusal that an answer without a token is, if it is one. */
async function throwRefusal(answer, json) {
  const { refreshFailure, status } = await refusalIn(answer, json);
  if (refreshFailure.class === "uncertain" && !(status >= 300)) return;
  const what = status >= 300 ? `an answer with status ${status}` : "an error answer";
  throw new OAuthRefreshLockError("provider_refused", `the refresh function returned ${what} instead of tokens`, {
    status,
    retryAfterMs: refreshFailure.retryAfterMs,
    refreshFailure,
  });
}

async function refusalIn(answer, json) {
  const { status, statusCode = status, headers, data, body = data } = parsed(json) ?? {};
  const seen = { status: statusCode, headers: headersOf(answer) ?? headers, data: parsed(body) ?? parsed(json), body };
  const isStatus = Number.isInteger(seen.status) && seen.status >= 100 && seen.status < 600;
  return { refreshFailure: await classify(seen), status: isStatus ? seen.status : undefined };
}

function headersOf(answer) {
  try {
    return answer.headers;
  } catch {
    return undefined;
  }
}

/** The object that this is, or that it is the text of. */
function parsed(value) {
  try {
    // A byte order mark is blank to `trim`.
    const object = typeof value === "string" ? JSON.parse(value.trim()) : value;
    return typeof object === "object" && object !== null ? object : undefined;
  } catch {
    return undefined;
  }
}

module.exports = { toJson };
