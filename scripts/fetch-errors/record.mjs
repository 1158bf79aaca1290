// Records what the `fetch` of Deno and of Bun throws, for the contract tests: their programs are 100 MB each, and for one
// platform, so no dependency of ours. How: `npx --yes deno` and `npx --yes bun` fetch them, or name them:
//
//     node scripts/fetch-errors/record.mjs deno=<path> bun=<path>
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { generate } from "selfsigned";

const here = import.meta.dirname;
const program = join(here, "in-runtime.mjs");
const RUNTIMES = {
  deno: { command: "deno", args: ["run", "--quiet", "--no-config", "--allow-net", program] },
  bun: { command: "bun", args: [program] },
};

const named = Object.fromEntries(process.argv.slice(2).map((argument) => argument.split("=")));

async function listening(server) {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server.address().port;
}

/** A server that does this once a request has come. */
async function serving(answer) {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => answer(socket));
  });
  server.unref();
  return `http://127.0.0.1:${await listening(server)}/token`;
}

async function closedPort() {
  const server = createServer();
  const port = await listening(server);
  server.close();
  await once(server, "close");
  return port;
}

async function untrusted() {
  const { cert, private: key } = await generate([{ name: "commonName", value: "localhost" }], { algorithm: "sha256" });
  const server = createTlsServer({ cert, key });
  server.on("tlsClientError", () => {});
  server.unref();
  return `https://localhost:${await listening(server)}/token`;
}

const cutOff = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
const cases = {
  "a refused connection": `http://127.0.0.1:${await closedPort()}/token`,
  "a name that does not exist": "https://login.invalid/token",
  "a certificate that nobody vouches for": await untrusted(),
  "a reset after the request was read": await serving((socket) => socket.resetAndDestroy()),
  "an end after the request was read": await serving((socket) => socket.end()),
  "an answer that is cut off": await serving((socket) => socket.end(cutOff)),
  "no answer in time": await serving(() => {}),
};

async function errorsOf({ command, args }) {
  const child = spawn(command, [...args, JSON.stringify(cases)], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.on("data", (chunk) => {
    text += chunk;
  });
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`${command} ended with ${code}`);
  return JSON.parse(text.replaceAll(/(127\.0\.0\.1|localhost):\d+/g, "$1:49152"));
}

const recorded = {};
for (const [name, runtime] of Object.entries(RUNTIMES)) {
  const command = named[name] ?? runtime.command;
  const version = execFileSync(command, ["--version"], { encoding: "utf8" }).match(/\d+\.\d+\.\d+/)[0];
  recorded[name] = { version, errors: await errorsOf({ ...runtime, command }) };
}
const path = join(here, "..", "..", "__test__", "vectors", "fetch-errors.json");
// One error a line, to be read beside the others.
const text = JSON.stringify(recorded, (_, value) => (value?.class ? `\0${JSON.stringify(value)}\0` : value), 2);
writeFileSync(path, `${text.replaceAll(/"\\u0000(.*)\\u0000"/g, (_, line) => JSON.parse(`"${line}"`))}\n`);
console.log(`written: ${path}`);
process.exit();
