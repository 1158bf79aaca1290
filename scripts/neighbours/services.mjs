/**
 * What Codex and Claude Code talk to, on loopback: a token endpoint whose refresh tokens can be used once (a second use revokes the
 * login), and the model's API, which takes the login's unexpired access tokens only and answers every turn with one word.
 */
import { randomUUID } from "node:crypto";
import { text } from "node:stream/consumers";
import { setTimeout as pause } from "node:timers/promises";
import { Grant, serve } from "../../cli/provider.mjs";

export const ANSWER = "Refreshed.";
const LIFE_S = 3600;
const ACCOUNT = {
  email: "someone@acme.example",
  "https://api.openai.com/auth": {
    chatgpt_account_id: "account",
    chatgpt_user_id: "user",
    user_id: "user",
    chatgpt_plan_type: "plus",
  },
};

const bearer = ({ headers }) => headers.authorization?.replace(/^Bearer /, "");
const base64 = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
/** Codex reads the expiry and the account from a JWT, and leaves its signature to the server. */
const jwt = (exp) => `${base64({ alg: "none", typ: "JWT" })}.${base64({ ...ACCOUNT, exp, jti: randomUUID() })}.c2ln`;
const now = () => Math.floor(Date.now() / 1000);

const expired = jwt(now() - 60);
/** The login that all processes begin with. */
export const login = () => ({ access: expired, idToken: jwt(now() - 60), refresh: `refresh-${randomUUID()}` });

/** The parameters of a token request: Codex sends JSON, RFC 6749 a form. */
function parameters(body, type = "") {
  return type.includes("json") ? JSON.parse(body) : Object.fromEntries(new URLSearchParams(body));
}

/** Writes events as a stream. */
function stream(response, events) {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const [type, data] of Object.entries(events))
    response.write(`event: ${type}\ndata: ${JSON.stringify({ type, ...data })}\n\n`);
  response.end();
}

/** Codex's API. */
function codexTurn(response) {
  const id = `resp_${randomUUID()}`;
  const content = [{ type: "output_text", text: ANSWER }];
  const usage = { input_tokens: 1, input_tokens_details: null, output_tokens: 1, output_tokens_details: null };
  return stream(response, {
    "response.created": { response: { id } },
    "response.output_item.done": { output_index: 0, item: { type: "message", role: "assistant", id: "msg", content } },
    "response.completed": { response: { id, usage: { ...usage, total_tokens: 2 } } },
  });
}

/** Claude Code's. */
function claudeTurn(response) {
  const usage = { input_tokens: 1, output_tokens: 1 };
  const ends = { stop_reason: null, stop_sequence: null };
  const message = { id: "msg", type: "message", role: "assistant", model: "loopback", content: [], ...ends, usage };
  return stream(response, {
    message_start: { message },
    content_block_start: { index: 0, content_block: { type: "text", text: "" } },
    content_block_delta: { index: 0, delta: { type: "text_delta", text: ANSWER } },
    content_block_stop: { index: 0 },
    message_delta: { delta: { ...ends, stop_reason: "end_turn" }, usage },
    message_stop: {},
  });
}

const TURNS = { "/v1/responses": codexTurn, "/v1/messages": claudeTurn };

/** @param {string} first the refresh token of the login @param {number} latencyMs how long the token endpoint takes */
export async function startServices(first, latencyMs) {
  const grant = new Grant((count) => ({
    access: jwt(now() + LIFE_S),
    refresh: count === 0 ? first : `refresh-${randomUUID()}`,
  }));
  const stats = { turns: 0, refused: 0, helped: 0 };
  const issued = new Set();

  function answerToken({ refresh_token: sent }) {
    grant.calls += 1;
    const [status, tokens] = grant.exchange(sent);
    if (status !== 200) return [401, { error: { code: "refresh_token_reused", message: "It has been used." } }];
    issued.add(tokens.access_token);
    return [200, { ...tokens, id_token: jwt(now() + LIFE_S) }];
  }

  const { url, close } = await serve(async (request, response) => {
    const body = await text(request);
    const { pathname } = new URL(request.url, "http://localhost");
    const reply = (status, value) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(value));
    };
    if (pathname === "/oauth/token") {
      const answer = answerToken(parameters(body, request.headers["content-type"]));
      await pause(latencyMs);
      return reply(...answer);
    }
    // What a helper for headers gave. This server speaks no MCP.
    if (pathname === "/mcp" && issued.has(bearer(request))) stats.helped += 1;
    const turn = TURNS[pathname];
    if (!turn) return reply(404, {});
    // As usual with JWTs: a revoked login loses its refresh token, and keeps its access token until that expires.
    if (!issued.has(bearer(request))) {
      stats.refused += 1;
      return reply(401, { error: { message: "unauthorized" } });
    }
    stats.turns += 1;
    return turn(response);
  });
  return { url, grant, stats, close };
}
