/** A state directory as OpenClaw lays it out: a main agent and others, all with the same logins. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export const PROVIDER = "bench";
export const STORE_FILE = "auth-profiles.json";
export const EXPIRED_MS = -60_000;
export const HOUR_MS = 3_600_000;

export const profileId = (number) => `bench:${number}`;

/** @param {number} expiresIn in milliseconds */
const credential = ({ access, refresh }, expiresIn) => ({
  type: "oauth",
  provider: PROVIDER,
  access,
  refresh,
  expires: Date.now() + expiresIn,
  email: "owner@example.test",
});

/** @typedef {{ stateDir: string, mainAgentDir: string, agentDirs: string[] }} State */

/** @param {number} agents besides the main one */
export function createState(stateDir, agents) {
  const agentDir = (name) => {
    const path = join(stateDir, "agents", name, "agent");
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return path;
  };
  const agentDirs = Array.from({ length: agents }, (_, index) => agentDir(`agent-${index + 1}`));
  return { stateDir, mainAgentDir: agentDir("main"), agentDirs };
}

/**
 * Writes every store anew, with a profile for each grant.
 *
 * @param {number} expiresIn of the first so many, in milliseconds; the others are good for an hour
 */
export function writeStores({ mainAgentDir, agentDirs }, grants, expiresIn, count = grants.length) {
  const profile = (grant, at) => [profileId(at), credential(grant, at < count ? expiresIn : HOUR_MS)];
  const profiles = Object.fromEntries(grants.map(profile));
  const text = `${JSON.stringify({ version: 1, profiles }, null, 2)}\n`;
  for (const dir of [mainAgentDir, ...agentDirs]) writeFileSync(join(dir, STORE_FILE), text, { mode: 0o600 });
}
