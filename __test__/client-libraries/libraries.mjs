/** The usual clients, each called as its README says. What of a failure a library hides stands beside it. */
import { PublicClientApplication } from "@azure/msal-node";
import { refreshAuthorization as refreshByMcp2 } from "@modelcontextprotocol/client";
import { refreshAuthorization as refreshByMcp1 } from "@modelcontextprotocol/sdk/client/auth.js";
import { OAuth2Client as ArcticClient } from "arctic";
import axios from "axios";
import { OAuth2Client as GoogleClient } from "google-auth-library";
import got from "got";
import ky from "ky";
import nodeFetch from "node-fetch";
import * as oauth from "oauth4webapi";
import * as openid from "openid-client";
import { custom, Issuer } from "openid-client-5";
import { AuthorizationCode } from "simple-oauth2";
import superagent from "superagent";
import * as undici from "undici";

const CLIENT = { client_id: "client" };
const form = (refresh) => ({ grant_type: "refresh_token", refresh_token: refresh, ...CLIENT });
const post = (refresh) => ({ method: "POST", body: new URLSearchParams(form(refresh)) });
/** The caller's signal, for a library that has no limit of its own. */
const within = (signal, timeoutMs) => AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
const serverAt = (url) => ({ issuer: new URL(url).origin, token_endpoint: url });

const mcp =
  (refreshAuthorization) =>
  ({ url, timeoutMs, refresh, signal }) => {
    const server = serverAt(url);
    return refreshAuthorization(server.issuer, {
      metadata: { ...server, authorization_endpoint: server.issuer, response_types_supported: ["code"] },
      clientInformation: CLIENT,
      refreshToken: refresh,
      fetchFn: (input, init) => fetch(input, { ...init, signal: within(signal, timeoutMs) }),
    });
  };

/**
 * @typedef {object} Library
 * @property {(how: { url: string, timeoutMs: number, proxy?: string, refresh: string, signal: AbortSignal }) => Promise<any>} ask
 * @property {boolean} [usesGlobalTimeout] it takes no limit: Node's own for `fetch` applies
 * @property {boolean} [keepsRefreshToken] it gives back the refresh token that it had, or keeps the new one to itself
 * @property {false} [keepsRetryAfter] it keeps no header
 * @property {boolean} [isProxied]
 * @property {string[]} [hides] what it keeps too little of
 */

