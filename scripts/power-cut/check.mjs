/** What is under way when the power fails, and what must hold for whoever calls next. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export const ACT = join(import.meta.dirname, "act.mjs");

const EXPIRED = [["store", "main", "1", "expired"]];
const BOTH = [...EXPIRED, ["store", "sub", "1", "expired"]];
const refresh = (live, agent = "main") => ["refresh", String(live), agent];
export const SCENARIOS = [
  { name: "first refresh", prepare: EXPIRED, act: refresh(1), live: 1 },
  {
    name: "later refresh",
    prepare: [...EXPIRED, refresh(1), ["store", "main", "2", "expired"]],
    act: refresh(2),
    live: 2,
  },
  { name: "refresh by a sub-agent", prepare: BOTH, act: refresh(1, "sub"), live: 1, agents: ["sub", "main"] },
  {
    name: "adoption",
    prepare: [["store", "main", "2", "good"], BOTH[1]],
    act: refresh(2, "sub"),
    live: 2,
    agents: ["sub", "main"],
  },
  { name: "recovery", prepare: EXPIRED, cutOf: refresh(1), act: refresh(2), live: 2 },
  { name: "takeover", prepare: EXPIRED, stuck: ["hang", "main"], act: refresh(1), live: 1 },
  { name: "login", prepare: EXPIRED, act: ["login"], live: 1, other: ["access-9"] },
  { name: "first login", prepare: [], act: ["login"], live: 1, other: ["access-9", null], isEmpty: true },
  { name: "logout", prepare: EXPIRED, act: ["logout"], live: 1, other: [null] },
];

/** Runs a program of `act.mjs`, and returns what it says. */
export function run(root, [what, ...more], stdout = "pipe") {
  const stdio = ["ignore", stdout, "pipe"];
  const ended = spawnSync(process.execPath, [ACT, what, root, ...more], { encoding: "utf8", stdio });
  if (ended.status !== 0) throw new Error(`${what} failed: ${ended.stderr}`);
  return ended.stdout;
}

export function filesBelow(directory) {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** The highest number of a refresh token in some bytes. */
export const newest = (bytes) =>
  Math.max(0, ...[...bytes.toString("latin1").matchAll(/refresh-(\d)/g)].map(([, number]) => Number(number)));

/** What has happened before a cut, for all callers to see, by the marks that were made until then. */
export function seenBy(texts, live) {
  const marks = texts.flatMap((text) => text.split("\n"));
  const told = (word) => marks.findLast((mark) => mark.startsWith(word))?.slice(word.length + 1);
  const answered = told("answered");
  return {
    // A provider that was asked may have given the next token although no answer came.
    lives: answered ? [Number(answered)] : told("asked") === undefined ? [live] : [live, live + 1],
    saw: told("saw"),
  };
}

/** What is wrong with what the next callers got; nothing if all is well. */
function faultOf({ first, second, calls, isDead, later }, { live, saw, kept, other = [] }) {
  const codes = [...first, ...second].flatMap(({ code }) => code ?? []);
  if (isDead) {
    if (saw !== undefined) return "a token that a caller saw is lost";
    if (kept >= live) return "a token that was kept is lost";
    if (calls !== 1 || later !== 0) return "a spent token was sent again";
    return codes.every((code) => ["invalid_grant", "grant_dead"].includes(code)) ? undefined : `errors: ${codes}`;
  }
  if (codes.length > 0) return `errors: ${codes}`;
  if (later !== 0 || calls > 1) return `${calls} calls, and ${later} later`;
  const got = new Set([...first, ...second].map(({ access }) => access));
  if (got.size !== 1) return `different tokens: ${[...got]}`;
  const [access] = got;
  if (saw !== undefined && access !== (saw === "none" ? null : `access-${saw}`)) return `${access} in place of ${saw}`;
  return other.includes(access) || access === `access-${live + calls}` ? undefined : `${access} of ${live}`;
}

/** Files with a token that are neither a store nor a journal. */
const strays = (root) =>
  filesBelow(root).filter(
    (path) =>
      !/auth-profiles\.json$|\.journal$/.test(path) && /(?:access|refresh)-\d/.test(readFileSync(path, "latin1")),
  );

function isJson(text) {
  try {
    return JSON.parse(text) !== undefined;
  } catch {
    return false;
  }
}

/** What is wrong with the files afterwards. */
function faultOfFiles(root, agents, foreign) {
  for (const path of filesBelow(root).filter((path) => path.endsWith("auth-profiles.json"))) {
    const text = readFileSync(path, "latin1");
    if (!isJson(text)) return `${path} is torn`;
    if (foreign !== undefined && !text.includes(foreign)) return `${path} has lost what is not ours`;
  }
  // The next writer of a store removes what a dead one left. If nothing had to be written so far, a login is stored.
  if (strays(root).length > 0) for (const agent of agents) run(root, ["login", agent]);
  return strays(root).length > 0 ? `a token is left in ${strays(root)}` : undefined;
}

/** What is not ours in the main agent's store. */
export function foreignIn(text) {
  return text?.slice(text.indexOf('"other:key"'), text.lastIndexOf("}", text.indexOf('"acme:main"')) + 1);
}

/** Has the next callers go on after a cut. `fault`: what is wrong with what they got or left. */
export function goOn(root, { agents = ["main"], other }, { live, saw, kept, foreign }) {
  const said = run(root, ["next", String(live), ...agents]);
  const result = JSON.parse(said.slice(said.indexOf("RESULT ") + "RESULT ".length));
  return { result, fault: faultOf(result, { live, saw, kept, other }) ?? faultOfFiles(root, agents, foreign) };
}
