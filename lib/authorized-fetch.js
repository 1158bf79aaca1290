const { isAnyArrayBuffer } = require("node:util/types");
const args = require("./arguments.js");
const { OAuthRefreshLockError } = require("./errors.js");

/** A token that was refused although it was new will be refused again: it is replaced for that once in so long. */
const FUTILE_MS = 60_000;
/** What `fetch` reads of its second argument, which may be an object with getters, as a `Request` is. */
const INIT_MEMBERS = [
  "method",
  "headers",
  "body",
  "signal",
  "redirect",
  "credentials",
  "cache",
  "mode",
  "referrer",
  "referrerPolicy",
  "integrity",
  "keepalive",
  "duplex",
  "dispatcher",
];

/** What a header's value has not. */
const UNSENDABLE = /[^\t\x20-\x7e\x80-\xff]/;

/**
 * `fetch` with the login's token. After a 401 the token is replaced, and the request sent once more.
 *
 * @param {(options: { signal?: AbortSignal, rejectedAccess?: string }) => Promise<string>} token
 * @param {typeof fetch} [given] in place of the global one
 */
function authorizedFetch(token, given) {
  let futile = { access: undefined, until: 0 };

  /** The token; an abort is told as `fetch` tells it. */
  async function tokenFor(signal, rejectedAccess) {
    try {
      return await token({ signal, rejectedAccess });
    } catch (error) {
      if (error?.code === "caller_aborted" && signal?.aborted) throw signal.reason ?? error;
      throw error;
    }
  }

  return async function fetch(input, init) {
    // Whoever replaces the global one later, means it.
    const fetch = given ?? globalThis.fetch;
    const request = await replayable(input, init, given !== undefined);
    const access = await tokenFor(request.signal);
    const response = await request.send(fetch, access);
    if (!isRefusal(response, request.url)) return response;
    if (access === futile.access && performance.now() < futile.until) return response;
    discard(response);
    const next = await tokenFor(request.signal, access);
    const again = await request.send(fetch, next);
    if (isRefusal(again, request.url)) futile = { access: next, until: performance.now() + FUTILE_MS };
    return again;
  };
}

/** A request that can be sent twice; it is read here, before anything is sent. */
async function replayable(input, init, isOwnFetch) {
  const isRequest = typeof input === "object" && input !== null && typeof input.clone === "function";
  const members = membersOf(init);
  const signal = args.abortSignal(
    (members.signal === undefined && isRequest ? input.signal : members.signal) ?? undefined,
  );
  const headers = new Headers(members.headers ?? (isRequest ? input.headers : undefined));
  refuseStream(members.body);
  // `null` beside a request is none.
  if (isRequest && (members.body ?? undefined) === undefined && input.body) members.body = await input.arrayBuffer();
  const url = isRequest ? input.url : input;
  // A fetch knows its own kind of request; another's would be read as text.
  const isForeign = isRequest && !isOwnFetch && !(input instanceof Request);
  const sent = isForeign ? url : input;
  const base = isForeign ? { ...membersOf(input), ...members, signal } : members;
  if (isForeign && members.body === undefined) delete base.body;
  const send = (fetch, access) => {
    // A header's error would quote it.
    if (UNSENDABLE.test(access.trim())) {
      const message = "the access token has characters that no header can carry; log in again";
      throw new OAuthRefreshLockError("store_invalid", message);
    }
    // Of all that name an account the login's is meant.
    headers.set("authorization", `Bearer ${access}`);
    return fetch(sent, { ...base, headers: new Headers(headers) });
  };
  return { url, signal, send };
}

function membersOf(init) {
  if (init === undefined || init === null) return {};
  const object = args.object("init", init);
  const read = INIT_MEMBERS.map((name) => [name, object[name]]).filter(([, value]) => value !== undefined);
  return { ...object, ...Object.fromEntries(read) };
}

function refuseStream(body) {
  if (typeof body !== "object" || body === null || isAnyArrayBuffer(body) || ArrayBuffer.isView(body)) return;
  const isStream = typeof body.getReader === "function" || typeof body.pipe === "function";
  if (!isStream && body[Symbol.asyncIterator] === undefined) return;
  throw args.invalid(
    "init.body must not be a stream or an async iterable, which can't be sent again after a 401; give a string, a Buffer, an ArrayBuffer, URLSearchParams, FormData or a Blob, or send it once with the global fetch and the client's headers()",
  );
}

/** Whether a server that was shown the token refuses it. A redirect to another origin takes it off. */
function isRefusal(response, url) {
  if (response.status !== 401) return false;
  return !response.redirected || originOf(response.url) === originOf(url);
}

function originOf(url) {
  try {
    return new URL(String(url)).origin;
  } catch {
    return undefined;
  }
}

/** Lets the connection go. Bodies of other libraries are Node's streams. */
function discard({ body }) {
  try {
    if (typeof body?.cancel === "function") void body.cancel().catch(() => {});
    else body?.destroy?.();
  } catch {
    // It is of no use any more, whatever it is.
  }
}

module.exports = { authorizedFetch };
