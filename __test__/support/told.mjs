/** The side of a process that child.mjs has started. */
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";

/** Written before it returns: the parent has it even if this process dies in the next instant. */
export function tell(told, more) {
  try {
    writeSync(3, `${JSON.stringify({ told, ...more })}\n`);
  } catch (error) {
    // The parent has gone.
    if (error.code !== "EPIPE") throw error;
  }
}

/** What the parent commands, until it has no more commands or is gone. */
export async function* commands() {
  for await (const line of createInterface({ input: process.stdin })) yield JSON.parse(line);
}
