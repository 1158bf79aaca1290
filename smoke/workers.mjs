/**
 * A process of the smoke test whose worker threads alone load the addon. Its argument: a JSON array of options, one for each thread;
 * they run one after the other, refresh once and end. Prints the access tokens they have.
 */
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

async function refresh({ tokenEndpoint, ...options }) {
  const { withOAuthProfileLock, withOAuthRefreshLock } = await import("oauth-refresh-lock");
  await withOAuthProfileLock("smoke", "smoke:other", () => {}, options);
  const request = { tokenEndpoint, clientId: "smoke" };
  return (await withOAuthRefreshLock("smoke", "smoke:login", request, options)).credential.access;
}

async function inWorker(options) {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: options });
  const [[access], [code]] = await Promise.all([once(worker, "message"), once(worker, "exit")]);
  if (code !== 0) throw new Error(`a worker ended with ${code}`);
  return access;
}

if (isMainThread) {
  const tokens = [];
  for (const options of JSON.parse(process.argv[2])) tokens.push(await inWorker(options));
  console.log(JSON.stringify(tokens));
} else {
  parentPort.postMessage(await refresh(workerData));
}
