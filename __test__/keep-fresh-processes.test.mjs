/** Logins that are kept fresh by several processes, and by nothing that keeps one alive; and what is refused. */
import { inspect } from "node:util";
import { describe, expect, test, vi } from "vitest";
import { keepOAuthFresh } from "../index.mjs";
import { heldElsewhere, startAgent } from "./support/agents.mjs";
import { listen, refreshAs, typedRejection, unwanted } from "./support/calls.mjs";
import { createHost, expired, PROFILE, PROVIDER, usable } from "./support/host.mjs";
import { FIRST_REST, keep, profile } from "./support/keeping.mjs";
import { startProgram } from "./support/programs.mjs";
import { at, freePort, holding, http, says, startServer } from "./support/token-server.mjs";

describe("several processes side by side", () => {
  const IDS = ["acme:one", "acme:two", "acme:three", "acme:four", "acme:five"];

  test("refresh each of several logins once", async () => {
    const logins = Object.fromEntries(IDS.map((id) => [id, expired()]));
    const host = createHost({ main: JSON.stringify({ version: 1, profiles: logins }) });
    const { script, open } = holding();
    const server = await startServer(script);
    const options = {
      profiles: IDS.map((profileId) => profile(host, { profileId })),
      refresh: at(server),
      jitterMs: 0,
    };
    const others = [1, 2].map(() => startProgram("keepers", { keep: options, stays: true }));
    const onError = vi.fn();
    const { log, passExactly } = keep(host, { ...options, onError });
    // Whoever comes too late leaves it to the first.
    const logs = [log, ...others.map((other) => other.log)];
    const count = (like) => logs.reduce((sum, one) => sum + one.matching(like).length, 0);
    const late = { type: "failed", code: "file_lock_timeout" };
    const isDecided = () => count({ type: "dispatched" }) === IDS.length && count(late) === 2 * IDS.length;
    await Promise.race(logs.map((one) => one.until(isDecided)));
    await server.requested(IDS.length);
    open();
    await Promise.race(logs.map((one) => one.until(() => count({ type: "refreshed" }) === IDS.length)));
    expect(server.presented.toSorted()).toEqual(IDS.map((id) => logins[id].refresh).sort());
    expect(onError).not.toHaveBeenCalled();
    expect(count({ type: "reported" })).toBe(0);

    // And finds it done when it looks again.
    const mine = log.types({ type: "refreshed" }).length;
    passExactly(FIRST_REST);
    await log.seen({ type: "fresh" }, IDS.length - mine);
    await Promise.all(
      others.map(({ log, told }) => told({ type: "fresh" }, IDS.length - log.types({ type: "refreshed" }).length)),
    );
    expect(server.requests).toHaveLength(IDS.length);
  });
});

describe("it keeps no process alive", () => {
  /** A process that keeps this host's login fresh and does nothing else. */
  const startKeeper = (host, endpoint) =>
    startProgram("keepers", { keep: { profiles: [profile(host)], refresh: endpoint } });

  test.each([
    ["while the token is good", async () => createHost({ main: usable() }), ["fresh"]],
    ["while there is no login", async () => createHost(), []],
    [
      "while a peer holds the lock",
      async () => {
        const host = createHost({ main: expired() });
        await heldElsewhere(host);
        return host;
      },
      ["failed"],
    ],
    [
      "while the provider wants a pause",
      async () => {
        const host = createHost({ main: expired() });
        const server = await startServer(says(http(429, "", { "retry-after": "3600" })));
        await typedRejection(refreshAs(host, "main", at(server)), "provider_refused");
        return host;
      },
      ["acquired", "failed", "reported"],
    ],
    ["after a failure", async () => createHost({ main: expired() }), ["acquired", "dispatched", "failed", "reported"]],
  ])("%s", async (_, prepare, told) => {
    const host = await prepare();
    const keeper = startKeeper(host, at({ url: `http://127.0.0.1:${await freePort()}/token` }));
    expect(await keeper.exited).toEqual({ code: 0, signal: null });
    expect(keeper.log.types()).toEqual(told);
  });

  test("but for a call to the provider that is under way", async () => {
    const old = expired();
    const host = createHost({ main: old });
    const { script, open } = holding();
    const server = await startServer(script);
    const keeper = startKeeper(host, at(server));
    await Promise.race([server.requested(), keeper.exited]);
    // It would have ended by the time that another one has started.
    await startAgent();
    expect(keeper.log.types()).toEqual(["acquired", "dispatched"]);
    open();
    expect(await keeper.exited).toEqual({ code: 0, signal: null });
    expect(server.presented).toEqual([old.refresh]);
    expect((await refreshAs(host, "main", unwanted())).outcome).toBe("fresh");
  });
});

