/** `login add`, `login remove` and `login list`. */
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { removeOAuthLogin, saveOAuthLogin } from "../index.mjs";
import logins from "../lib/login.js";
import endpoints from "../lib/token-endpoint.js";
import { refusal } from "./refusal.mjs";
import { expiry, keysOf, problemsOf, survey } from "./state.mjs";
import { complain, printable, say, sayJson, table } from "./terminal.mjs";
import { requestOf, said, toldOf } from "./token.mjs";

/** Far more than any credential. */
const MAX_INPUT_BYTES = 1 << 20;

/** Stores what stands on standard input. */
export async function add({ provider, profileId }, { json, replace, ...options }) {
  if (process.stdin.isTTY) {
    throw refusal("terminal", "The login is read from standard input, as JSON: pass it by a pipe or a file.");
  }
  const credential = await input();
  const { tokenEndpoint, clientId, clientSecretEnv, stateDir, agentDir } = options;
  // What is wrong with the store is told when the login is stored. From another's login nothing is taken over.
  const stored = replace
    ? null
    : await logins.refreshedBy(provider, profileId, { stateDir, agentDir }).catch(() => null);
  const told = toldOf({ ...said(saidIn(credential)), ...said(options) }, stored ?? {});
  // Without that no program could refresh it from here. Its secret may come with the program.
  endpoints.tokenEndpoint(
    "login",
    requestOf(provider, told, () => "of another environment"),
  );
  const refreshedBy = { tokenEndpoint, clientId, clientSecretEnv };
  const saved = await saveOAuthLogin(provider, profileId, credential, { stateDir, agentDir, replace, refreshedBy });
  if (json) sayJson({ provider, profileId, ...saved });
  else say(`${saved.outcome === "added" ? "Added" : "Replaced"} ${printable(profileId)} in ${printable(saved.path)}.`);
}

/** What a login says itself of how it is refreshed. What is wrong with it is told when it is stored. */
function saidIn(json) {
  try {
    return Object(JSON.parse(json));
  } catch {
    return {};
  }
}

/** @returns {Promise<boolean>} whether there was one */
export async function remove({ provider, profileId }, { json, stateDir, agentDir }) {
  const { removed, path } = await removeOAuthLogin(provider, profileId, { stateDir, agentDir });
  if (json) sayJson({ provider, profileId, removed, path });
  else if (removed) say(`Removed ${printable(profileId)} from ${printable(path)}.`);
  else throw refusal("no_login", `There is no login ${profileId} of ${provider} in ${path}.`);
  return removed;
}

/**
 * By login, with the agents that have it.
 *
 * @returns {Promise<boolean>} whether all could be looked at
 */
export async function list({ stateDir, json }) {
  const seen = await survey(stateDir);
  const problems = problemsOf(seen);
  const logins = keysOf(seen)
    .filter(({ provider, agents }) => provider !== null && agents > 0)
    .map(({ provider, profileId, expires }) => ({
      provider,
      profileId,
      expires,
      agents: agentsOf(seen, provider, profileId),
    }));
  if (json) sayJson({ stateDir, logins, problems });
  else {
    say(drawn(logins, stateDir, problems));
    for (const { message } of problems) complain(message);
  }
  return problems.length === 0;
}

function drawn(logins, stateDir, problems) {
  const usable = problems.length > 0 ? "usable " : "";
  if (logins.length === 0) return `No ${usable}OAuth logins in ${printable(stateDir)}.`;
  const now = Date.now();
  const rows = logins.map(({ provider, profileId, expires, agents }) => [
    profileId,
    provider,
    expiry(expires, now),
    agents.join(", "),
  ]);
  return table(["LOGIN", "PROVIDER", "EXPIRES", "AGENTS"], rows, [24, 16, 12, 24]);
}

/** By the directory's name in `agents/`, or its path. */
function agentsOf({ stateDir, stores }, provider, profileId) {
  const has = ({ logins }) => logins.some((login) => login.provider === provider && login.profileId === profileId);
  const agents = join(stateDir, "agents");
  return stores.filter(has).map(({ path }) => {
    const directory = dirname(path);
    const [parent, name] = [dirname(dirname(directory)), dirname(directory)];
    return parent === agents ? name.slice(agents.length + 1) : directory;
  });
}

async function input() {
  let bytes = 0;
  process.stdin.on("data", (chunk) => {
    bytes += chunk.length;
    if (bytes > MAX_INPUT_BYTES)
      process.stdin.destroy(refusal("invalid_argument", "The login on standard input is larger than 1 MiB."));
  });
  const given = await text(process.stdin);
  if (given.trim() === "")
    throw refusal("invalid_argument", "Nothing came on standard input: the login is to be there, as JSON.");
  return given;
}
