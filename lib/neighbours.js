const { readFile, stat } = require("node:fs/promises");
const { homedir } = require("node:os");
const { join } = require("node:path");
const args = require("./arguments.js");

/** What other programs keep in a file, and how it says which tokens it has. */
const PROGRAMS = {
  codex: {
    path: () => join(process.env.CODEX_HOME || join(homedir(), ".codex"), "auth.json"),
    name: "Codex",
    isIts: ({ tokens, ...beside }) =>
      isObject(tokens) && ["OPENAI_API_KEY", "auth_mode", "last_refresh"].some((name) => Object.hasOwn(beside, name)),
    read: ({ tokens }) => ({ access: tokens.access_token, accountId: tokens.account_id }),
  },
  // Its file names the account and the organization of the token beside them since 2.1.
  "claude-code": {
    path: () => join(process.env.CLAUDE_CONFIG_DIR || join(homedir(), ".claude"), ".credentials.json"),
    name: "Claude Code",
    isIts: ({ claudeAiOauth }) => isObject(claudeAiOauth),
    read: ({ claudeAiOauth: { accessToken, expiresAt, accountUuid, organizationUuid } }) => ({
      access: accessToken,
      expires: expiresAt,
      accountId: accountUuid,
      organizationUuid,
    }),
  },
  opencode: {
    path: () => join(process.env.XDG_DATA_HOME || join(homedir(), ".local", "share"), "opencode", "auth.json"),
    name: "opencode",
    isIts: (entries) =>
      Object.entries(entries).some(
        ([name, entry]) => isObject(entry) && entry.type === "oauth" && !WRAPPERS.includes(name),
      ),
    read: (entries) => Object.values(entries).filter(({ type }) => type === "oauth"),
  },
};
/** Another program's token is of use for at least so long. */
const SHORTEST_LIFE_MS = 60_000;
const MAX_BYTES = 1 << 20;
/** Where a token of OpenAI's names the workspace: one user may have several. */
const OPENAI = "https://api.openai.com/auth";
/** How Anthropic's access tokens begin, which say nothing else. */
const ANTHROPIC = "sk-ant-oat";

const isObject = (value) => typeof value === "object" && value !== null;

/** The program whose file this is the text of, if it is one of them. */
function programOf(json) {
  let entries;
  try {
    entries = JSON.parse(json);
  } catch {
    return undefined;
  }
  return isObject(entries) ? Object.values(PROGRAMS).find(({ isIts }) => isIts(entries))?.name : undefined;
}

/** What a client library may put around a login of its own. */
const WRAPPERS = ["tokens", "credentials", "token", "session", "data", "body", "result", "response"];

/** A token of another program, in place of a refresh: nothing was asked. */
class Found extends Error {
  code = "neighbour_token";
  refreshFailure = { class: "not_asked" };

  constructor(credential) {
    super("another program has a newer token of this account; it is used, and nothing is asked");
    // Nothing that logs this error may show it.
    Object.defineProperty(this, "credential", { value: credential, enumerable: false });
  }
}

/** No other program has one. */
class NoneFound extends Error {
  code = "neighbour_token";
  refreshFailure = { class: "not_asked" };
}

function checkedNeighbours(given) {
  if (given === undefined) return undefined;
  if (!Array.isArray(given)) throw args.invalid(`adoptFrom must be an array, not ${args.kind(given)}`);
  return given.map((one) => {
    if (Object.hasOwn(PROGRAMS, one)) return PROGRAMS[one];
    if (typeof one === "string") {
      throw args.invalid(
        `adoptFrom knows ${Object.keys(PROGRAMS).join(", ")}, and files as { path, read }; not ${JSON.stringify(one.slice(0, 40))}`,
      );
    }
    const { path, read } = args.optionsObject(one, "adoptFrom", ["path", "read"]);
    const absolute = args.absolutePath("adoptFrom.path", args.text("adoptFrom.path", path));
    return { path: () => absolute, read: args.callback("adoptFrom.read", read) };
  });
}

/**
 * The newest token of the same account that one of these files has, if it is newer than the stored one. Only reads; whatever is
 * wrong with a file is its owner's business.
 *
 * @returns {Promise<{ access: string, expires: number } | undefined>}
 */
async function newerToken(neighbours, stored, rejectedAccess) {
  const offers = (await Promise.all(neighbours.map(offersOf))).flat();
  const now = Date.now();
  return offers
    .filter(({ access }) => access !== stored.access && access !== rejectedAccess)
    .map((offer) => isSameAccount(stored, offer) && { access: offer.access, expires: expiryOf(offer) })
    .filter((found) => found && found.expires > Math.max(stored.expires, now + SHORTEST_LIFE_MS))
    .sort((one, other) => other.expires - one.expires)[0];
}

async function offersOf({ path, read }) {
  try {
    const file = path();
    const { size, uid, mode, ...found } = await stat(file).then((stat) => ({ ...stat, isFile: stat.isFile() }));
    // What another user could have put there is not ours to send.
    const isOurs = process.getuid === undefined || (uid === process.getuid() && (mode & 0o022) === 0);
    if (!found.isFile || !isOurs || size > MAX_BYTES) return [];
    const offers = [await read(JSON.parse(await readFile(file, "utf8")))].flat();
    return offers.filter((offer) => isAnthropic(offer?.access) || claimsOf(offer?.access) !== undefined);
  } catch {
    return [];
  }
}

/** Both tokens say so themselves: one issuer, one user, one audience, one workspace. Of Anthropic's, which don't, what is beside them. */
function isSameAccount(stored, offer) {
  if (isAnthropic(stored.access) && isAnthropic(offer.access)) {
    const isSame = (field) =>
      typeof stored[field] === "string" && stored[field] !== "" && stored[field] === offer[field];
    return isSame("accountId") && isSame("organizationUuid");
  }
  const [ours, theirs] = [claimsOf(stored.access), claimsOf(offer.access)];
  const isNamed = ({ iss, sub } = {}) => typeof iss === "string" && typeof sub === "string" && iss !== "" && sub !== "";
  if (!isNamed(ours) || !isNamed(theirs) || ours.iss !== theirs.iss || ours.sub !== theirs.sub) return false;
  const account = (claims, { accountId }) => claims[OPENAI]?.chatgpt_account_id ?? accountId;
  return JSON.stringify(ours.aud) === JSON.stringify(theirs.aud) && account(ours, stored) === account(theirs, offer);
}

function expiryOf({ access, expires }) {
  const { exp } = claimsOf(access) ?? {};
  const known = [exp * 1000, expires].filter(Number.isFinite);
  return known.length > 0 ? Math.min(...known) : 0;
}

const isAnthropic = (access) => typeof access === "string" && access.startsWith(ANTHROPIC);

/** What a JSON Web Token says; nothing if it is none. Its signature is its issuer's business: it goes back there. */
function claimsOf(token) {
  try {
    const [, payload, signature] = token.split(".");
    const claims = signature === undefined ? undefined : JSON.parse(Buffer.from(payload, "base64url").toString());
    return typeof claims === "object" && claims !== null ? claims : undefined;
  } catch {
    return undefined;
  }
}

module.exports = { Found, NoneFound, checkedNeighbours, newerToken, programOf };
