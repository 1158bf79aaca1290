import { describe, expect, test } from "vitest";
import { isRefreshTokenReusedError } from "../index.mjs";

describe("isRefreshTokenReusedError", () => {
  test.each([
    ["OpenAI's code", new Error("400: refresh_token_reused")],
    ["in other case", new Error("Refresh Token Has Already Been Used.")],
    ["OpenAI's sentence", new Error("Your refresh token has already been used to generate a new access token.")],
    ["a message alone", "refresh_token_reused"],
    ["a code", Object.assign(new Error("failed"), { code: "refresh_token_reused" })],
    ["an OAuth error", { error: "invalid_grant", error_description: "refresh token has already been used" }],
    ["a cause", new Error("failed", { cause: new Error("http", { cause: "refresh_token_reused" }) })],
  ])("says yes to %s", (_, error) => {
    expect(isRefreshTokenReusedError(error)).toBe(true);
  });

  test.each([
    ["nothing", undefined],
    ["null", null],
    ["a number", 400],
    ["another refusal", new Error("invalid_grant")],
    ["an error without a message", new Error()],
    ["parts of it", new Error("refresh token reused; already been used")],
    ["an object that says nothing", { message: 7, code: {} }],
  ])("says no to %s", (_, error) => {
    expect(isRefreshTokenReusedError(error)).toBe(false);
  });

  test("comes to an end on an error that causes itself", () => {
    const error = new Error("failed");
    error.cause = error;
    expect(isRefreshTokenReusedError(error)).toBe(false);
  });
});
