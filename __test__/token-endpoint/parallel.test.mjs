/** `maxParallel`: at most so many logins of one client are refreshed at a time, by all processes together. */
import { basename } from "node:path";
import { describe, expect, test } from "vitest";
import {
  refreshOAuthToken,
  resolveOAuthRefreshLockPath,
  withOAuthProfileLock,
  withOAuthRefreshLock,
} from "../../index.mjs";
import { startAgent } from "../support/agents.mjs";
import { listen, refreshAs, stopClock, typedRejection } from "../support/calls.mjs";
import { createHost, expired, PROVIDER } from "../support/host.mjs";
import { token } from "../support/secrets.mjs";
import { at, gives, holding, startServer } from "../support/token-server.mjs";

const PLACES = 3;
const PROFILES = 30;
/** This process, and two others. */
const OTHERS = 2;

/** Which place a profile has: told by the name of its lock. */
const placeOf = (profileId) =>
  Number.parseInt(basename(resolveOAuthRefreshLockPath(PROVIDER, profileId)).slice("sha256-".length).slice(0, 8), 16) %
  PLACES;

/** Ids of profiles, so many of each place. */
function profilesOf(each) {
  const found = Array.from({ length: PLACES }, () => []);
  for (let number = 0; found.some((ids) => ids.length < each); number++) {
    const id = `acme:${number}`;
    const ids = found[placeOf(id)];
    if (ids.length < each) ids.push(id);
  }
  return found;
}

/** A host whose main agent has these logins, all expired. */
function hostOf(ids) {
  const logins = Object.fromEntries(ids.map((id) => [id, expired()]));
  const host = createHost({ main: JSON.stringify({ version: 1, profiles: logins }) });
  return {
    host,
    logins,
    stored: () => JSON.parse(host.store("main")).profiles,
    ask: (id, endpoint, options) => withOAuthRefreshLock(PROVIDER, id, endpoint, host.as("main", options)),
    expectFree: async (id) =>
      expect(await withOAuthProfileLock(PROVIDER, id, () => "free", { stateDir: host.stateDir })).toBe("free"),
  };
}

const limited = (server, request) => at(server, { maxParallel: PLACES, ...request });

describe(`${PROFILES} logins of one client, and ${PLACES} places,`, () => {
  test("are refreshed once each, never more than three at a time, by this process and others", async () => {
    const ids = profilesOf(PROFILES / PLACES).flat();
    const { host, logins, stored, ask } = hostOf(ids);
    const open = [];
    let most = 0;
    let isHolding = true;
    /** Answers three that are open, as soon as there are three. */
    const serve = () => {
      if (isHolding || open.length < PLACES) return;
      for (const answer of open.splice(0)) answer();
    };
    const server = await startServer((request, socket) => {
      open.push(() => gives()(request, socket));
      most = Math.max(most, open.length);
      serve();
    });
    const log = listen();
    const agents = await Promise.all(Array.from({ length: OTHERS }, () => startAgent()));
    const endpoint = limited(server);
    const elsewhere = agents.flatMap((agent) =>
      ids.map((profileId) => agent.refresh({ profileId, options: host.as("main"), endpoint })),
    );
    const here = ids.map((id) => ask(id, endpoint));

    // Everyone either asks the server or waits: for the login's lock, or for a place.
    const logs = [log, ...agents.map((agent) => agent.log)];
    const count = (type) => logs.reduce((sum, one) => sum + one.types({ type }).length, 0);
    const everyone = PROFILES * (1 + OTHERS);
    const isSettled = () => count("dispatched") + count("waiting") >= everyone;
    await Promise.race(logs.map((one) => one.until(isSettled)));
    await server.requested(PLACES);
    expect([count("dispatched"), count("waiting"), server.requests.length]).toEqual([
      PLACES,
      everyone - PLACES,
      PLACES,
    ]);

    isHolding = false;
    serve();
    const results = [
      ...(await Promise.all(here)),
      ...(await Promise.all(elsewhere.map(({ settled }) => settled))).flat().map(({ result }) => result),
    ];
    expect(most).toBe(PLACES);
    expect(results.filter(({ outcome }) => outcome === "refreshed")).toHaveLength(PROFILES);
    expect(server.presented.toSorted()).toEqual(
      Object.values(logins)
        .map(({ refresh }) => refresh)
        .sort(),
    );
    const accesses = Object.values(stored()).map(({ access }) => access);
    expect(new Set(results.map(({ credential }) => credential.access))).toEqual(new Set(accesses));
    expect(new Set(accesses).size).toBe(PROFILES);
  });
});

