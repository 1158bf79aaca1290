/** Processes of ours and of OpenClaw's, and one lock for all. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Child } from "../child.mjs";
import { owner, SIDECARS, sped, startTime } from "../openclaw-lock.mjs";
import { judge } from "./witness.mjs";

const PEER = fileURLToPath(new URL("peer.mjs", import.meta.url));

class Peer extends Child {
  /**
   * Begins to play. `taken` resolves once it found the lock taken, `done` when it is through; `reclaiming` if it pauses, once
   * it is about to reclaim the lock, and then it waits for `goOn`.
   */
  play(play) {
    this.tells = [];
    this.send({ play });
    const words = ["taken", "reclaiming", "done"].map((word) => [word, this.heard(word)]);
    // Whoever awaits a word hears of the end; nobody has to.
    for (const [, promise] of words) promise.catch(() => {});
    return { ...Object.fromEntries(words), goOn: () => this.send({ goOn: true }) };
  }
}

/** A process that does nothing, to have a process id. */
export async function startIdle() {
  const child = spawn(process.execPath, ["-e", "process.stdin.resume()"], { stdio: ["pipe", "ignore", "inherit"] });
  await once(child, "spawn");
  const exited = once(child, "exit");
  return {
    pid: child.pid,
    async kill() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

/** So many processes of ours on this Node and of theirs on that one; they serve for any number of plays. */
export async function startFleet({ ours, theirs, theirNode }) {
  const start = (count, node) => Array.from({ length: count }, () => new Peer(PEER, { node, prints: "inherit" }));
  const fleet = { ours: start(ours, process.execPath), theirs: start(theirs, theirNode) };
  const all = Object.values(fleet).flat();
  await Promise.all(all.map((peer) => peer.heard("started")));
  return { ...fleet, end: () => Promise.all(all.map((peer) => peer.kill())) };
}

/** A lock in an empty directory, and where to write down what happens to it. */
export function createPlace(dir) {
  const place = { lockPath: join(dir, "locks", "key"), log: join(dir, "log"), removed: join(dir, "removed") };
  for (const made of [join(dir, "locks"), place.removed]) mkdirSync(made);
  return place;
}

/** What happened there so far. */
export function judged({ log }) {
  const lines = existsSync(log) ? readFileSync(log, "utf8").split("\n") : [];
  return judge(lines.filter(Boolean).map((line) => JSON.parse(line)));
}

/**
 * Has processes take the lock as fs-safe does, complete at once, and die: their sidecars name this one, which is dead. What
 * is returned stops it and tells how many did.
 */
function keepDying(pid, times, sidecar, next) {
  let died = 0;
  let last;
  const timer = setInterval(() => {
    if (died === times) return;
    const text = SIDECARS["fs-safe"]({ ...owner(pid), starttime: 1 });
    writeFileSync(next, text, { mode: 0o600 });
    try {
      linkSync(next, sidecar);
      last = text;
      died++;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    rmSync(next);
  }, 1);
  return () => {
    clearInterval(timer);
    // The last one may have come when nobody wanted the lock any more.
    if (existsSync(sidecar) && readFileSync(sidecar, "utf8") === last) rmSync(sidecar);
    return died;
  };
}

/**
 * Has all of them want one lock that somebody holds who releases it then or dies; tells what happened and what is left.
 *
 * @param {string} play.dir an empty directory
 * @param {import("./peer.mjs").Play["kind"][]} play.kinds of theirs, in turn
 * @param {number} play.deaths so many die holding the lock: the first holder, who releases it if there are none, and
 *   others who take it whenever it is free
 * @param {number} play.speed how much faster than in the world everything goes
 */
export async function play(fleet, { dir, kinds, deaths, speed, ...common }) {
  const place = createPlace(dir);
  const sidecar = `${place.lockPath}.lock`;

  const holding = await startIdle();
  const fields = { ...owner(holding.pid), starttime: startTime(holding.pid) };
  writeFileSync(sidecar, SIDECARS["fs-safe"](fields), { mode: 0o600 });
  let plays;
  try {
    const start = (peer, kind) => peer.play({ kind, ...place, ...common, lockOptions: sped(speed) });
    const started = [
      ...fleet.ours.map((peer) => start(peer, "ours")),
      ...fleet.theirs.map((peer, at) => start(peer, kinds[at % kinds.length])),
    ];
    const first = ({ taken, done }) =>
      Promise.race([taken.then(() => "found it taken"), done.then(() => "was inside")]);
    const atFirst = await Promise.all(started.map(first));
    plays = { started, atFirst };
    if (deaths === 0) rmSync(sidecar);
  } finally {
    await holding.kill();
  }

  const begun = performance.now();
  const stop = keepDying(holding.pid, deaths, sidecar, join(dir, "next"));
  const done = await Promise.all(plays.started.map((one) => one.done));
  const died = stop();
  return {
    ...judged(place),
    /** What each met before the lock was free. */
    atFirst: plays.atFirst,
    failed: done.flatMap(({ error }) => error ?? []),
    mostTries: Math.max(0, ...done.slice(fleet.ours.length).map((one) => one.mostTries ?? Number.NaN)),
    ms: performance.now() - begun,
    died,
    /** The names of the files that are left. */
    left: readdirSync(dirname(place.lockPath)).sort(),
  };
}
