/** A line between hosts and a server on loopback, which can be cut. */
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const LOOPBACK = "127.0.0.1";

/** One direction of a connection. What comes in goes out in its order, its end included unless the line is cut by then. */
class Pipe {
  #to;
  #line;
  #queue = [];
  #isAtIt = false;

  constructor(from, to, line) {
    this.#to = to;
    this.#line = line;
    from.on("data", (chunk) => this.#put(() => this.#send(chunk)));
    // The end of a connection that closes behind a cut never arrives. etcd drops a request whose end comes with it: then what is
    // under way would be dropped or done by chance.
    from.on("close", () => {
      if (!line.isHeld) this.#put(() => to.end());
    });
    from.on("error", () => {});
  }

  #put(step) {
    this.#queue.push(step);
    void this.flush();
  }

  async flush() {
    if (this.#isAtIt) return;
    this.#isAtIt = true;
    while (this.#queue.length > 0 && !this.#line.isHeld) {
      if (this.#line.delayMs > 0) await sleep(this.#line.delayMs);
      if (this.#line.isHeld) break;
      await this.#queue.shift()();
    }
    this.#isAtIt = false;
  }

  #send(chunk) {
    for (const part of this.#line.change(chunk)) if (this.#to.writable) this.#to.write(part);
  }
}

/** @param {number} port the server's, which may be down */
export async function startLink(port) {
  const pipes = new Set();
  const sockets = new Set();
  const line = () => ({ isHeld: false, delayMs: 0, change: (chunk) => [chunk] });
  const [up, down] = [line(), line()];
  let isBroken = false;
  const server = createServer({ allowHalfOpen: false }, (client) => {
    if (isBroken) return void client.destroy();
    const upstream = connect(port, LOOPBACK);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
    }
    const both = [new Pipe(client, upstream, up), new Pipe(upstream, client, down)];
    for (const pipe of both) pipes.add(pipe);
  }).listen(0, LOOPBACK);
  await once(server, "listening");

  return {
    port: server.address().port,
    /** To the server. */
    up,
    /** From the server. */
    down,

    /** Nothing goes through any more, and nobody is told: what is sent meanwhile arrives when it is healed. */
    cut(...directions) {
      for (const direction of directions.length > 0 ? directions : [up, down]) direction.isHeld = true;
    },

    /** Every connection is closed, and no new one comes about. What was under way is lost. */
    sever() {
      isBroken = true;
      for (const socket of sockets) socket.destroy();
      pipes.clear();
    },

    heal() {
      isBroken = false;
      for (const direction of [up, down]) Object.assign(direction, line());
      for (const pipe of pipes) void pipe.flush();
    },

    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
