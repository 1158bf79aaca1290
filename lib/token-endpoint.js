const path = require("node:path");
const args = require("./arguments.js");
const { FOUND, OAuthRefreshLockError, fromNative } = require("./errors.js");
const { native } = require("./native.js");
const { refuseUnknown } = require("./unknown.js");

const DEFAULT_CONNECT_TIMEOUT_MS = 10_000;
/** A token is answered in far less; so many callers side by side still tell a provider that wants fewer. */
const MAX_PARALLEL = 1_000;
/** Options of Node's, and whether the system's roots count by them. */
const SYSTEM_ROOTS = new Map([
  ["--use-system-ca", true],
  ["--no-use-system-ca", false],
]);

/** What a request may say, and how it is checked. */
const MEMBERS = {
  tokenEndpoint: (name, value) => args.id(name, value),
  enterpriseTokenEndpoint: optional(args.id),
  clientId: optional(args.id),
  clientSecret: optional(args.id),
  clientAuth: (name, value) => args.oneOf(name, value, ["none", "basic", "post"]),
  encoding: (name, value) => args.oneOf(name, value, ["form", "json"]),
  exchange: (name, value) => args.oneOf(name, value, ["refresh_token", "github-copilot"]),
  scope: optional(args.id),
  resource: (name, value) => texts(name, typeof value === "string" ? [value] : value),
  headers,
  identityClaims,
  envelope,
  expiresInUnit: (name, value) => args.oneOf(name, value, ["s", "ms"]),
  replay: (name, value) => args.oneOf(name, value, ["rotates", "static"]),
  connectTimeoutMs: (name, value) => args.delay(name, value, { fallback: DEFAULT_CONNECT_TIMEOUT_MS }),
  maxParallel,
  classify,
};

function optional(check) {
  return (name, value) => (value === undefined ? undefined : check(name, value));
}

function texts(name, value) {
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) throw args.invalid(`${name} must be a string or an array of strings`);
  return value.map((one) => args.id(name, one));
}

function headers(name, value) {
  if (value === undefined) return undefined;
  const prototype = Object.getPrototypeOf(args.object(name, value));
  // Another realm (`node:vm`, Jest) has an `Object.prototype` of its own, and nothing is above that.
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null)
    throw args.invalid(`${name} must be a plain object`);
  return Object.entries(value).map(([header, content]) => [header, args.text(`${name}["${header}"]`, content)]);
}

function identityClaims(name, value) {
  if (value === undefined) return undefined;
  const { accountId, email } = args.optionsObject(value, name, ["accountId", "email"]);
  return { accountId: texts(`${name}.accountId`, accountId), email: texts(`${name}.email`, email) };
}

function classify(name, value) {
  if (value === undefined) return undefined;
  const { dead, unspent } = args.optionsObject(value, name, ["dead", "unspent"]);
  return { dead: texts(`${name}.dead`, dead), unspent: texts(`${name}.unspent`, unspent) };
}

function envelope(name, value) {
  return texts(name, typeof value === "string" ? [value] : value);
}

function maxParallel(name, value) {
  if (value === undefined || (Number.isInteger(value) && value >= 1 && value <= MAX_PARALLEL)) return value;
  throw args.invalid(`${name} must be a whole number from 1 to ${MAX_PARALLEL}`);
}

/**
 * A token endpoint, and the way there from this thread's environment.
 *
 * @returns {{ at: object, maxParallel?: number }} `at` is the native endpoint
 */
function tokenEndpoint(name, request) {
  if (typeof request?.tokenEndpoint !== "string") {
    const either = name === "refresh" ? "a function or " : "";
    throw args.invalid(`${name} must be ${either}an object with a tokenEndpoint, not ${args.kind(request)}`);
  }
  const checked = {};
  const { ...given } = request;
  for (const [member, check] of Object.entries(MEMBERS)) checked[member] = check(`${name}.${member}`, given[member]);
  refuseUnknown(name, given, Object.keys(MEMBERS));
  const {
    resource = [],
    headers = [],
    envelope = [],
    identityClaims,
    replay,
    maxParallel,
    classify,
    ...spec
  } = checked;
  const { NativeTokenEndpoint } = native();
  if (!NativeTokenEndpoint) {
    throw new OAuthRefreshLockError(
      "addon_unavailable",
      "this build of the native addon has no HTTP client (Cargo feature `token-endpoint`); pass a refresh function",
    );
  }
  try {
    const at = new NativeTokenEndpoint({
      ...spec,
      resource,
      headers,
      envelope,
      accountIdClaim: identityClaims?.accountId,
      emailClaim: identityClaims?.email,
      isReplaySafe: replay === "static",
      deadCodes: classify?.dead ?? [],
      unspentCodes: classify?.unspent ?? [],
      ...surroundings(),
    });
    return { at, maxParallel };
  } catch (error) {
    throw args.invalid(error.message);
  }
}

