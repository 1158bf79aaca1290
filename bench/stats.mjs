/** Nearest-rank percentile. @param {number} share 0 to 1 */
export function percentile(samples, share) {
  const sorted = Float64Array.from(samples).sort();
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

/** Of an even number the mean of the two in the middle: of few rounds, the better one is not the median. */
export function median(samples) {
  const sorted = Float64Array.from(samples).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** What a round tells of its samples. */
export const spread = (samples) => ({
  p50: percentile(samples, 0.5),
  p99: percentile(samples, 0.99),
  max: percentile(samples, 1),
});

export const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