/** @type {Record<string, Library>} */
export const LIBRARIES = {
  "openid-client": {
    ask({ url, timeoutMs, refresh }) {
      const config = new openid.Configuration(serverAt(url), "client", undefined, openid.None());
      openid.allowInsecureRequests(config);
      config.timeout = timeoutMs / 1000;
      return openid.refreshTokenGrant(config, refresh);
    },
  },
  "openid-client 5": {
    ask({ url, timeoutMs, refresh }) {
      const client = new new Issuer(serverAt(url)).Client({ ...CLIENT, token_endpoint_auth_method: "none" });
      client[custom.http_options] = () => ({ timeout: timeoutMs });
      return client.refresh(refresh);
    },
  },
  oauth4webapi: {
    async ask({ url, timeoutMs, refresh, signal }) {
      const options = { [oauth.allowInsecureRequests]: true, signal: within(signal, timeoutMs) };
      const server = serverAt(url);
      const response = await oauth.refreshTokenGrantRequest(server, CLIENT, oauth.None(), refresh, options);
      return oauth.processRefreshTokenResponse(server, CLIENT, response);
    },
  },
  "simple-oauth2": {
    ask({ url, timeoutMs, refresh }) {
      const { origin, pathname } = new URL(url);
      const client = new AuthorizationCode({
        client: { id: "client", secret: "secret" },
        auth: { tokenHost: origin, tokenPath: pathname },
        http: { timeout: timeoutMs },
      });
      return client.createToken({ refresh_token: refresh }).refresh();
    },
  },
  "MCP SDK 1": { keepsRetryAfter: false, ask: mcp(refreshByMcp1) },
  "MCP SDK 2": { keepsRetryAfter: false, ask: mcp(refreshByMcp2) },
  "google-auth-library": {
    keepsRefreshToken: true,
    ask({ url, timeoutMs, refresh }) {
      const client = new GoogleClient({
        clientId: "client",
        clientSecret: "secret",
        endpoints: { oauth2TokenUrl: url },
        // It asks up to four times by itself, with the same refresh token; one of us is enough.
        transporterOptions: { timeout: timeoutMs, retryConfig: { retry: 0, noResponseRetries: 0 } },
      });
      client.setCredentials({ refresh_token: refresh });
      return client.refreshAccessToken();
    },
  },
  "msal-node": {
    usesGlobalTimeout: true,
    keepsRefreshToken: true,
    // Of an answer that is no JSON it keeps no status, and one without an `error` it takes for tokens. Of what went wrong with a
    // connection it keeps no more than that something did.
    hides: [
      ...["429 with Retry-After", "503 with Retry-After", "a refused connection", "a name that does not exist"],
      "a certificate that nobody vouches for",
    ],
    ask({ url, refresh }) {
      const login = "https://login.acme.test";
      const [authorization_endpoint, jwks_uri] = [`${login}/authorize`, `${login}/keys`];
      const metadata = { authorization_endpoint, token_endpoint: url, issuer: `${login}/`, jwks_uri };
      const client = new PublicClientApplication({
        auth: {
          clientId: "client",
          authority: `${login}/tenant`,
          knownAuthorities: ["login.acme.test"],
          authorityMetadata: JSON.stringify(metadata),
        },
      });
      return client.acquireTokenByRefreshToken({ refreshToken: refresh, scopes: ["s"] });
    },
  },
  arctic: {
    usesGlobalTimeout: true,
    keepsRetryAfter: false,
    ask: ({ url, refresh }) => new ArcticClient("client", null, null).refreshAccessToken(url, refresh, []),
  },
  "Node's own fetch": {
    ask: ({ url, timeoutMs, refresh, signal }) => fetch(url, { ...post(refresh), signal: within(signal, timeoutMs) }),
  },
  "node-fetch": {
    ask: ({ url, timeoutMs, refresh, signal }) =>
      nodeFetch(url, { ...post(refresh), signal: within(signal, timeoutMs) }),
  },
  "undici's fetch": {
    ask: ({ url, timeoutMs, refresh, signal }) =>
      undici.fetch(url, { ...post(refresh), signal, dispatcher: new undici.Agent({ headersTimeout: timeoutMs }) }),
  },
  "undici's request": {
    ask: ({ url, timeoutMs, refresh, signal }) =>
      undici.request(url, {
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: `${new URLSearchParams(form(refresh))}`,
        headersTimeout: timeoutMs,
        signal,
      }),
  },
  "undici's ProxyAgent": {
    isProxied: true,
    ask({ url, timeoutMs, proxy, refresh, signal }) {
      const dispatcher = new undici.ProxyAgent({ uri: proxy, headersTimeout: timeoutMs });
      return undici.fetch(url, { ...post(refresh), dispatcher, signal });
    },
  },
  axios: {
    ask: ({ url, timeoutMs, refresh, signal }) => axios.post(url, post(refresh).body, { signal, timeout: timeoutMs }),
  },
  got: {
    ask: ({ url, timeoutMs, refresh, signal }) =>
      got.post(url, { form: form(refresh), responseType: "json", signal, timeout: { request: timeoutMs } }),
  },
  ky: {
    ask: ({ url, timeoutMs, refresh, signal }) =>
      ky.post(url, { body: post(refresh).body, signal, timeout: timeoutMs }),
  },
  superagent: {
    ask: ({ url, timeoutMs, refresh }) =>
      superagent.post(url).type("form").timeout({ response: timeoutMs }).send(form(refresh)),
  },
};
