/** `token` and `run`: one login's access token, for a pipe or another program. */
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { OAUTH_PRESETS, refreshOAuthToken, withOAuthRefreshLock } from "../index.mjs";
import { refusal } from "./refusal.mjs";

/** Each prints what one kind of program reads. */
const FORMATS = {
  raw: ({ access }) => access,
  json: ({ access, expires }) =>
    JSON.stringify({ accessToken: access, tokenType: "Bearer", expires, expiresAt: instant(expires) }),
  headers: ({ access }) => JSON.stringify({ Authorization: `Bearer ${access}` }),
  // https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
  "exec-credential": ({ access, expires }) =>
    JSON.stringify({
      apiVersion: "client.authentication.k8s.io/v1",
      kind: "ExecCredential",
      status: { token: access, expirationTimestamp: instant(expires) },
    }),
};
export const formats = Object.keys(FORMATS);

const instant = (expires) => new Date(expires).toISOString();

/** @param {{ provider: string, profileId: string }} login @param {object} options as commander has them */
export async function token(login, { format, forceTty, ...options }) {
  if (process.stdout.isTTY && !forceTty) {
    throw refusal("terminal", "A token is not printed on a terminal: pass it on by a pipe, or use --force-tty.");
  }
  process.stdout.write(`${FORMATS[format](await credentialOf(login, options))}\n`);
}

/**
 * Runs a program with the token in its environment.
 *
 * @returns {Promise<number>} its exit code, or that of the signal that ended it
 */
export async function run(login, [command, ...args], { env: name, ...options }) {
  const { access } = await credentialOf(login, options);
  const child = spawn(command, args, { stdio: "inherit", env: { ...process.env, [name]: access } });
  // The terminal sends these to the child too; it decides.
  for (const signal of ["SIGINT", "SIGQUIT"]) process.on(signal, () => {});
  for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.once("error", ({ code }) => reject(refusal("command", `${command} can't be run (${code}).`)));
    child.once("exit", (code, signal) => resolve(code ?? 128 + constants.signals[signal]));
  });
}

async function credentialOf({ provider, profileId }, options) {
  const { stateDir, agentDir, minLife, timeout, coordinator, coordinatorDown, lostHost } = options;
  const stored = (credential, { signal }) => {
    const request = requestOf(provider, credential);
    return refreshOAuthToken({ ...request, refreshToken: credential.refresh }, { signal });
  };
  const isKnown = options.tokenEndpoint !== undefined || Object.hasOwn(OAUTH_PRESETS, provider);
  // A request, unlike a function, sends a tenant's token to that tenant's own endpoint, or nowhere.
  const refresh = isKnown ? requestOf(provider, options) : stored;
  const ask = (more) =>
    withOAuthRefreshLock(provider, profileId, refresh, {
      stateDir,
      agentDir,
      coordinator,
      coordinatorDown,
      lostHost,
      coordinatorKey: keysIn(options.coordinatorKeyEnv),
      timeoutMs: timeout === undefined ? undefined : timeout * 1000,
      refreshMarginMs: minLife === undefined ? undefined : minLife * 1000,
      ...more,
    });
  const result = await ask();
  if (!result) {
    throw refusal(
      "no_login",
      `There is no login ${profileId} of ${provider}. Store one with \`login add\`, or name another agent's with --agent-dir.`,
    );
  }
  return minLife === undefined || result.refreshError ? result.credential : longLived(result, minLife, ask);
}

/** The keys that hosts share, one a line of a variable; an empty one among several stands for none. */
function keysIn(name) {
  if (name === undefined) return undefined;
  const text = process.env[name];
  if (text?.trim()) return text.replace(/\r?\n$/, "").split(/\r?\n/);
  throw refusal("no_coordinator_key", `The hosts' key is to be in the variable ${name}, which is not set.`);
}

/** The refresh margin is a fifth of a token's life at most; this is what the reader needs. */
async function longLived({ outcome, credential }, minLife, ask) {
  const left = ({ expires }) => Math.floor((expires - Date.now()) / 1000);
  if (left(credential) >= minLife) return credential;
  // While there is no other, the one that is still good is served.
  const replaced = () => ask({ rejectedAccess: credential.access }).catch(() => undefined);
  const next = outcome === "refreshed" ? { credential } : await replaced();
  if (!next || left(next.credential) >= minLife) return (next ?? { credential }).credential;
  throw refusal("short_life", `A new token lives for ${left(next.credential)} s: ask for less by --min-life.`);
}

/** How a login is refreshed, by what was said of it: at its provider's known endpoint if no other is named. */
export function requestOf(provider, { tokenEndpoint, clientId, clientSecretEnv }) {
  const preset = Object.hasOwn(OAUTH_PRESETS, provider) ? OAUTH_PRESETS[provider] : undefined;
  if (!tokenEndpoint && preset) return { ...preset, clientId: clientId ?? preset.clientId };
  if (!tokenEndpoint) {
    throw refusal(
      "no_token_endpoint",
      `How ${provider} refreshes a token is not known here: name --token-endpoint and --client-id, now or at \`login add\`.`,
      { class: "not_asked" },
    );
  }
  const secret = clientSecretEnv === undefined ? undefined : process.env[clientSecretEnv];
  if (clientSecretEnv !== undefined && !secret) {
    const message = `The client's secret is to be in the variable ${clientSecretEnv}, which is not set.`;
    throw refusal("no_client_secret", message, { class: "not_asked" });
  }
  return { tokenEndpoint, clientId, clientSecret: secret };
}
