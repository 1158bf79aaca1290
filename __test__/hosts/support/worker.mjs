/** An agent in a worker thread, for one call. */
import { parentPort, workerData } from "node:worker_threads";
import { makeCall } from "./calling.mjs";

const tell = async (told, more) => parentPort.postMessage({ told, ...more });
const { holds, became } = makeCall(workerData, tell);
parentPort.on("message", (point) => holds.goOn(point));
await tell("became", { became: await became });
parentPort.close();
