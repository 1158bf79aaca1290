/** What the tests of `token`, `run` and `login` share. */
import { spawn } from "node:child_process";
import { onTestFinished } from "vitest";
import { Grant, startProvider as startPlainProvider } from "../../cli/provider.mjs";
import { ended } from "../support/child.mjs";
import { PROFILE, PROVIDER } from "../support/host.mjs";
import { MAIN } from "./cli.mjs";

export const LOGIN = [PROVIDER, PROFILE];

/** A provider whose refresh tokens are good for one use, and which counts its calls. */
export async function startProvider() {
  const grant = new Grant((count) => ({ access: `SECRET-a${count}`, refresh: `r${count}` }));
  const sent = [];
  const { url, close } = await startPlainProvider(async (parameters, { headers }) => {
    sent.push({ ...Object.fromEntries(parameters), authorization: headers.authorization });
    grant.calls += 1;
    return grant.exchange(parameters.get("refresh_token"));
  });
  onTestFinished(close);
  return Object.assign(grant, { url, sent });
}

/** Not `spawnSync`: the provider is in this process. */
export async function cli(args, { input = "", env } = {}) {
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { PATH: process.env.PATH, HOME: "/nonexistent", ...env },
  });
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  return ended(child);
}

export const endpoint = ({ url }) => ["--token-endpoint", url, "--client-id", "agents"];
