/** What many holders of one lock have seen, put together. */
import { percentile, sum } from "./stats.mjs";

/**
 * @param {number[][]} logs for each process, `[requested, acquired, released, …]` in milliseconds since the start; one that
 *   was never served has a last triple whose `acquired` is `null`
 * @param {number} ms how long they went on
 */
export function merged(logs, ms) {
  const all = logs.flatMap((log, owner) =>
    Array.from({ length: Math.floor(log.length / 3) }, (_, at) => {
      const [requested, acquired, released] = log.slice(3 * at, 3 * at + 3);
      return { owner, requested, acquired, released };
    }),
  );
  const waits = all.map(({ requested, acquired, released }) => (acquired ?? released) - requested);
  const holds = all.filter(({ acquired }) => acquired !== null).sort((a, b) => a.acquired - b.acquired);
  const handoffs = [];
  let overlaps = 0;
  let last = holds[0];
  for (const hold of holds.slice(1)) {
    if (hold.acquired < last.released) overlaps += 1;
    // From an owner that is done to another one that is waiting already.
    else if (hold.owner !== last.owner && hold.requested < last.released) handoffs.push(hold.acquired - last.released);
    if (hold.released > last.released) last = hold;
  }
  const served = logs.map((_, owner) => holds.filter((hold) => hold.owner === owner && hold.acquired < ms).length);
  const count = sum(served);
  const longest = percentile(waits, 1);
  const fair = (logs.length * ms) / count;
  return {
    p50: percentile(handoffs, 0.5) * 1e3,
    p99: percentile(handoffs, 0.99) * 1e3,
    longest,
    unfair: longest / fair,
    least: (percentile(served, 0) / count) * logs.length,
    perSecond: (count / ms) * 1e3,
    overlaps,
  };
}
