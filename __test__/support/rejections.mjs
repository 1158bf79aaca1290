import { expect } from "vitest";
import { toldBy } from "./secrets.mjs";

/** What a promise is rejected with; a fulfilled one fails the test. */
export async function rejection(promise) {
  const settled = await Promise.resolve(promise).then(
    (value) => ({ value }),
    (error) => ({ error }),
  );
  expect(settled, "should have been rejected").not.toHaveProperty("value");
  return settled.error;
}

/** Expects one of our own errors, with this code, that tells no secret. */
export async function typedRejection(promise, code) {
  const error = await rejection(promise);
  expect(error).toBeInstanceOf(Error);
  expect({ name: error.name, code: error.code }).toEqual({ name: "OAuthRefreshLockError", code });
  expect(error.message).not.toBe("");
  expect(toldBy(error)).toEqual([]);
  return error;
}
