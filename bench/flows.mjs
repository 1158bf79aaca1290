/** The ways to a usable credential that are compared: ours, and OpenClaw's of April. */
import { Agent, request } from "node:http";
import { createAprilFlow } from "./april.mjs";
import { PROVIDER } from "./stores.mjs";

export const OURS = "ours, refresh function";
export const OURS_NATIVE = "ours, token endpoint";
export const APRIL = "OpenClaw's flow of April";

/** The flows that can be measured. */
export const flowsOf = (entrants) => [
  { name: OURS },
  { name: OURS_NATIVE },
  { name: APRIL, reason: entrants.find(({ name }) => name.startsWith("proper-lockfile"))?.reason },
];

const CLIENT_ID = "bench";
const connections = new Agent({ keepAlive: true });

/** One call to the provider. */
export async function ask(url, refreshToken) {
  const body = new URLSearchParams({
    grant_type: "refresh_token",
    refresh_token: refreshToken,
    client_id: CLIENT_ID,
  }).toString();
  const headers = { "content-type": "application/x-www-form-urlencoded", "content-length": Buffer.byteLength(body) };
  const [status, text] = await new Promise((resolve, reject) => {
    const call = request(url, { method: "POST", agent: connections, headers }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk) => {
        text += chunk;
      });
      response.on("end", () => resolve([response.statusCode, text]));
    });
    call.on("error", reject);
    call.end(body);
  });
  const answer = JSON.parse(text);
  if (status !== 200) {
    const { error, error_description: description } = answer;
    throw Object.assign(new Error(description ?? error), { status, error });
  }
  return {
    access: answer.access_token,
    refresh: answer.refresh_token,
    expires: Date.now() + answer.expires_in * 1000,
  };
}

/**
 * @typedef {{ stateDir: string, mainAgentDir: string, agentDir: string, profileId: string }} Subject
 *
 * @param {string} name
 * @param {string} url of the provider
 * @returns {Promise<(subject: Subject) => Promise<string>>} resolves to an access token
 */
export async function flowOf(name, url) {
  const refresh = (credential) => ask(url, credential.refresh);
  if (name === APRIL) {
    const run = createAprilFlow();
    return async (subject) => (await run({ provider: PROVIDER, refresh, ...subject })).access;
  }
  const { withOAuthRefreshLock } = await import("../index.mjs");
  const how = name === OURS ? refresh : { tokenEndpoint: url, clientId: CLIENT_ID };
  return async ({ profileId, ...options }) => {
    const result = await withOAuthRefreshLock(PROVIDER, profileId, how, options);
    return result?.credential.access ?? "";
  };
}
