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
  const { stateDir, agentDir, minLife, timeout, coordinator } = options;
  const ask = (credential, { signal }) => {
    const request = requestOf(provider, credential, options);
    return refreshOAuthToken({ ...request, refreshToken: credential.refresh }, { signal });
  };
  const result = await withOAuthRefreshLock(provider, profileId, ask, {
    stateDir,
    agentDir,
    coordinator,
    timeoutMs: timeout === undefined ? undefined : timeout * 1000,
    refreshMarginMs: minLife === undefined ? undefined : minLife * 1000,
  });
  if (result) return result.credential;
  throw refusal(
    "no_login",
    `There is no login ${profileId} of ${provider}. Store one with \`login add\`, or name another agent's with --agent-dir.`,
  );
}

/** How a login is refreshed: as it is said now, or was when it was stored, or as its provider is known to want it. */
export function requestOf(
  provider,
  stored,
  { tokenEndpoint = stored.tokenEndpoint, clientId = stored.clientId, clientSecretEnv = stored.clientSecretEnv },
) {
  if (!tokenEndpoint) {
    const preset = OAUTH_PRESETS[provider];
    if (preset) return { ...preset, clientId: clientId ?? preset.clientId };
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
