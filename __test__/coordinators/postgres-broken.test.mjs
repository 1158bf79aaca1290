import { EventEmitter } from "node:events";
import { expect, test } from "vitest";
import postgres from "../../lib/coordinators/postgres.js";

test("what a broken connection says while the pool closes it ends no process", async () => {
  const client = new EventEmitter();
  const released = [];
  client.query = async () => {
    throw new Error("Connection terminated unexpectedly");
  };
  client.release = (broken) => released.push(broken?.message);
  const coordinator = postgres.postgresCoordinator({ query() {}, connect: async () => client });
  await expect(coordinator.load("row")).rejects.toThrow(/could not read/);
  expect(released).toEqual(["Connection terminated unexpectedly"]);
  // Without a listener this throws, here as in the program.
  client.emit("error", new Error("terminating connection due to unexpected postmaster exit"));
});

test("one that is whole goes back to the pool as it came", async () => {
  const client = new EventEmitter();
  client.query = async () => ({ rows: [] });
  client.release = () => {};
  const coordinator = postgres.postgresCoordinator({ query() {}, connect: async () => client });
  expect(await coordinator.load("row")).toBeNull();
  expect(client.listenerCount("error")).toBe(0);
});

test("a connection that breaks as the pool gives it ends no process", async () => {
  const client = new EventEmitter();
  client.query = async () => {
    throw new Error("Connection terminated unexpectedly");
  };
  client.release = () => {};
  const connect = (give) => {
    give(undefined, client);
    // In the same packet as the word that it is ready.
    client.emit("error", new Error("terminating connection due to unexpected postmaster exit"));
  };
  const coordinator = postgres.postgresCoordinator({ query() {}, connect });
  await expect(coordinator.load("row")).rejects.toThrow(/could not read/);
});
