/**
 * A process that takes one lock again and again, as ours or as one of OpenClaw's, and tells when it found it taken and when
 * it is through.
 *
 * @typedef {object} Play
 * @property {"ours" | "fs-safe" | "April" | "May"} kind
 * @property {string} lockPath
 * @property {string} log see witness.mjs
 * @property {string} removed
 * @property {number} rounds
 * @property {number} holdMs
 * @property {number} timeoutMs the patience of ours
 * @property {object} lockOptions the patience of theirs
 * @property {string} [fsSafe] where the package is
 * @property {boolean} [pauses] fs-safe waits for a word each time it is about to reclaim the lock
 */
import { subscribe } from "node:diagnostics_channel";
import { setTimeout as sleep } from "node:timers/promises";
import { CHANNEL, deferred } from "../events.mjs";
import { acquire } from "../openclaw-lock.mjs";
import { commands, tell } from "../told.mjs";
import { loadFsSafe } from "./fs-safe.mjs";
import { Witness } from "./witness.mjs";

let taken = 0;
function onTaken() {
  if (taken++ === 0) tell("taken");
}

async function ours({ lockPath, timeoutMs }) {
  const { withOAuthProfileLock } = await import("../../../index.mjs");
  return (work) => withOAuthProfileLock("acme", "acme:owner", work, { lockPath, timeoutMs });
}

let goOn = deferred();
async function pause() {
  goOn = deferred();
  tell("reclaiming");
  await goOn.promise;
}

async function theirs({ kind, lockPath, lockOptions, fsSafe, pauses }, remove) {
  const onReclaim = pauses ? pause : undefined;
  const take = kind === "fs-safe" ? await loadFsSafe(fsSafe) : acquire;
  return async (work) => {
    const release = await take(lockPath, { ...lockOptions, generation: kind, onTaken, onReclaim, remove });
    try {
      await work();
    } finally {
      await release();
    }
  };
}

async function play(part) {
  const witness = new Witness(part);
  const locked = await (part.kind === "ours" ? ours(part) : theirs(part, async (path) => witness.remove(path)));
  let mostTries = 0;
  for (let round = 0; round < part.rounds; round++) {
    const before = taken;
    await locked(async () => {
      witness.enter();
      await sleep(part.holdMs);
      witness.leave();
    });
    mostTries = Math.max(mostTries, taken - before);
  }
  return { mostTries };
}

subscribe(CHANNEL, ({ type }) => type === "waiting" && onTaken());
tell("started");
for await (const { goOn: goesOn, play: part } of commands()) {
  if (goesOn) goOn.resolve();
  else {
    taken = 0;
    void play(part)
      .catch(({ code, message }) => ({ error: { code, message } }))
      .then((done) => tell("done", done));
  }
}
