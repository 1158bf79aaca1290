/**
 * A process whose worker thread makes a call and is ended while its store does not answer, or when the parent says so; then
 * the main thread makes one. Tells when the worker has ended, and how the main thread's call went.
 */
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { withOAuthRefreshLock } from "../../index.mjs";

/**
 * @typedef {object} Life
 * @property {[provider: string, profileId: string]} key
 * @property {string} stateDir
 * @property {object} old what the store holds
 * @property {object} fields what the refresh function returns
 * @property {object} [endpoint] what the worker asks in the function's place
 * @property {{ load?: number, swap?: number }} hangs the so-manieth call hangs
 */
const { key, stateDir, old, fields, endpoint, hangs } = isMainThread ? JSON.parse(process.argv[2]) : workerData;

/** A store whose function hangs at its so-manieth call, and tells so. */
function store({ load = 0, swap = 0 }, onHang) {
  let held = old;
  const hang = () => {
    onHang();
    return new Promise(() => {});
  };
  return {
    name: "own",
    load: () => (--load === 0 ? hang() : held),
    compareAndSwap: (_profileId, _expected, next) => {
      if (--swap === 0) return hang();
      held = next;
      return true;
    },
  };
}

let asked = 0;
const ask = () => ++asked && fields;
const call = (refresh, own) => withOAuthRefreshLock(...key, refresh, { stateDir, store: own, timeoutMs: 20_000 });

if (isMainThread) {
  const worker = new Worker(import.meta.filename, { workerData: { key, stateDir, old, fields, endpoint, hangs } });
  await new Promise((resolve) => {
    worker.once("message", resolve);
    process.once("message", resolve);
  });
  await worker.terminate();
  process.send({ type: "ended" });
  const result = await call(ask, store({}));
  process.send({ type: "settled", asked, result });
  process.disconnect();
} else {
  const { parentPort } = await import("node:worker_threads");
  await call(
    endpoint ?? ask,
    store(hangs, () => parentPort.postMessage("hangs")),
  );
}
