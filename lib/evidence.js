const { answers, descriptions, places } = require("./failures.json");
const { soon } = require("./caller.js");

/** How far an error's causes are followed. */
const MAX_DEPTH = 8;
/** Of a body so much is read, and of a text in it. */
const MAX_BODY_LENGTH = 65_536;
const MAX_TEXT_LENGTH = 4_096;
/** So many elements of a list in a body are looked at, and so many levels. */
const MAX_ELEMENTS = 16;
const MAX_BODY_DEPTH = 3;
/** A body that has not come by now stays unread. */
const BODY_PATIENCE_MS = 1_000;

/** The members that facts are about. Nothing else of an error is read, and nothing else is handed on. */
const NAMES = new Set([
  ...[...places, ...descriptions, ...answers]
    .flatMap(({ at = [], with: beside = {} }) => [...at, ...Object.keys(beside)])
    .flatMap((place) => place.replaceAll("[]", "").split(".")),
]);

/** `HTTP 429`, `status code 502`, `status=400`, `(400)`: other numbers are ports, times or sizes. */
const STATUS_IN_WORDS = /(?:\bstatus(?: code)?|\bhttp(?:\/[\d.]+)?)[:=\s]+([45]\d\d)\b|\(([45]\d\d)\)/gi;
/** From here on a status tells that it was not the provider that refused, whatever the number. */
const FIRST_SERVER_ERROR = 500;

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

/** The answer that an error carries, in each client's place for it. */
function answersOf(one) {
  // Boom makes up a status for an error without an answer.
  const booms = one.data?.isResponseError === true ? one.output : undefined;
  return [one, one.response, one.data?.res, booms, one.$metadata, one.$response].filter(isObject);
}

/** The bodies of an answer that an error carries, at the places where clients put them. */
function bodiesOf(one) {
  if (!isObject(one)) return [];
  const { data, response, error } = one;
  return [one, error, one.body, data, data?.payload, one.rawError, one.json, one.context]
    .concat(isObject(response) ? [response.data, response._data, response.body, response.text] : [])
    .map((body) => (isBytes(body) ? Buffer.from(body).toString("utf8", 0, MAX_BODY_LENGTH) : body))
    .filter((body) => (isObject(body) && !isStream(body)) || typeof body === "string");
}

function isBytes(value) {
  return value instanceof Uint8Array || value instanceof ArrayBuffer;
}

function isObject(value) {
  return typeof value === "object" && value !== null;
}

function isStream(value) {
  return typeof value.getReader === "function" || typeof value.pipe === "function";
}

/** Fetch's `Response`, or one like it, that is still unread. */
function isUnread(value) {
  return isObject(value) && typeof value.clone === "function" && value.bodyUsed === false && isObject(value.body);
}

/**
 * What an error tells of an answer.
 *
 * @param {any} error
 */
async function evidenceOf(error) {
  const chain = causes(error);
  // The innermost one is nearest to the wire.
  const inward = chain.toReversed();
  const messages = chain.map((one) => (typeof one === "string" ? one : one.message)).filter(isText);
  const told = messages.flatMap((message) =>
    [...message.matchAll(STATUS_IN_WORDS)]
      .map(([, named, bare]) => Number(named ?? bare))
      .filter((status) => status >= FIRST_SERVER_ERROR || status in require("node:http").STATUS_CODES),
  );
  const unread = chain.flatMap((one) => (isObject(one) ? [one, one.response] : [])).filter(isUnread);
  const said = chain.flatMap(bodiesOf).concat(await Promise.all(unread.map(textOf)));
  const bodies = said.map(parsed).filter(isObject);
  return {
    status: inward.map(statusOf).find((status) => status !== undefined),
    toldStatus: told.length > 0 ? Math.max(...told) : undefined,
    bodies: bodies.map((body) => JSON.stringify(pruned(body)) ?? "{}"),
    messages: messages.map((message) => message.slice(0, MAX_BODY_LENGTH)),
    retryAfterMs: inward.map(retryAfter).find((pause) => pause !== undefined),
  };
}

function isText(value) {
  return typeof value === "string";
}

/** A body's text as what it says: JSON, or a form, as GitHub answers with by default. */
function parsed(body) {
  if (typeof body !== "string") return body;
  try {
    return JSON.parse(body);
  } catch {
    return /^[\w.~%+-]+=/.test(body) ? Object.fromEntries(new URLSearchParams(body)) : undefined;
  }
}

/** Those members of a body that facts are about. */
function pruned(value, depth = 0) {
  if (typeof value === "string") return value.slice(0, MAX_TEXT_LENGTH).toWellFormed();
  if (typeof value === "number") return value;
  if (!isObject(value) || depth > MAX_BODY_DEPTH) return undefined;
  if (Array.isArray(value)) return value.slice(0, MAX_ELEMENTS).map((each) => pruned(each, depth + 1));
  const kept = {};
  for (const name of NAMES) {
    const member = pruned(value[name], depth + 1);
    if (member !== undefined) kept[name] = member;
  }
  return kept;
}

/** The text of an answer that a client hands on unread; its own reader loses nothing by it. */
async function textOf(response) {
  try {
    return await soon(beginningOf(response.clone().body), BODY_PATIENCE_MS);
  } catch {
    return undefined;
  }
}

async function beginningOf(body) {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of body) {
    text += typeof chunk === "string" ? chunk : decoder.decode(chunk, { stream: true });
    if (text.length > MAX_BODY_LENGTH) break;
  }
  return text;
}

function statusOf(one) {
  if (!isObject(one)) return undefined;
  const given = answersOf(one).flatMap((answer) => [answer.status, answer.statusCode, answer.httpStatusCode]);
  return given.find((status) => Number.isInteger(status) && status >= 100 && status < 600);
}

/** RFC 9110 §10.2.3: seconds, or a date. */
function retryAfter(one) {
  if (!isObject(one)) return undefined;
  if (typeof one.retryAfterMs === "number" && one.retryAfterMs >= 0) return one.retryAfterMs;
  const given = [...answersOf(one), one.data].filter(isObject).map((answer) => header(answer.headers, "retry-after"));
  return given.map(pause).find((found) => found !== undefined);
}

/** A header's value, of `Headers`, a `Map`, or an object that spells it in any case. */
function header(headers, name) {
  if (!isObject(headers)) return undefined;
  const found = typeof headers.get === "function" ? headers.get(name) : undefined;
  const own = Object.keys(headers).find((key) => key.toLowerCase() === name);
  const value = found ?? (own === undefined ? undefined : headers[own]);
  return Array.isArray(value) ? value[0] : value;
}

function pause(value) {
  if (value == null) return undefined;
  if (/^\s*\d+\s*$/.test(value)) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}

module.exports = { causes, bodiesOf, evidenceOf };