describe("an argument that makes no sense is refused at once, and nothing is done:", () => {
  const right = { provider: PROVIDER, profileId: PROFILE };
  const refresh = unwanted();
  const ofProfile = (more) => ({ profiles: [right, { ...right, ...more }], refresh });
  const options = (more) => ({ profiles: [right], refresh, ...more });
  test.each(
    [
      [undefined, "profiles"],
      [null, "options"],
      ["profiles", "options"],
      [options({ profiles: undefined }), "profiles"],
      [options({ profiles: [] }), "profiles"],
      [options({ profiles: right }), "profiles"],
      [options({ profiles: [null] }), "profile"],
      [options({ profiles: ["acme"] }), "profile"],
      [options({ refresh: undefined }), "refresh"],
      [options({ refresh: null }), "refresh"],
      [options({ refresh: "https://auth.example.test/token" }), "refresh"],
      [options({ refresh: { tokenEndpoint: "http://auth.example.test/token" } }), "tokenEndpoint"],
      [options({ refresh: { tokenEndpoint: "https://auth.example.test/token", clientid: "a" } }), "refresh"],
      [options({ jitterMs: Number.NaN }), "jitterMs"],
      [options({ jitterMs: -1 }), "jitterMs"],
      [options({ jitterMs: Number.POSITIVE_INFINITY }), "jitterMs"],
      [options({ jitterMs: "1" }), "jitterMs"],
      [options({ signal: {} }), "signal"],
      [options({ signal: new AbortController() }), "signal"],
      [options({ onError: null }), "onError"],
      [options({ onError: {} }), "onError"],
      [ofProfile({ provider: undefined }), "provider"],
      [ofProfile({ provider: " " }), "provider"],
      [ofProfile({ profileId: 1 }), "profileId"],
      [ofProfile({ refresh: null }), "refresh"],
      [ofProfile({ refresh: {} }), "refresh"],
      [ofProfile({ agentDir: "relative" }), "agentDir"],
      [ofProfile({ refreshMarginMs: -1 }), "refreshMarginMs"],
      [ofProfile({ callTimeoutMs: 120_001 }), "callTimeoutMs"],
      [ofProfile({ uncertain: "ask" }), "uncertain"],
      [ofProfile({ signal: AbortSignal.abort() }), "signal"],
      [ofProfile({ timeoutMs: 1_000 }), "timeoutMs"],
      [ofProfile({ forceRefresh: true }), "forceRefresh"],
      [ofProfile({ forceRefresh: false }), "forceRefresh"],
      [ofProfile({ serveUnexpired: true }), "serveUnexpired"],
    ].map(([given, member]) => [member, inspect(given, { breakLength: Number.POSITIVE_INFINITY, depth: 3 }), given]),
  )("%s, in %s", async (member, _, given) => {
    const log = listen();
    // At once, for what comes later nobody hears.
    const start = () => keepOAuthFresh(given);
    const error = await typedRejection((async () => start())(), "invalid_argument");
    expect(start).toThrow(error.message);
    expect(error.message).toMatch(new RegExp(`\\b${member}\\b`));
    expect(log.types()).toEqual([]);
    expect(refresh).not.toHaveBeenCalled();
  });
});
