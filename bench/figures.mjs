/** Figures over the rounds, and in words. */
import { median } from "./stats.mjs";

/**
 * @typedef {{ case: import("./table.mjs").Case, rows: import("./table.mjs").Row[] }} Result
 */

/** Three digits are more than such a figure is good for. */
export function short(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toFixed(digits).replace(/\.0+$/, "");
}

/** The median round, and from the best to the worst. */
export function range(rounds) {
  const known = rounds?.filter(Number.isFinite) ?? [];
  if (known.length === 0) return "–";
  const [middle, least, most] = [median(known), Math.min(...known), Math.max(...known)].map(short);
  return least === most ? middle : `${middle} (${least}–${most})`;
}

/** How many times as much, round by round: what else the machine did then hit both. */
export function ratio(rounds, others) {
  const ratios = (rounds ?? []).map((value, round) => value / (others?.[round] ?? Number.NaN));
  return median(ratios.filter(Number.isFinite));
}

/** @param {string} name of the case */
export function rowOf(results, name, what, who) {
  const result = results.find((one) => one.case.name === name);
  return result?.rows.find((row) => row.what === what && row.who === who && !row.reason);
}

/** The median round. */
export const middle = (row, key) => (row ? median((row.figures[key] ?? []).filter(Number.isFinite)) : Number.NaN);

/** The worst round. */
export const worst = (row, key) => (row?.figures[key]?.length ? Math.max(...row.figures[key]) : Number.NaN);
