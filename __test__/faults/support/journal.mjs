/** The journal as its format is documented in src/journal.rs. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";

const HALF_BYTES = 128 << 10;
const HEADER_BYTES = 52;

function decode(half) {
  if (half.subarray(0, 4).toString("latin1") !== "ORLJ") return undefined;
  const sequence = half.subarray(8, 16);
  const text = half.subarray(HEADER_BYTES, HEADER_BYTES + half.readUInt32LE(16));
  const sum = createHash("sha256").update(sequence).update(text).digest();
  if (!sum.equals(half.subarray(20, HEADER_BYTES))) return undefined;
  return { sequence: sequence.readBigUInt64LE(), record: JSON.parse(text.toString("utf8")) };
}

/**
 * The current record of the journal of this lock; `undefined` if there is none. Its receipts are the answers of the
 * provider that it holds.
 */
export function readJournal(lockPath) {
  const path = `${lockPath}.journal`;
  if (!existsSync(path)) return undefined;
  const bytes = readFileSync(path);
  if (bytes.length !== 2 * HALF_BYTES) return undefined;
  const halves = [bytes.subarray(0, HALF_BYTES), bytes.subarray(HALF_BYTES)].map(decode).filter(Boolean);
  const [current] = halves.sort((one, other) => (one.sequence < other.sequence ? 1 : -1));
  return current && { receipts: [], ...current.record };
}
