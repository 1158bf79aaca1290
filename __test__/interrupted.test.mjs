/** Owners that are stopped while they ask the provider, and answers that are none. */
import { describe, expect, onTestFinished, test } from "vitest";
import { serve } from "../cli/provider.mjs";
import { withOAuthRefreshLock } from "../index.mjs";
import { askingElsewhere, startAgent } from "./support/agents.mjs";
import { listen, rejection, unwanted } from "./support/calls.mjs";
import { answer, createHost, expired, IMPATIENT, PROFILE, PROVIDER } from "./support/host.mjs";
import { createRefresh } from "./support/oauth/refresh.mjs";

const ROUNDS = 20;

const call = (host, agent, refresh, options) =>
  withOAuthRefreshLock(PROVIDER, PROFILE, refresh, host.as(agent, options));

describe("an owner that is stopped", () => {
  test("while it asks is waited for, and its answer is the one", async () => {
    const host = createHost({ main: expired(), agent: expired() });
    const [owner, asked] = await askingElsewhere({ options: host.as("main") });
    owner.pause();
    const log = listen();
    const refresh = unwanted();
    const waiting = call(host, "main", refresh);
    await log.seen({ type: "waiting" });
    const fields = answer();
    asked.answer(fields);
    owner.goOn();
    expect(await waiting).toMatchObject({ outcome: "fresh", credential: fields });
    expect(refresh).not.toHaveBeenCalled();
  });

  test(`wherever it is with its answer, saves it when it goes on, ${ROUNDS} times over`, async () => {
    const owner = await startAgent();
    for (let round = 0; round < ROUNDS; round++) {
      const stored = expired();
      const host = createHost({ main: stored, agent: stored });
      const asked = owner.refresh({ options: host.as("agent") });
      await asked.called;
      const refresh = unwanted();
      const waiting = call(host, "main", refresh);
      const fields = answer();
      asked.answer(fields);
      owner.pause();
      owner.goOn();
      expect((await waiting).credential).toMatchObject(fields);
      expect(refresh).not.toHaveBeenCalled();
      await asked.settled;
    }
  });
});

describe("an answer that is no token response", () => {
  test.each([
    ["HTML", (response) => response.writeHead(200, { "content-type": "text/html" }).end("<html>secret</html>")],
    ["a megabyte of garbage", (response) => response.writeHead(200).end("x".repeat(1 << 20))],
    ["another content type", (response) => response.writeHead(200, { "content-type": "text/plain" }).end("{}")],
    ["no access token", (response) => response.writeHead(200, { "content-type": "application/json" }).end("{}")],
  ])("(%s) is the client's error, and nothing is stored", async (_what, respond) => {
    const { url: issuer, close } = await serve((_request, response) => respond(response));
    onTestFinished(close);
    const host = createHost({ main: expired(), agent: expired() });
    const before = host.tree({ locks: false });
    const ask = createRefresh({ issuer, tokenEndpoint: `${issuer}/token`, clientId: "c" });
    const error = await rejection(call(host, "agent", ask, IMPATIENT));
    expect(error.refreshFailure).toEqual({ class: "uncertain" });
    expect(host.tree({ locks: false })).toEqual(before);
  });

  test("(a redirect) takes the refresh token to no second host", async () => {
    let reached = 0;
    const second = await serve((_request, response) => {
      reached++;
      response.end();
    });
    const location = `${second.url}/token`;
    const { url: issuer, close } = await serve((_request, response) => response.writeHead(307, { location }).end());
    onTestFinished(() => Promise.all([close(), second.close()]));
    const host = createHost({ main: expired() });
    const before = host.store("main");
    const ask = createRefresh({ issuer, tokenEndpoint: `${issuer}/token`, clientId: "c" });
    await rejection(call(host, "main", ask));
    expect(reached).toBe(0);
    expect(host.store("main")).toBe(before);
  });
});