/** A login that is being refreshed, in this process, and another one that has the same place. */
async function placeTaken() {
  const [[first, second]] = profilesOf(2);
  const setting = hostOf([first, second]);
  const { script, open } = holding();
  const server = await startServer(script);
  const log = listen();
  const underWay = setting.ask(first, limited(server));
  await server.requested();
  log.forget();
  return { ...setting, server, log, open, underWay, first, second };
}

describe("of a login that has another one's place", () => {
  test("the request is sent when the other one is answered", async () => {
    const { server, log, ask, open, underWay, second, logins } = await placeTaken();
    const next = ask(second, limited(server));
    await log.seen({ type: "waiting", profileId: second });
    expect(server.requests).toHaveLength(1);
    open();
    expect([(await underWay).outcome, (await next).outcome]).toEqual(["refreshed", "refreshed"]);
    expect(server.presented).toEqual(Object.values(logins).map(({ refresh }) => refresh));
  });

  test.each([
    ["of another client", { clientId: "other" }],
    ["without a limit", { maxParallel: undefined }],
  ])("a request %s is sent at once", async (_, request) => {
    const { server, log, ask, open, underWay, second } = await placeTaken();
    const next = ask(second, limited(server, request));
    await server.requested(2);
    open();
    expect([(await underWay).outcome, (await next).outcome]).toEqual(["refreshed", "refreshed"]);
    expect(log.types({ type: "waiting" })).toEqual([]);
  });

  test("the caller needs no place to be served what a peer has got meanwhile", async () => {
    const { server, log, host, ask, open, underWay, second, stored } = await placeTaken();
    const waiting = ask(second, limited(server));
    await log.seen({ type: "waiting", profileId: second });
    // A login, by the user.
    const fresh = expired({ expires: Date.now() + 3_600_000 });
    host.seed("main", JSON.stringify({ version: 1, profiles: { ...stored(), [second]: fresh } }));
    expect((await ask(second, limited(server))).credential).toEqual(fresh);
    open();
    expect((await waiting).credential).toEqual(fresh);
    await underWay;
    expect(server.requests).toHaveLength(1);
  });

  test.each([
    ["runs out of patience", "file_lock_timeout", (pass) => pass(1_000)],
    ["leaves", "caller_aborted", (_, controller) => controller.abort()],
  ])("the caller who %s while it waits leaves no lock behind", async (_, code, end) => {
    const { server, log, ask, open, underWay, second, expectFree } = await placeTaken();
    const pass = stopClock();
    const controller = new AbortController();
    const next = ask(second, limited(server), { timeoutMs: 1_000, signal: controller.signal });
    await log.seen({ type: "waiting", profileId: second });
    end(pass, controller);
    await typedRejection(next, code);
    await expectFree(second);
    expect(server.requests).toHaveLength(1);
    // Neither the login's lock nor the place.
    open();
    await underWay;
    expect((await ask(second, limited(server))).outcome).toBe("refreshed");
  });

  test("a process that is killed frees its place", async () => {
    const [[first, second]] = profilesOf(2);
    const { host, logins, ask } = hostOf([first, second]);
    const { script, open } = holding();
    const server = await startServer(script);
    const agent = await startAgent();
    agent.refresh({ profileId: first, options: host.as("main"), endpoint: limited(server) });
    await server.requested();
    const log = listen();
    const next = ask(second, limited(server));
    await log.seen({ type: "waiting" });
    expect(server.requests).toHaveLength(1);
    await agent.kill();
    await server.requested(2);
    open();
    expect((await next).outcome).toBe("refreshed");
    expect((await ask(first, limited(server))).outcome).toBe("refreshed");
    const [of_first, of_second] = [logins[first].refresh, logins[second].refresh];
    expect(server.presented).toEqual([of_first, of_second, of_first]);
  });
});

describe("a limit that is none is refused, and nothing is done:", () => {
  test.each([0, -1, 1.5, 1001, Number.NaN, Number.POSITIVE_INFINITY, "3", null, 3n])("%s", async (maxParallel) => {
    const host = createHost({ main: expired() });
    const before = host.tree();
    const server = await startServer();
    const request = at(server, { maxParallel });
    const says = "maxParallel must be a whole number from 1 to 1000";
    const locked = await typedRejection(refreshAs(host, "main", request), "invalid_argument");
    expect(locked.message).toBe(`refresh.${says}`);
    const alone = refreshOAuthToken({ ...request, refreshToken: token("refresh") });
    expect((await typedRejection(alone, "invalid_argument")).message).toBe(`request.${says}`);
    expect(server.connections).toBe(0);
    expect(host.tree()).toEqual(before);
  });

  test.each([1, 1000])("but %i is one", async (maxParallel) => {
    const host = createHost({ main: expired() });
    const server = await startServer();
    expect((await refreshAs(host, "main", at(server, { maxParallel }))).outcome).toBe("refreshed");
  });
});
