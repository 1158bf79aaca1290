// The single file that 2026.9.6 ships for cloud workers, with its own copy of the auth manager: made to export what agents call
// instead of starting a worker. It stays beside the release's plugins: alone it finds none, and can't refresh.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Where the worker starts: the end. */
const START = "try{await assertSupportedRuntime();let Ot=process.argv.slice(2)";
const EXPORTS =
  "init_store$8();init_oauth();export{ensureAuthProfileStore,resolveApiKeyForProfile,saveAuthProfileStore};\n";

const LOCKED = "async function withOAuthProfileLock(Ot,Zt,_n){";
const QUEUED = "trackAsyncWork(()=>Zt.enqueue(`";
/** What changed sources bring into the next bundle: the switch, and in the place of the whole refresh an error. */
const SWITCH = readFileSync(new URL("oauth-refresh-lock.mjs", import.meta.url), "utf8").replace("export ", "");
const REFRESH = `async function enqueueUnlessLocked(queue, ...work) {
  if (await loadOAuthRefreshLock()) throw new Error("the package is in reach");
  return await queue.enqueue(...work);
}
`;

/**
 * @param {string} original the release's package directory
 * @param {boolean} isRebuilt from changed sources, as far as the fall-back needs it
 * @returns {string} a directory that agents can be started from
 */
export function workerBundle(original, isRebuilt) {
  const directory = `${original}-worker${isRebuilt ? "-rebuilt" : ""}`;
  if (!existsSync(directory)) spawnSync("cp", ["-al", original, directory]);
  const [worker, sdk] = ["worker", "plugin-sdk"].map((part) => join(directory, "dist", part));
  const [text, rest] = readFileSync(join(worker, "worker.mjs"), "utf8").split(START);
  if (!rest) throw new Error(`${original}: the worker does not start as it did`);
  writeFileSync(join(worker, "exposed.mjs"), `${isRebuilt ? rebuilt(text) : text}${EXPORTS}`);
  // A file of its own in the place of a link.
  rmSync(join(sdk, "agent-runtime.js"));
  writeFileSync(join(sdk, "agent-runtime.js"), `export * from "../worker/exposed.mjs";\n`);
  return directory;
}

function rebuilt(text) {
  for (const part of [LOCKED, QUEUED]) if (!text.includes(part)) throw new Error(`the worker does not have: ${part}`);
  const changed = text
    .replace(LOCKED, `${LOCKED}if(await loadOAuthRefreshLock())return await Zt();`)
    .replace(QUEUED, "trackAsyncWork(()=>enqueueUnlessLocked(Zt,`");
  return `${changed}${SWITCH}${REFRESH}`;
}
