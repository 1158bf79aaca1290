/** Runs the command line as a user does. */
import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";

export const MAIN = join(import.meta.dirname, "..", "..", "cli", "main.mjs");
const ENV = { PATH: process.env.PATH, HOME: "/nonexistent" };

export function cli(args, env = {}, uid = undefined) {
  const { stdout, stderr, status } = spawnSync(process.execPath, [MAIN, ...args], {
    encoding: "utf8",
    env: { ...ENV, ...env },
    uid,
    gid: uid,
  });
  return { stdout, stderr, status };
}

/** The option that names a host's state directory. */
export const on = (host) => ["--state-dir", host.stateDir];

/** What it prints as JSON. */
export function cliJson(args, env, uid) {
  const { stdout, stderr, status } = cli([...args, "--json"], env, uid);
  try {
    return { status, ...JSON.parse(stdout) };
  } catch {
    throw new Error(`no JSON: ${stdout}${stderr}`);
  }
}

/** One that goes on. */
export const startCli = (args, env = {}) =>
  spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "inherit"], env: { ...ENV, ...env } });

/** The longest line, in characters. */
export const widest = (text) => Math.max(...text.split("\n").map((line) => [...line].length));
