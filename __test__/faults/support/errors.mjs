import { inspect } from "node:util";

/** An error as another process gets to know it, with everything that a log may show of it. */
export function describeError(error) {
  const shown = [String(error), error.stack, JSON.stringify(error), inspect(error, { showHidden: true, depth: null })];
  const { name, message, code, error: oauth, path, holder, refreshFailure, cause } = error;
  return { name, message, code, oauth, path, holder, refreshFailure, cause: cause?.message, shown: shown.join("\n") };
}
