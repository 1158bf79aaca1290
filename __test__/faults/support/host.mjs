/** A host in a temporary directory: the stores of a main agent and two others, and what is left of them afterwards. */
import { mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Host as PlainHost, PROFILE, PROVIDER, STORE_FILE } from "../../support/host.mjs";

export { PROFILE, PROVIDER, STORE_FILE };

const EXPIRED_MS = -60_000;
export const AGENTS = ["main", "one", "two"];

/** What lies around the credential, in spellings that a careless writer would change. */
const before = (name) =>
  `{\n  "version": 1.0,\n  "profiles": {\n    "bystander:${name}": { "type":"api_key",  "key": "k\\u0065pt", "quota": 9007199254740993, "rate": 1.50 }`;
const after = `\n  },\n  "note": "kept" , "lone": "\\ud800"\n}\n`;
const profileText = (credential) => `,\n    ${JSON.stringify(PROFILE)}: ${credential}`;

export const temporaryDir = () => mkdtempSync(join(tmpdir(), "oauth-refresh-lock-faults-"));

export class Host extends PlainHost {
  static #all = new Set();

  /** Takes away what tests that failed have left. */
  static removeAll() {
    for (const host of Host.#all) host.remove();
  }

  /** @param {string[]} [options.without] agents whose stores lack the profile */
  constructor(grant, { without = [], expiresInMs = EXPIRED_MS, stateDir } = {}) {
    super(stateDir);
    this.without = without;
    Host.#all.add(this);
    this.put(grant, expiresInMs);
  }

  /** Gives every agent that has the profile this credential. */
  put({ access, refresh }, expiresInMs = EXPIRED_MS) {
    this.old = { access, refresh };
    const expires = Date.now() + expiresInMs;
    const credential = { type: "oauth", provider: PROVIDER, access, refresh, expires, email: "owner@example.test" };
    for (const name of AGENTS) {
      const profile = this.without.includes(name) ? "" : profileText(JSON.stringify(credential));
      this.seed(name, `${before(name)}${profile}${after}`);
    }
  }

  options(name, more) {
    return this.as(name, { mainAgentDir: this.agentDir("main"), ...more });
  }

  tokens(name) {
    const profile = JSON.parse(this.store(name)).profiles[PROFILE];
    return profile && { access: profile.access, refresh: profile.refresh };
  }

  /** Each store's bytes. */
  bytes() {
    return AGENTS.map((name) => this.store(name));
  }

  /** The same; a torn store holds none. */
  parsed(name) {
    try {
      return this.tokens(name);
    } catch {
      return undefined;
    }
  }

  /** Which agents' stores hold these tokens. */
  holders({ access, refresh }) {
    return AGENTS.filter((name) => {
      const tokens = this.parsed(name);
      return tokens?.access === access && tokens?.refresh === refresh;
    });
  }

  /** Takes the profile out of an agent's store. */
  logOut(name) {
    this.seed(name, `${before(name)}${after}`);
  }

  /** What is wrong with the stores: each must hold one of these credentials, and everything else as it was. */
  faults(allowed) {
    const faults = [];
    for (const name of AGENTS) {
      const text = this.store(name);
      const lacks = this.without.includes(name);
      if (lacks && text !== `${before(name)}${after}`) faults.push(`${name}: changed`);
      if (lacks) continue;
      if (!text.startsWith(`${before(name)},`) || !text.endsWith(after)) faults.push(`${name}: bystanders changed`);
      let tokens;
      try {
        tokens = this.tokens(name);
      } catch {
        faults.push(`${name}: torn`);
        continue;
      }
      const holds = (one) => one && tokens?.access === one.access && tokens?.refresh === one.refresh;
      if (!allowed.some(holds)) faults.push(`${name}: holds another credential`);
    }
    return faults;
  }

  /** Every file that is no store. */
  otherFiles() {
    return readdirSync(this.stateDir, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name !== STORE_FILE)
      .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
  }

  /** Which files other than the stores hold one of these secrets. */
  tellers(secrets) {
    return this.otherFiles().filter((file) => {
      const bytes = readFileSync(file);
      return secrets.some((secret) => bytes.includes(secret));
    });
  }

  /** What was left behind beside the stores, but for a dead process's lock file: the next writer reclaims that. */
  litter() {
    const ours = join(this.stateDir, "agents");
    return this.otherFiles().filter((file) => file.startsWith(ours) && !/\.json\.lock(\.tmp)?$/.test(file));
  }

  remove() {
    Host.#all.delete(this);
    super.remove();
  }
}
