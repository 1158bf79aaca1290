/**
 * A worker thread that holds a lock, or has given up; it is ended, and only then does the disk go on. If it waited for the disk to
 * release the lock, it would never end.
 */
import { writeFileSync } from "node:fs";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

const { module, key, options, goOn, timeoutMs } = workerData ?? JSON.parse(process.argv[2]);
const { withOAuthProfileLock } = await import(module);
const { stateDir } = options;

if (isMainThread) {
  const worker = new Worker(import.meta.filename, { workerData: JSON.parse(process.argv[2]) });
  const reached = await new Promise((resolve) => {
    worker.once("message", resolve);
  });
  await worker.terminate();
  writeFileSync(goOn, "");
  const locked = await withOAuthProfileLock(...key, () => "done", { stateDir });
  console.log(JSON.stringify({ reached, locked }));
} else {
  const stay = () => {
    parentPort.postMessage("held");
    return new Promise(() => {});
  };
  withOAuthProfileLock(...key, stay, { stateDir, timeoutMs }).catch(({ code }) => parentPort.postMessage(code));
}
