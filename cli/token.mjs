/** `token` and `run`: one login's access token, for a pipe or another program. */
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { OAUTH_PRESETS, withOAuthRefreshLock } from "../index.mjs";
import endpoints from "../lib/token-endpoint.js";
import { coordinatorOf } from "./coordinator.mjs";
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

/** `undefined` for one that no calendar has. */
const instant = (expires) => (Math.abs(expires) <= 8.64e15 ? new Date(expires).toISOString() : undefined);

const UNPRINTABLE = /[\0-\x1f\x7f]/;

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
  const { stateDir, agentDir, minLife, timeout, coordinatorDown, lostHost } = options;
  const shared = coordinatorOf(options);
  // By the credential that is sent: the one in the store may be another by then, or main's.
  const refresh = endpoints.asking((credential) => requestOf(provider, toldOf(options, credential), secretIn));
  const ask = (more) =>
    withOAuthRefreshLock(provider, profileId, refresh, {
      stateDir,
      agentDir,
      coordinatorDown,
      lostHost,
      ...shared,
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
  const isServed = minLife === undefined || result.refreshError;
  const credential = isServed ? result.credential : await longLived(result, minLife, ask);
  // A reader might take what follows for something else.
  if (UNPRINTABLE.test(credential.access))
    throw refusal("unusable_token", `The access token of ${profileId} has control characters; log in again.`);
  return credential;
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

/** What a variable may be called. Anything else may be what is to be in it. */
const VARIABLE = /^[A-Za-z_]\w*$/;
const TOLD = ["tokenEndpoint", "clientId", "clientSecretEnv"];

/** What somebody says of how a login is refreshed. */
export const said = (from) => Object.fromEntries(TOLD.flatMap((name) => (from[name] ? [[name, from[name]]] : [])));

/** The same: now, else when it was stored. */
export function toldOf(options, stored) {
  const [now, earlier] = [said(options), said(stored)];
  // What belongs to another endpoint, or to another client, is of no use at this one.
  if (now.tokenEndpoint && now.tokenEndpoint !== earlier.tokenEndpoint) return now;
  if (now.clientId && now.clientId !== earlier.clientId) delete earlier.clientSecretEnv;
  return { ...earlier, ...now };
}

/** How a login is refreshed: as it is told, else at its provider's known endpoint. */
export function requestOf(provider, { tokenEndpoint, clientId, clientSecretEnv }, secretOf) {
  const preset = Object.hasOwn(OAUTH_PRESETS, provider) ? OAUTH_PRESETS[provider] : undefined;
  const refuse = (code, message) => refusal(code, message, { class: "not_asked" });
  if (!tokenEndpoint && !preset) {
    const how = "name --token-endpoint and --client-id, now or at `login add`";
    throw refuse("no_token_endpoint", `How ${provider} refreshes a token is not known here: ${how}.`);
  }
  if (clientSecretEnv !== undefined && !VARIABLE.test(clientSecretEnv)) {
    const how = "name it by --client-secret-env at `login add`";
    throw refuse(
      "no_client_secret",
      `The variable of the client's secret is stored as a name that no variable has: ${how}.`,
    );
  }
  const clientSecret = clientSecretEnv === undefined ? undefined : secretOf(clientSecretEnv);
  if (tokenEndpoint) return { tokenEndpoint, clientId, clientSecret };
  const client = { clientId: clientId ?? preset.clientId, clientSecret };
  if (preset.clientAuth && !client.clientId) {
    const how = "name --client-id, and --client-secret-env if it has a secret, now or at `login add`";
    throw refuse("no_client", `${provider} asks for a client of your own: ${how}.`);
  }
  // An app without a secret, such as one that logs in by device flow.
  return { ...preset, ...client, clientAuth: preset.clientAuth && !clientSecret ? "none" : preset.clientAuth };
}

function secretIn(name) {
  const secret = process.env[name];
  if (secret) return secret;
  const message = `The client's secret is to be in the variable ${name}, which is not set.`;
  throw refusal("no_client_secret", message, { class: "not_asked" });
}
