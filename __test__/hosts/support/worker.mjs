/** An agent in a worker thread, for one call. */
import { parentPort, workerData } from "node:worker_threads";
import { makeCall } from "./calling.mjs";

const tell = (told, more) => parentPort.postMessage({ told, ...more });
const { holds, became } = makeCall(workerData, tell);
parentPort.on("message", (point) => holds.goOn(point));
tell("became", { became: await became });
parentPort.close();
