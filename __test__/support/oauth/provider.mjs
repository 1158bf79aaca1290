/** A real OAuth 2.0 server on loopback, with single-use refresh tokens: a second use revokes the grant. It counts. */
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { setMaxListeners } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { serve } from "../../../cli/provider.mjs";
import { loadOidcProvider } from "./oidc.mjs";
import { createStorage } from "./storage.mjs";
import { digest, now } from "./witness.mjs";

const CLIENT_ID = "storm";
const ACCOUNT_ID = "owner";
const DAY_SECONDS = 24 * 60 * 60;

/**
 * @typedef {object} RefreshCall one refresh as the server saw it
 * @property {number} start when the request arrived; milliseconds since the epoch, with fractions
 * @property {number} [end] when the answer was handed to the network, or the client had gone; absent while under way
 * @property {boolean} answered whether the client was still there to be answered
 * @property {string} answer `refreshed`, or the OAuth error code
 * @property {string} refreshDigest which refresh token was presented
 *
 * @typedef {object} Stats since the start or the last {@link Provider.resetStats}
 * @property {number} refreshCalls refreshes that reached the token endpoint
 * @property {number} refreshed of these, the successful ones
 * @property {number} reuseErrors of these, `invalid_grant`: the token was used before, or its grant was revoked for that
 * @property {number} otherErrors
 * @property {number} grantsRevoked
 * @property {number} accessTokens distinct access tokens issued by refreshes
 * @property {number} liveAccessTokens of these, the ones the server still honours
 * @property {string[]} accessDigests
 * @property {RefreshCall[]} calls in the order in which they were dealt with
 *
 * @typedef {Awaited<ReturnType<typeof startProvider>>} Provider
 */

function configuration(storage, accessTokenSeconds) {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return {
    adapter: storage.adapter,
    clients: [
      {
        client_id: CLIENT_ID,
        application_type: "native",
        token_endpoint_auth_method: "none",
        grant_types: ["authorization_code", "refresh_token"],
        response_types: ["code"],
        redirect_uris: ["http://127.0.0.1/callback"],
        id_token_signed_response_alg: "ES256",
      },
    ],
    cookies: { keys: [randomBytes(32).toString("base64url")] },
    jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), alg: "ES256", use: "sig" }] },
    findAccount: (_ctx, accountId) => ({
      accountId,
      claims: async () => ({ sub: accountId }),
    }),
    rotateRefreshToken: true,
    features: {
      devInteractions: { enabled: false },
      dPoP: { enabled: false },
      pushedAuthorizationRequests: { enabled: false },
      resourceIndicators: { enabled: false },
      rpInitiatedLogout: { enabled: false },
    },
    ttl: {
      AccessToken: accessTokenSeconds,
      AuthorizationCode: 60,
      Grant: DAY_SECONDS,
      IdToken: 3600,
      RefreshToken: DAY_SECONDS,
    },
  };
}

/** What a server has counted after one refresh: the token that was given is in force. */
export const ONE_REFRESH = {
  refreshCalls: 1,
  refreshed: 1,
  reuseErrors: 0,
  otherErrors: 0,
  grantsRevoked: 0,
  accessTokens: 1,
  liveAccessTokens: 1,
};

/**
 * @param {number} [options.latencyMs] how long the answer to a refresh takes. The token is spent when the request
 *   arrives, only the answer is late: whoever is gone by then has lost it, as with a real server.
 * @param {number} [options.accessTokenSeconds] lifetime of an access token
 * @param {(call: RefreshCall) => void | Promise<void>} [options.onRefreshCall] a refresh has been dealt with; its answer
 *   is on hold, until the promise resolves if there is one
 */
export async function startProvider({ latencyMs = 0, accessTokenSeconds = 3600, onRefreshCall } = {}) {
  const { default: OidcProvider } = await loadOidcProvider();
  const storage = createStorage();
  const { server, url: issuer, close } = await serve();
  const oidc = new OidcProvider(issuer, configuration(storage, accessTokenSeconds));

  const closing = new AbortController();
  setMaxListeners(0, closing.signal);
  let calls = [];
  /** access tokens issued by refreshes, with their digests */
  let issued = new Map();
  let revoked = new Set();

  oidc.on("grant.revoked", (_ctx, grantId) => {
    revoked.add(grantId);
  });
  // Koa prints an error that nobody listens for; a client that goes away mid-answer is one.
  oidc.on("error", () => {});
  oidc.use(async (ctx, next) => {
    const call = { start: now(), answered: false, answer: "", refreshDigest: "" };
    ctx.res.once("finish", () => {
      call.answered = true;
      call.end = now();
    });
    ctx.res.once("close", () => {
      call.end ??= now();
    });
    await next();
    const params = ctx.oidc?.params;
    if (ctx.oidc?.route !== "token" || params?.grant_type !== "refresh_token") return;

    const body = ctx.body;
    call.answer = body.error ?? "refreshed";
    call.refreshDigest = digest(String(params.refresh_token));
    calls.push(call);
    if (!body.error) issued.set(body.access_token, digest(body.access_token));
    await onRefreshCall?.(call);
    if (latencyMs > 0) {
      await delay(latencyMs, undefined, { signal: closing.signal }).catch(() => {});
    }
  });
  server.on("request", oidc.callback());

  return {
    issuer,
    tokenEndpoint: `${issuer}/token`,
    clientId: CLIENT_ID,

    /** A new grant, as after a login. */
    async obtainGrant() {
      const about = { accountId: ACCOUNT_ID, scope: "openid offline_access", gty: "authorization_code" };
      const grant = new oidc.Grant({ accountId: ACCOUNT_ID, clientId: CLIENT_ID });
      grant.addOIDCScope(about.scope);
      const of = { ...about, client: await oidc.Client.find(CLIENT_ID), grantId: await grant.save() };
      const [access, refresh] = [await new oidc.AccessToken(of).save(), await new oidc.RefreshToken(of).save()];
      return { access, refresh, expires: Date.now() + accessTokenSeconds * 1000 };
    },

    /** Whether the grant behind this refresh token, used or not, is in force. */
    isGrantAlive: storage.hasGrantOf,

    /** Whether the server would accept this refresh token now. Does not spend it. */
    isRefreshTokenUnused: storage.hasUnusedRefreshToken,

    /** Whether the server honours this access token: asks its userinfo endpoint. */
    async isAccessTokenValid(access) {
      const response = await fetch(`${issuer}/me`, {
        headers: { authorization: `Bearer ${access}` },
      });
      await response.arrayBuffer();
      return response.ok;
    },

    /** @returns {Stats} a copy */
    stats() {
      const count = (answer) => calls.filter((call) => call.answer === answer).length;
      const refreshed = count("refreshed");
      const reuseErrors = count("invalid_grant");
      return {
        refreshCalls: calls.length,
        refreshed,
        reuseErrors,
        otherErrors: calls.length - refreshed - reuseErrors,
        grantsRevoked: revoked.size,
        accessTokens: issued.size,
        liveAccessTokens: [...issued.keys()].filter(storage.hasAccessToken).length,
        accessDigests: [...issued.values()],
        calls: calls.map((call) => ({ ...call })),
      };
    },

    /** Starts counting anew. */
    resetStats() {
      calls = [];
      issued = new Map();
      revoked = new Set();
    },

    /** @param {number} ms how long answers to refreshes take from now on */
    setLatency(ms) {
      latencyMs = ms;
    },

    /** Drops every connection and stops listening. */
    async close() {
      closing.abort();
      await close();
    },
  };
}
