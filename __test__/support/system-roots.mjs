/**
 * Asks a token endpoint in a worker thread whose environment names no root, while that of its process does: a library that
 * reads the process's own environment, as OpenSSL does, finds the "system's" roots there. Tells what comes of it.
 */
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { refreshOAuthToken } from "../../index.mjs";

if (isMainThread) {
  const { request, env, execArgv } = JSON.parse(process.argv[2]);
  const { SSL_CERT_FILE: _, SSL_CERT_DIR: __, ...rest } = process.env;
  const worker = new Worker(new URL(import.meta.url), { workerData: { request, env, execArgv }, env: rest });
  worker.once("message", (told) => {
    process.send(told);
    process.disconnect();
  });
} else {
  const { request, env, execArgv } = workerData;
  // Node 20 does not know these options and would not start with them.
  Object.assign(process.env, env);
  process.execArgv.push(...execArgv);
  refreshOAuthToken(request).then(
    ({ access }) => parentPort.postMessage({ type: "refreshed", access }),
    ({ code, message }) => parentPort.postMessage({ type: "failed", code, message }),
  );
}
