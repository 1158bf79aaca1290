const { AsyncLocalStorage, AsyncResource } = require("node:async_hooks");
const { soon } = require("./caller.js");
const { OAuthRefreshLockError } = require("./errors.js");
const { publish } = require("./events.js");

/**
 * @typedef {object} Turn one caller's place in the line of a key
 * @property {() => Promise<unknown>} run does the work; a value that is not `undefined` is offered to those behind
 * @property {(result: any) => Promise<boolean>} [follow] whether a leader's result serves this caller too
 * @property {boolean} [isDone] whether its caller has its result
 * @property {() => void} [onOverdue] set while it runs; to be called when it has taken too long: it keeps the lock, and those
 *   behind it no longer wait for it but for the lock, which peers may take over
 */

/** This thread's lines, by key: the canonical lock path. */
const lines = new Map();
/** Which keys the code that is running now holds. */
const held = new AsyncLocalStorage();
/** How many functions run that hold one. */
let holders = 0;

/**
 * Puts a turn at the end of its key's line. Turns run one after the other, first come first served, also after a
 * failure. When a turn has a result, those who wait behind it take it instead of a turn of their own if it serves them.
 *
 * @param {{ key: string }} subject
 * @param {Turn} turn
 */
function enter(subject, turn) {
  const line = lines.get(subject.key);
  if (line) {
    if (line.leader.isDone) turn.cameAfter = line.leader;
    line.push(turn);
    publish("waiting", subject);
    return;
  }
  const started = [turn];
  lines.set(subject.key, started);
  void serve(subject.key, started);
}

/** What is being opened, by lock path: the last of it. */
const opening = new Map();
/** A call whose file system takes longer to open is overtaken. */
const OVERTAKE_MS = 100;

/**
 * Has a call go on with what its lock path opens to: those of one path in the order in which they came, as they are to stand in
 * line in it.
 *
 * @param {string | undefined} path
 * @param {object | null} now what it opens to, if that could be told at once
 * @param {() => Promise<object>} open tells it otherwise
 * @param {(opened: object) => void} goOn
 */
async function openInOrder(path, now, open, goOn) {
  const before = opening.get(path);
  if (now && !before) return goOn(now);
  const opened = now ?? open();
  const turn = (async () => {
    const answer = await opened;
    await soon(before, OVERTAKE_MS);
    goOn(answer);
  })();
  // Why it did not go on is told to its own caller alone.
  const over = turn.catch(() => {});
  opening.set(path, over);
  try {
    await turn;
  } finally {
    if (opening.get(path) === over) opening.delete(path);
  }
}

async function serve(key, line) {
  while (line.length > 0) {
    const turn = line.shift();
    line.leader = turn;
    const overdue = new Promise((resolve) => {
      turn.onOverdue = resolve;
    });
    const result = await Promise.race([turn.run(), overdue]);
    if (result !== undefined) await offer(line, result, turn);
  }
  lines.delete(key);
}

async function offer(line, result, leader) {
  const served = new Set();
  const follow = async (turn) => {
    // A caller that came after the leader was done may know more than it did.
    if (turn.cameAfter !== leader && (await turn.follow?.(result))) served.add(turn);
  };
  await Promise.all(line.map(follow));
  // In place: others may have joined the line meanwhile.
  for (let at = line.length - 1; at >= 0; at--) if (served.has(line[at])) line.splice(at, 1);
}

/**
 * Binds `fn` to the async context of this call, and to holding the key: a call for that key from inside it is refused
 * instead of deadlocking.
 */
function asHolder(key, fn) {
  const outer = held.getStore();
  const context = new AsyncResource("oauth-refresh-lock");
  return async (...given) => {
    const holding = { key, outer, active: true };
    holders += 1;
    try {
      return await context.runInAsyncScope(() => held.run(holding, fn, ...given));
    } finally {
      holding.active = false;
      holders -= 1;
      // On older Nodes a storage that was used slows down every promise of the process.
      if (holders === 0) held.disable();
    }
  };
}

/** Whether the code that is running now holds a key. */
const isHolder = () => held.getStore() !== undefined;

/** Refuses a call from inside the function that holds the same key. */
function refuseNested(key) {
  for (let holding = held.getStore(); holding; holding = holding.outer) {
    if (holding.active && holding.key === key) {
      throw new OAuthRefreshLockError(
        "nested_call",
        `this call is made from inside the function that holds the lock it wants; it would wait for itself: ${key}`,
        { path: key },
      );
    }
  }
}

module.exports = { asHolder, enter, openInOrder, isHolder, refuseNested };
