/** A server that is no PostgreSQL, a pool that answers wrongly, and wrong arguments: no engine has to be installed. */
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { postgresCoordinator } from "../../index.mjs";
import { newKey, pool, thrownBy } from "./support/engines.mjs";

describe("a server that is none, or answers wrongly", () => {
  async function fake(onData) {
    const sockets = new Set();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("data", (data) => onData(socket, data));
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    return `postgres://app:sesame@127.0.0.1:${server.address().port}/db`;
  }

  test.each([
    ["never answers", () => {}],
    ["answers with HTTP", (socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")],
    ["answers with nonsense", (socket) => socket.write(Buffer.alloc(64, 0x5a))],
    ["hangs up", (socket) => socket.destroy()],
  ])("%s: told of in time, without the password", async (_, onData) => {
    const made = pool(await fake(onData));
    const error = await thrownBy(postgresCoordinator(made, { timeoutMs: 400 }).compareAndSwap(newKey(), null, "{}"));
    expect(error.message).toMatch("The PostgreSQL coordinator could not write");
    expect(JSON.stringify([error.message, error.stack, String(error.cause)])).not.toMatch("sesame");
  });

  /** A pool whose one client answers as it is told. */
  const answering = (answer) => {
    const released = [];
    const client = { query: answer, release: (error) => released.push(error) };
    return { query: answer, connect: async () => client, released };
  };

  test.each([
    ["nothing", async () => undefined],
    ["no rows", async () => ({})],
    ["a row of others", async () => ({ rows: [{ id: 1 }] })],
    ["a revision that is a number", async () => ({ rows: [{ rev: 1, value: "", age: "1" }] })],
    ["an age that is none", async () => ({ rows: [{ rev: "1", value: "", age: "soon" }] })],
  ])("a pool that resolves with %s is not believed", async (_, answer) => {
    const made = answering(answer);
    const error = await thrownBy(postgresCoordinator(made).load(newKey()));
    expect(error.message).toMatch(/not that of a table/);
    expect(made.released).toHaveLength(1);
  });

  test("an answer that comes after the limit is not waited for, and its connection goes", async () => {
    const made = answering(() => sleep(400, { rows: [{ rev: "7" }] }));
    const error = await thrownBy(postgresCoordinator(made, { timeoutMs: 100 }).compareAndSwap(newKey(), null, "{}"));
    expect(error.message).toMatch("whether it was written is unknown");
    expect(made.released).toEqual([expect.any(Error)]);
    await sleep(400);
    expect(made.released).toHaveLength(1);
  });

  test("what the server undid is tried again", async () => {
    let calls = 0;
    const made = answering(async () => {
      if (calls++ < 2) throw Object.assign(new Error("could not serialize"), { code: "40001", severity: "ERROR" });
      return { rows: [{ rev: "7" }] };
    });
    expect(await postgresCoordinator(made).compareAndSwap(newKey(), null, "{}")).toBe("7");
    expect(made.released).toEqual([undefined, undefined, undefined]);
  });
});

test.each([
  [undefined],
  ["postgres://127.0.0.1"],
  [{ query() {} }],
  [{ query() {}, connect() {} }, { table: 'a"; DROP TABLE b; --' }],
  [{ query() {}, connect() {} }, { table: "a.b.c" }],
  [{ query() {}, connect() {} }, { table: "" }],
  [{ query() {}, connect() {} }, { table: "a".repeat(64) }],
  [{ query() {}, connect() {} }, { timeoutMs: 0 }],
  [{ query() {}, connect() {} }, { tables: "a" }],
])("wrong arguments are refused", (...given) => {
  expect(() => postgresCoordinator(...given)).toThrow(expect.objectContaining({ code: "invalid_argument" }));
});
