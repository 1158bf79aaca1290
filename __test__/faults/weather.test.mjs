/**
 * Gateways that fail for a while, fleets that meet them, and a provider that rotates at each use and revokes a login whose
 * spent token comes back.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { Grant, startProvider } from "../../cli/provider.mjs";
import { AGENTS, Host, PROFILE, PROVIDER } from "./support/host.mjs";
import { faultyPackage } from "./support/package.mjs";
import { AgentProcess } from "./support/processes.mjs";

/** How fast the boot's clock runs in these processes; the back-off is told by it. */
const SCALE = 20;
const STATUSES = [500, 502, 504, 507, 520, 521, 522, 523, 524, 525, 526, 529, 530];

let module;
beforeAll(() => {
  module = faultyPackage();
});

/** A provider behind a gateway that answers like this for so many seconds of the fleet's clock, from the first call on. */
async function startGateway(weather, seconds) {
  const grant = new Grant();
  let [failed, until] = [0, undefined];
  const { url, close } = await startProvider(async (sent, request, response) => {
    grant.calls += 1;
    until ??= performance.now() + (seconds * 1000) / SCALE;
    if (performance.now() >= until) return grant.exchange(sent.get("refresh_token"));
    failed += 1;
    if (weather === "reset") request.socket.destroy();
    else response.writeHead(weather, { "content-type": "text/html" }).end("<html>upstream</html>");
    return undefined;
  });
  return { url, close, grant, failed: () => failed };
}

/** How many calls the back-off allows in so many seconds: at 0 s, and 1, 2, 4, … s after the one before. */
function allowed(seconds) {
  let [count, at] = [0, 0];
  for (; at < seconds; at += Math.min(2 ** (count - 1), 60)) count += 1;
  return count;
}

async function weatherTest({ weather, seconds, processes, callers, how }) {
  const gateway = await startGateway(weather, seconds);
  const host = new Host({ access: "access-0", refresh: "refresh-0" });
  const clock = { env: { OAUTH_REFRESH_LOCK_CLOCK_SCALE: String(SCALE) } };
  const fleet = Array.from({ length: processes }, () => new AgentProcess({ package: module, clock }));
  try {
    const provider = { tokenEndpoint: gateway.url, clientId: "c" };
    const way = how === "endpoint" ? { request: provider } : { server: provider };
    const ask = (agent, name) =>
      agent.call({ provider: PROVIDER, profileId: PROFILE, options: host.options(name), ...way });
    const asked = fleet.flatMap((agent, number) =>
      Array.from({ length: callers }, (_, at) => ask(agent, AGENTS[(number + at) % AGENTS.length])),
    );
    const settled = await Promise.all(asked);
    const failures = settled.filter(({ error }) => error);
    // The provider is asked again for whoever has the patience.
    expect(failures).toEqual([]);
    const { grant } = gateway;
    const failed = gateway.failed();
    expect(grant.isRevoked).toBe(false);
    expect(failed).toBeGreaterThan(0);
    expect(failed).toBeLessThanOrEqual(allowed(seconds));
    const after = await ask(fleet[0], "main");
    expect(after.error).toBeUndefined();
    expect(grant.calls).toBe(failed + 1);
    expect(after.result.credential.access).toBe(grant.newest.access);
  } finally {
    await Promise.all(fleet.map((agent) => agent.kill()));
    await gateway.close();
    host.remove();
  }
}

describe.each(["endpoint", "function"])("a login lives on, asked for by a %s, when a gateway", (how) => {
  test.each(STATUSES.concat("reset"))("answers %s for a second, to five callers", (weather) =>
    weatherTest({ weather, seconds: 1, processes: 1, callers: 5, how }),
  );

  test.each([
    { weather: 502, seconds: 10, processes: 1, callers: 20 },
    { weather: "reset", seconds: 10, processes: 1, callers: 20 },
    { weather: 502, seconds: 10, processes: 12, callers: 1 },
    { weather: 504, seconds: 60, processes: 1, callers: 20 },
    { weather: "reset", seconds: 60, processes: 12, callers: 1 },
  ])("$weather for $seconds s, $processes processes with $callers callers", (fleet) => weatherTest({ ...fleet, how }));
});
