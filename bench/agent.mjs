/**
 * A process of the benchmark: runs what a case's module exports as `work`, when its parent asks, and ends with its parent.
 */
import { commands, tell } from "../__test__/support/told.mjs";

async function answer({ id, module, name, args }) {
  try {
    const { work } = await import(module);
    tell("answered", { id, result: await work[name](args) });
  } catch (error) {
    const { code, message } = error;
    tell("answered", { id, error: { code, message: String(message ?? error) } });
  }
}

for await (const command of commands()) void answer(command);
process.exit();
