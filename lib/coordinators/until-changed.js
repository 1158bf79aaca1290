/**
 * What a listener heard of a row.
 *
 * @typedef {"changed" | "look" | "nothing"} News `look`: it may have changed unheard
 */

/**
 * Waits until a row has changed: listens, and asks the engine now and then, as the best of listeners may be cut off without noticing.
 * Nothing here keeps the process from exiting. Never rejects: an engine that can't be asked may be back by the next time.
 *
 * @param {object} how
 * @param {(signal: AbortSignal) => Promise<News>} how.listen until the signal aborts; a rejection counts as `nothing`
 * @param {() => Promise<boolean>} how.isChanged asks the engine
 * @param {number} how.firstMs how long to listen before the engine is asked; doubled each time
 * @param {number} how.lastMs the longest time
 * @param {AbortSignal} how.signal
 */
async function untilChanged({ listen, isChanged, firstMs, lastMs, signal }) {
  for (let ms = firstMs; !signal.aborted; ms = Math.min(ms * 2, lastMs)) {
    const turn = startTurn(ms, signal);
    try {
      const news = await listen(turn.signal).catch(() => "nothing");
      if (news === "changed") return;
      // A listener that gives up early is not called again at once.
      if (news === "nothing") await turn.over;
    } finally {
      turn.end();
    }
    if (!signal.aborted && (await isChanged().catch(() => false))) return;
  }
}

/** A signal that aborts after `ms`, or with `outer`. */
function startTurn(ms, outer) {
  const controller = new AbortController();
  let finish;
  const over = new Promise((resolve) => {
    finish = resolve;
  });
  const end = () => {
    clearTimeout(timer);
    outer.removeEventListener("abort", end);
    controller.abort();
    finish();
  };
  const timer = setTimeout(end, ms).unref();
  outer.addEventListener("abort", end, { once: true });
  if (outer.aborted) end();
  return { signal: controller.signal, over, end };
}

/** Resolves when a signal aborts, which it must do some day. */
function aborted(signal) {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

module.exports = { aborted, untilChanged };
