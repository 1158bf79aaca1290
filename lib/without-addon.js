/**
 * What can be told where there is no addon: where a lock lies, and what the identity gate says. The core's rules once more (`key.rs`,
 * `state_dir.rs`, `credential/identity.rs`, `refresh/mirror.rs`); a test compares the answers.
 */
const { createHash } = require("node:crypto");
const { existsSync } = require("node:fs");
const path = require("node:path");
const { isDeepStrictEqual } = require("node:util");

/** As `Date` has it. */
const MAX_DATE_MS = 8.64e15;

/** A variable's value; blank, `undefined` and `null` as text count as unset. */
function set(value) {
  const text = (value ?? "").trim();
  return ["", "undefined", "null"].includes(text) ? undefined : text;
}

function expand(value, home, workingDir) {
  if (value === "~") return home;
  return /^~[/\\]/.test(value) ? path.join(home, value.replace(/^~[/\\]+/, "")) : path.resolve(workingDir, value);
}

function homeOf({ openclawHome, home, userProfile, osHome, workingDir }) {
  const told = set(home) ?? set(userProfile);
  const plain = told === undefined ? osHome : path.resolve(workingDir, told);
  const configured = set(openclawHome);
  return configured === undefined ? plain : expand(configured, plain, workingDir);
}

function stateDirOf(surroundings) {
  const configured = set(surroundings.openclawStateDir);
  const home = homeOf(surroundings);
  if (configured !== undefined) return expand(configured, home, surroundings.workingDir);
  const [current, legacy] = [".openclaw", ".clawdbot"].map((name) => path.join(home, name));
  return !existsSync(current) && existsSync(legacy) ? legacy : current;
}

function lockPath(provider, profileId, stateDir, surroundings) {
  const hash = createHash("sha256").update(`${provider}\0${profileId}`, "utf8").digest("hex");
  const within = stateDir === undefined ? stateDirOf(surroundings) : path.resolve(stateDir);
  return path.join(within, "locks", "oauth-refresh", `sha256-${hash}`);
}

const trimmed = (text) => text.trim();
const lower = (text) => text.trim().toLowerCase();
const url = (text) =>
  lower(text)
    .replace(/^https?:\/\//, "")
    .replace(/\/+$/, "");

/** What a field says; nothing if it is absent or blank. What is no text, or no valid one, is the same only as itself. */
function evidence(fields, name, normalise) {
  const value = fields[name];
  const isText = typeof value === "string" && value.isWellFormed();
  return isText ? normalise(value) || undefined : (value ?? undefined);
}

/** Evidence may be added, not changed or dropped. */
function keeps(existing, incoming, name, normalise) {
  const kept = evidence(existing, name, normalise);
  return kept === undefined || isDeepStrictEqual(kept, evidence(incoming, name, normalise));
}

const isSafe = (existing, incoming) =>
  keeps(existing, incoming, "accountId", trimmed) && keeps(existing, incoming, "email", lower);

const isSameTenant = (existing, incoming) =>
  isDeepStrictEqual(evidence(existing, "enterpriseUrl", url), evidence(incoming, "enterpriseUrl", url)) &&
  keeps(existing, incoming, "projectId", trimmed);

/** JSON text's object; nothing if it is none, as a `toJSON` may have made it. */
function objectOf(text) {
  const value = JSON.parse(text);
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined;
}

function isSafeToCopy(existing, incoming) {
  const [kept, copied] = [objectOf(existing), objectOf(incoming)];
  return kept !== undefined && copied !== undefined && isSafe(kept, copied);
}

const isOAuth = ({ type, mode }) => (typeof type === "string" ? type : mode) === "oauth";

const isInstant = (value) => typeof value === "number" && Math.abs(value) <= MAX_DATE_MS;

function mirrorDecision(main, refreshed) {
  const [existing, incoming] = [main === undefined ? undefined : objectOf(main), objectOf(refreshed)];
  const isUnreadable = main !== undefined && existing === undefined;
  if (isUnreadable || incoming === undefined || !isOAuth(incoming)) return null;
  const reason = reasonOf(existing, incoming);
  return { mirror: ["no-existing-credential", "incoming-fresher"].includes(reason), reason };
}

function reasonOf(existing, incoming) {
  if (existing === undefined) return "no-existing-credential";
  if (!isOAuth(existing)) return "non-oauth-existing-credential";
  if (!isDeepStrictEqual(existing.provider, incoming.provider)) return "provider-mismatch";
  if (!isSameTenant(existing, incoming)) return "tenant-mismatch";
  if (!isSafe(existing, incoming)) return "identity-mismatch-or-regression";
  if (!isInstant(incoming.expires)) return "invalid-incoming-expiry";
  const isFresher = !isInstant(existing.expires) || existing.expires < incoming.expires;
  return isFresher ? "incoming-fresher" : "incoming-not-fresher";
}

module.exports = { isSafeToCopy, lockPath, mirrorDecision };
