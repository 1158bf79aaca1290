/**
 * Gateways that fail for a while, fleets that meet them, and a provider that rotates at each use and revokes a login whose
 * spent token comes back.
 */
import { createServer } from "node:http";
import { beforeAll, describe, expect, test } from "vitest";
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
  let [calls, failed, until, current, revoked] = [0, 0, undefined, undefined, false];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (part) => {
      body += part;
    });
    request.on("end", () => {
      calls += 1;
      until ??= performance.now() + (seconds * 1000) / SCALE;
      if (performance.now() < until) {
        failed += 1;
        if (weather === "reset") return request.socket.destroy();
        response.writeHead(weather, { "content-type": "text/html" });
        return response.end("<html>upstream</html>");
      }
      const presented = new URLSearchParams(body).get("refresh_token");
      current ??= presented;
      revoked ||= presented !== current;
      response.writeHead(revoked ? 400 : 200, { "content-type": "application/json" });
      if (revoked) return response.end(JSON.stringify({ error: "invalid_grant" }));
      current = `refresh-${calls}`;
      return response.end(
        JSON.stringify({ access_token: `access-${calls}`, refresh_token: current, expires_in: 3600 }),
      );
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/token`,
    stats: () => ({ calls, failed, revoked }),
    close() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
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
    const { failed, revoked } = gateway.stats();
    expect(revoked).toBe(false);
    expect(failed).toBeGreaterThan(0);
    expect(failed).toBeLessThanOrEqual(allowed(seconds));
    const after = await ask(fleet[0], "main");
    expect(after.error).toBeUndefined();
    expect(gateway.stats().calls).toBe(failed + 1);
    expect(after.result.credential.access).toBe(`access-${failed + 1}`);
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
