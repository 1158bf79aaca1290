/** The way back from a coordinator, as docs/many-hosts.md has it. */
import { withOAuthRefreshLock } from "oauth-refresh-lock";
import { expect, test } from "vitest";
import { startEtcdStandIn } from "../support/etcd-stand-in.mjs";
import { createHost, expired, HOUR, PROFILE, PROVIDER } from "../support/host.mjs";

test("a host that is behind goes on alone, and spends no token twice", async () => {
  const { url: coordinator } = await startEtcdStandIn();
  const [one, other] = [createHost(), createHost()];
  for (const host of [one, other]) host.seed("main", expired({ refresh: "0" }));
  const sent = [];
  const refresh = ({ refresh }) => {
    sent.push(refresh);
    return { access: `a${sent.length}`, refresh: `${sent.length}`, expires: Date.now() + HOUR };
  };
  const forced = async (host, how) => {
    const options = host.as("main", { forceRefresh: true, ...how });
    return (await withOAuthRefreshLock(PROVIDER, PROFILE, refresh, options)).outcome;
  };
  for (let rotations = 0; rotations < 2; rotations++) await forced(one, { coordinator });
  expect(await forced(other, { coordinator })).toBe("adopted");
  await expect(forced(other)).rejects.toMatchObject({ code: "coordinator_unavailable" });
  expect(await forced(other, { coordinatorDown: "alone" })).toBe("refreshed");
  expect(await forced(other)).toBe("refreshed");
  expect(sent).toEqual(["0", "1", "2", "3"]);
});
