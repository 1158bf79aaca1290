/** Three members of etcd, of which the leader dies. */
import { afterAll, beforeAll, describe, test } from "vitest";
import { missing, startEtcdCluster } from "../../scripts/hosts/engines.mjs";
import { etcdQuestions } from "./support/engines.mjs";
import { reach } from "./support/points.mjs";
import { startProvider } from "./support/provider.mjs";
import { expectFigures } from "./support/scenario.mjs";
import { World } from "./support/world.mjs";

const why = missing("etcd");
if (why) console.warn(`\nNOT TESTED: three members of etcd: ${why}\n`);

describe.skipIf(why)("three members of etcd", () => {
  let members;
  let world;
  beforeAll(async () => {
    members = await startEtcdCluster(3);
    const endpoints = members.map(({ endpoint }) => endpoint);
    const remove = () => Promise.all(members.map((member) => member.remove()));
    const engine = { ...etcdQuestions(members[0]), remove, address: () => ({ etcd: endpoints }) };
    world = new World(engine, await startProvider(), {});
  });
  afterAll(() => world?.close());

  async function leader() {
    for (;;) {
      for (const member of members) {
        const status = await member.post("/v3/maintenance/status", {}).catch(() => undefined);
        if (status?.leader && status.leader === status.header.member_id) return member;
      }
    }
  }

  for (const point of [{ at: "claiming" }, { at: "claimed" }, { gate: "before" }, { at: "telling" }, { at: "told" }]) {
    test(`the leader is killed: ${point.at ?? "in the provider's call"}`, async () => {
      const grant = world.provider.login();
      const [one, ...others] = await world.hosts(3, grant);
      const { call, release } = await reach(point, world, grant, one);
      const waiting = await world.calls(point.at === "claiming" ? [one] : [one, ...others], 3);
      await Promise.all(waiting.map((each) => each.event("waiting")));
      const killed = await leader();
      await killed.kill();
      release();
      const answers = [await call.became, ...(await world.answers(waiting)), ...(await world.ends(others, 2))];
      await killed.start();
      const scenario = `three members, leader killed: ${point.at ?? "in the provider's call"}`;
      expectFigures({ scenario, engine: "etcd" }, grant, answers, { calls: 1, served: answers.length });
    });
  }
});
