/**
 * What the `fetch` of Deno and of Bun throws, as `scripts/fetch-errors/record.mjs` has recorded it. Their programs are 100 MB
 * each, and there is another one for each platform, so the tests don't install them.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { refreshAs } from "../support/calls.mjs";
import { createHost, expired, MINUTE } from "../support/host.mjs";

const recorded = JSON.parse(readFileSync(join(import.meta.dirname, "..", "vectors", "fetch-errors.json"), "utf8"));
const NOT_SENT = ["a refused connection", "a name that does not exist", "a certificate that nobody vouches for"];
const CLASSES = { Error, TypeError };

function thrown({ class: name, fields }) {
  if (name === "DOMException") return new DOMException(fields.message, fields.name);
  const error = new CLASSES[name](fields.message);
  for (const [field, value] of Object.entries(fields)) {
    Object.defineProperty(error, field, {
      value: typeof value === "object" ? thrown(value) : value,
      configurable: true,
    });
  }
  return error;
}

describe.each(Object.entries(recorded))("the fetch of %s", (_, { errors }) => {
  test.each(Object.entries(errors))("%s", async (name, error) => {
    // Who has no good token waits for what passes.
    const host = createHost({ main: expired({ expires: Date.now() + MINUTE }) });
    const refresh = vi.fn(async () => {
      throw thrown(error);
    });
    const { refreshError } = await refreshAs(host, "main", refresh);
    expect(refreshError.refreshFailure.class).toBe(NOT_SENT.includes(name) ? "not_sent" : "uncertain");
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test("all that can go wrong was recorded", () => {
    expect(Object.keys(errors)).toEqual(expect.arrayContaining(NOT_SENT));
    expect(Object.keys(errors)).toHaveLength(7);
  });
});
