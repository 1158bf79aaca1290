const { types } = require("node:util");

/** Every error that this package itself raises. `code` is stable; see `ErrorCode` in index.d.ts. */
class OAuthRefreshLockError extends Error {
  /**
   * @param {string} code
   * @param {string} message what happened, where, what to do; never a secret
   * @param {{ cause?: unknown, path?: string, lockPath?: string, holder?: object }} [details]
   */
  constructor(code, message, { cause, ...fields } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "OAuthRefreshLockError";
    this.code = code;
    for (const [name, value] of Object.entries(fields)) if (value !== undefined) this[name] = value;
  }
}

/** What our own call of a token endpoint knows of its error, for the refresh function that made it. */
const FOUND = Symbol("found");

/** Makes an error of what the native side says failed. */
function fromNative({ code, message, path, holderPid, holderHeldMs, holderState, retryAfterMs }) {
  const holder =
    holderPid == null
      ? undefined
      : { pid: holderPid, heldMs: holderHeldMs, ...(holderState && { state: holderState }) };
  // OpenClaw tells a lock wait that ran out by exactly this pair.
  const lockPath = code === "file_lock_timeout" && path ? `${path}.lock` : undefined;
  return new OAuthRefreshLockError(code, message, { path: path ?? undefined, lockPath, holder, retryAfterMs });
}

/** Takes a native reply's value, or raises its error. A credential comes as it is and, in `spelled`, as its text. */
function unwrap({ error, kind, value, credential }) {
  if (error) throw fromNative(error);
  if (value == null) return undefined;
  const answer = kind == null ? JSON.parse(value) : { ...JSON.parse(value), kind };
  return credential == null ? answer : { ...answer, credential: JSON.parse(credential), spelled: credential };
}

/** Of this realm or another (`node:vm`, Jest). */
const isError = (value) => types.isNativeError(value) || value instanceof Error;

module.exports = { FOUND, OAuthRefreshLockError, fromNative, isError, unwrap };
