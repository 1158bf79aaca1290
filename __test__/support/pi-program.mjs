/** A process with pi's file: a client of ours, or pi itself. Sends what a server answers to each request that it is told to make. */
import { piStore } from "../../examples/pi-store.mjs";
import { createOAuthClient } from "../../index.mjs";
import { createRefresh } from "./oauth/refresh.mjs";
import { AuthStorage, tokenOfPi } from "./pi.mjs";

const { path, stateDir, server, isPi } = JSON.parse(process.env.PI_PROGRAM);
const credentials = AuthStorage.create(path);
const refresh = createRefresh(server);

function bearing(token) {
  return async (url) => fetch(url, { headers: { authorization: `Bearer ${await token()}` } });
}

const store = piStore(credentials);
const ask = isPi
  ? bearing(tokenOfPi(credentials, refresh))
  : createOAuthClient({ provider: "acme", profileId: "acme", refresh, stateDir, store }).fetch;

process.on("message", async ({ url }) => {
  try {
    const response = await ask(url);
    process.send({ status: response.status, body: await response.text() });
  } catch (error) {
    process.send({ error: `${error.code}: ${error.message}` });
  }
});
process.send({ ready: true });
