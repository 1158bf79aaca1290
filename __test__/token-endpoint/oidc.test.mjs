/** The whole call in Rust, against a real OAuth server with single-use refresh tokens. */
import { expect, onTestFinished, test } from "vitest";
import { startAgent } from "../support/agents.mjs";
import { deferred } from "../support/events.mjs";
import { createHost, expired, STORE_FILE, storeText } from "../support/host.mjs";
import { ONE_REFRESH, startProvider } from "../support/oauth/provider.mjs";

const PROCESSES = 6;
const CALLERS = 8;
const ROUNDS = 5;
const NAMES = ["main", ...Array.from({ length: PROCESSES - 1 }, (_, number) => `agent-${number + 1}`)];

const claimsOf = (idToken) => JSON.parse(Buffer.from(idToken.split(".")[1], "base64url").toString());

test(`one expired login costs one call, to ${PROCESSES} processes of ${CALLERS} callers, ${ROUNDS} times over`, async () => {
  let isHeld;
  const server = await startProvider({ onRefreshCall: () => isHeld.promise });
  onTestFinished(() => server.close());
  const host = createHost();
  const fleet = await Promise.all(NAMES.map(() => startAgent()));
  const { tokenEndpoint, clientId } = server;

  for (let round = 0; round < ROUNDS; round++) {
    const { access, refresh } = await server.obtainGrant();
    const old = expired({ access, refresh, displayName: "Owner" });
    for (const name of NAMES) host.seed(name, old);
    server.resetStats();
    isHeld = deferred();
    for (const { log } of fleet) log.forget();
    const calls = fleet.map((agent, at) =>
      agent.refresh({
        options: host.as(NAMES[at]),
        callers: CALLERS,
        endpoint: { tokenEndpoint, clientId, identityClaims: { accountId: ["sub"] } },
        barrier: true,
      }),
    );
    await Promise.all(calls.map(({ ready }) => ready));
    for (const call of calls) call.go();
    // The answer comes once one process has asked and every caller of all others waits, in its process or for the lock.
    const isThere = (log) => log.types().includes("dispatched") || log.types({ type: "waiting" }).length === CALLERS;
    await Promise.all(fleet.map(({ log }) => log.until(() => isThere(log))));
    isHeld.resolve();
    const outcomes = (await Promise.all(calls.map(({ settled }) => settled))).flat();

    expect(server.stats()).toMatchObject(ONE_REFRESH);
    expect(outcomes).toHaveLength(PROCESSES * CALLERS);
    expect(outcomes.filter(({ error }) => error)).toEqual([]);
    const [{ credential }, ...others] = outcomes
      .map(({ result }) => result)
      .filter(({ outcome }) => outcome === "refreshed");
    expect(others).toEqual([]);
    expect(new Set(outcomes.map(({ result }) => result.credential.access))).toEqual(new Set([credential.access]));
    expect(credential.access).not.toBe(access);
    expect(server.isRefreshTokenUnused(credential.refresh)).toBe(true);
    expect(await server.isAccessTokenValid(credential.access)).toBe(true);

    // Who this is: the credential did not say, and the id_token does.
    const { iss, sub } = claimsOf(credential.idToken);
    expect(credential).toMatchObject({ issuer: iss, subject: sub, accountId: sub, displayName: "Owner" });
    expect([iss, sub]).toEqual([server.issuer, "owner"]);
    for (const name of NAMES) expect(host.store(name), `the store of ${name}`).toBe(storeText(credential));
    const stores = Object.keys(host.tree({ locks: false })).filter((path) => path.endsWith(STORE_FILE));
    expect(stores).toHaveLength(NAMES.length);
  }
});