/** Proxy and roots of trust, as this thread's environment and Node's options name them; lower case first, as curl has it. */
function surroundings() {
  const { env } = process;
  const first = (...names) =>
    names.map((name) => env[name]).find((value) => value !== undefined && value.trim() !== "");
  const directories = first("SSL_CERT_DIR")?.split(path.delimiter) ?? [];
  const roots = [first("NODE_EXTRA_CA_CERTS"), first("SSL_CERT_FILE"), ...directories];
  return {
    proxy: first("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
    noProxy: first("no_proxy", "NO_PROXY"),
    extraRoots: roots.filter((root) => root?.trim()).map((root) => path.resolve(root)),
    hasSystemRoots: trustsSystem(env),
  };
}

/** Whether Node has been told to trust the system's roots; the last word counts, and the command line comes last. */
function trustsSystem(env) {
  const options = [...(env.NODE_OPTIONS ?? "").split(/\s+/), ...process.execArgv];
  const last = options.findLast((option) => SYSTEM_ROOTS.has(option));
  return last === undefined ? env.NODE_USE_SYSTEM_CA === "1" : SYSTEM_ROOTS.get(last);
}

/** Makes an error of how a call failed. */
function providerError({ code, message, class: failureClass, retryAfterMs, status, oauthError, dead, ...found }) {
  const retry = retryAfterMs == null ? {} : { retryAfterMs };
  const error = new OAuthRefreshLockError(code, message, {
    status: status ?? undefined,
    oauthError: oauthError ?? undefined,
    refreshFailure: { class: failureClass, ...retry, ...(dead && { message: dead }) },
    ...retry,
  });
  return Object.defineProperty(error, FOUND, { value: found });
}

/** Functions of ours that ask an endpoint, and don't try again by themselves. */
const askers = new WeakSet();

/**
 * A refresh function that asks where the credential that is sent says.
 *
 * @param {(credential: object) => object} requestOf
 */
function asking(requestOf) {
  const refresh = async (credential, { signal }) => {
    const request = requestOf(credential);
    try {
      tokenEndpoint("refresh", request);
    } catch (error) {
      throw Object.assign(error, { refreshFailure: { class: "not_asked" } });
    }
    return exchange(request, credential, { signal });
  };
  askers.add(refresh);
  return refresh;
}

/** Whether a refresh function is one of those. */
const asksEndpoint = (refresh) => askers.has(refresh);

async function refreshOAuthToken(request, options) {
  const { refreshToken, ...endpoint } = args.object("request", request);
  args.id("refreshToken", refreshToken);
  return exchange(endpoint, { type: "oauth", refresh: refreshToken }, options);
}

/** The same for a whole credential: its tenant's token goes to no other host, and another account's answer is refused. */
async function exchange(request, credential, options) {
  const { at } = tokenEndpoint("request", request);
  const { signal, timeoutMs } = args.callLimits(options);
  if (signal?.aborted) throw aborted(signal.reason, "not_sent");
  const onAbort = () => at.cancel();
  signal?.addEventListener("abort", onAbort, { once: true });
  const reply = await at.ask(JSON.stringify(credential), timeoutMs);
  signal?.removeEventListener("abort", onAbort);
  if (reply.error) throw fromNative(reply.error);
  const { failure } = JSON.parse(reply.value);
  // An answer that was there already is one all the same.
  if (!failure) return { access: "", ...JSON.parse(reply.credential) };
  throw signal?.aborted ? aborted(signal.reason, failure.class) : providerError(failure);
}

function aborted(cause, failureClass) {
  const then = failureClass === "not_sent" ? "nothing was sent" : "whether the refresh token is spent is unknown";
  const message = `the caller's signal aborted the call to the token endpoint; ${then}`;
  return new OAuthRefreshLockError("caller_aborted", message, { cause, refreshFailure: { class: failureClass } });
}

module.exports = { asking, asksEndpoint, providerError, refreshOAuthToken, tokenEndpoint };
