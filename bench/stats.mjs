/** Nearest-rank percentile. @param {Iterable<number>} samples @param {number} share 0 to 1 */
export function percentile(samples, share) {
  const sorted = Float64Array.from(samples).sort();
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

/** @param {Iterable<number>} samples */
export const median = (samples) => percentile(samples, 0.5);

/** What a round tells of its samples. @param {number[]} samples */
export const spread = (samples) => ({
  p50: median(samples),
  p99: percentile(samples, 0.99),
  max: percentile(samples, 1),
});

/** @param {readonly number[]} numbers */
export const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
