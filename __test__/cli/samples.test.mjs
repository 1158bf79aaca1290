/** The output that docs/cli.md shows is what the commands print, but for times and whose home it is. */
import { chmodSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { withOAuthRefreshLock } from "oauth-refresh-lock";
import { expect, test } from "vitest";
import { answer, createHost, expired, usable } from "../support/host.mjs";
import { cli } from "./cli.mjs";

const STATE_DIR = "/home/me/.openclaw";

/** The sample under a command's heading. */
function sample(command) {
  const text = readFileSync(join(import.meta.dirname, "..", "..", "docs", "cli.md"), "utf8");
  return text
    .split(/^## /m)
    .find((section) => section.startsWith(command))
    .match(/^```text\n(.*?)^```$/ms)[1];
}

/** Without times, widths, and the order that these make. */
const shape = (text) =>
  text
    .replaceAll(/\d+ (?:ms|s|min|h|d)\b/g, "TIME")
    .replaceAll(/^provider +[1-9]+/gm, "provider 1")
    .replaceAll(/[░█▓]+(?=[●◆])/g, "█")
    // In the order in which they came.
    .replace(/^░.*/m, (legend) => legend.split("  ").sort().join("  "))
    .replaceAll(/agent-\d+/g, "agent")
    .replaceAll(/ +/g, " ")
    .split("\n")
    .sort();

test("status", async () => {
  const host = createHost();
  const login = (provider) => ({ ...expired(), provider });
  const profiles = { "openai-codex:default": login("openai-codex"), "anthropic:work": login("anthropic") };
  host.seed("main", JSON.stringify({ version: 1, profiles }));
  const options = host.as("main");
  await withOAuthRefreshLock("openai-codex", "openai-codex:default", () => answer(), options);
  const refused = () => Promise.reject(new Error("invalid_grant"));
  await withOAuthRefreshLock("anthropic", "anthropic:work", refused, options).catch(() => {});
  const { stdout } = cli(["status", "--state-dir", host.stateDir]);
  expect(shape(stdout)).toEqual(shape(sample("status")));
});

test("doctor", () => {
  const host = createHost({ coder: usable() });
  chmodSync(host.storePath("coder"), 0o644);
  const { stdout } = cli(["doctor", "--state-dir", host.stateDir]);
  expect(shape(stdout.replaceAll(host.stateDir, STATE_DIR))).toEqual(shape(sample("doctor")));
});

test("storm", () => {
  const { stdout } = cli(["storm", "--processes", "5"]);
  expect(shape(stdout)).toEqual(shape(sample("storm")));
});
