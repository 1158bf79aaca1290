/** A host in a temporary directory: agents' stores as OpenClaw writes them, and what is left of them afterwards. */
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { onTestFinished } from "vitest";
import { token } from "./secrets.mjs";

export const PROVIDER = "acme";
export const PROFILE = "acme:owner";
export const STORE_FILE = "auth-profiles.json";
export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;

/** No longer than the shortest pause that all processes keep: such a caller is told at once why its refresh failed. */
export const IMPATIENT = { timeoutMs: 1_000 };

/** A larger file is told by its size. */
const MAX_SHOWN_BYTES = 1 << 20;

/** One instant for all: of two agents' credentials neither is the newer. */
const EXPIRED_AT = Date.now() - MINUTE;

/** A login that expired a minute ago. */
export const expired = (fields) => ({
  type: "oauth",
  provider: PROVIDER,
  access: token("access"),
  refresh: token("refresh"),
  expires: EXPIRED_AT,
  ...fields,
});

/** A login that is good for an hour. */
export const usable = (fields) => expired({ expires: Date.now() + HOUR, ...fields });

/** What a refresh function returns. */
export const answer = (fields) => ({
  access: token("access"),
  refresh: token("refresh"),
  expires: Date.now() + HOUR,
  ...fields,
});

/** A profile as it is laid out by us: one member a line, and values as they are spelled. */
export function profileText(profile) {
  const members = Object.entries(profile).filter(([, value]) => value !== undefined);
  return `{\n${members.map(([name, value]) => `      ${JSON.stringify(name)}: ${JSON.stringify(value)}`).join(",\n")}\n    }`;
}

/**
 * A store with this profile (a credential, or JSON text) among things that are none of our business, in all spellings
 * that a careless writer would change.
 */
export function storeText(profile, profileId = PROFILE) {
  const text = typeof profile === "string" ? profile : profileText(profile);
  return `{
  "version": 1.0,
  "profiles": {
    "bystander:before": { "type":"api_key",  "key": "kept", "quota": 9007199254740993, "rate": 1.50, "big": 1e400 },
    ${JSON.stringify(profileId)}: ${text},
    "bystander:\\ud800": {"type": "token", "token": "k\\u0065pt", "note": "\\ud83d", "token": "twice" }
  },
  "order": {"acme": [ "acme:owner",\t"acme:other" ]},
  "lastGood": { },
  "usageStats": { "acme:owner": { "errorCount": -0, "lastUsed": 1.7E+12 } }
}
`;
}

/** A store without the profile. */
export const storeTextWithout = () => storeText({ type: "api_key", provider: "other", key: "kept" }, "other:default");

export class Host {
  /** @param {string} [stateDir] in a directory of its own by default */
  constructor(stateDir) {
    this.root = stateDir ?? mkdtempSync(join(tmpdir(), "oauth-refresh-lock-test-"));
    this.stateDir = stateDir ?? join(this.root, "state");
    mkdirSync(this.stateDir, { recursive: true });
  }

  remove() {
    // What goes on behind a call's end may put a file there meanwhile.
    rmSync(this.root, { recursive: true, force: true, maxRetries: 10 });
  }

  agentDir(agent) {
    return join(this.stateDir, "agents", agent, "agent");
  }

  storePath(agent) {
    return join(this.agentDir(agent), STORE_FILE);
  }

  /** Writes an agent's store: a credential for {@link PROFILE} among bystanders, or any text. */
  seed(agent, store) {
    mkdirSync(this.agentDir(agent), { recursive: true, mode: 0o700 });
    const text = typeof store === "object" ? storeText(store) : store;
    writeFileSync(this.storePath(agent), text, { mode: 0o600 });
  }

  /** Makes an agent's store impossible to write, for root too: a directory takes the temporary file's place. */
  block(agent) {
    mkdirSync(join(`${this.storePath(agent)}.oauth-refresh-lock.tmp`, "in the way"), { recursive: true });
  }

  /** An agent's store as text; `undefined` if there is none. */
  store(agent) {
    try {
      return readFileSync(this.storePath(agent), "utf8");
    } catch (error) {
      if (error.code === "ENOENT") return undefined;
      throw error;
    }
  }

  /** The options of a call by this agent. */
  as(agent, options) {
    return { stateDir: this.stateDir, agentDir: this.agentDir(agent), ...options };
  }

  /** Everything that lies in the temporary directory, by relative path: kind, mode, bytes. */
  tree({ locks = true } = {}) {
    const found = {};
    const walk = (dir) => {
      for (const name of readdirSync(dir).sort()) {
        const path = join(dir, name);
        if (!locks && path === join(this.stateDir, "locks")) continue;
        found[relative(this.root, path)] = describe(path);
        if (lstatSync(path).isDirectory()) walk(path);
      }
    };
    walk(this.root);
    return found;
  }
}

function describe(path) {
  const stat = lstatSync(path);
  const mode = (stat.mode & 0o777).toString(8);
  if (stat.isSymbolicLink()) return `link to ${readlinkSync(path)}`;
  if (stat.isDirectory()) return `directory ${mode}`;
  if (!stat.isFile()) return `special ${mode}`;
  const size = `file ${mode} of ${stat.uid}, ${stat.size} bytes`;
  if (stat.size > MAX_SHOWN_BYTES || (stat.mode & 0o400) === 0) return `${size}, written ${stat.mtimeMs}`;
  return `${size}: ${readFileSync(path, "latin1")}`;
}

/** A host for the running test, with these stores. */
export function createHost(stores = {}) {
  const host = new Host();
  onTestFinished(() => host.remove());
  for (const [agent, store] of Object.entries(stores)) host.seed(agent, store);
  return host;
}
