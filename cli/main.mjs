#!/usr/bin/env node
/** `npx oauth-refresh-lock`. */
import { readFileSync } from "node:fs";
import { Command, InvalidArgumentError } from "commander";
import { resolveOAuthRefreshLockPath } from "../index.mjs";
import engine from "../lib/engine.js";
import { doctor } from "./doctor.mjs";
import { stateDirectory } from "./state.mjs";
import { status, watch } from "./status.mjs";
import { storm } from "./storm.mjs";
import { complain, say, sayJson } from "./terminal.mjs";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
const FAILED = 1;
const USAGE = 2;

const integer = (least, most) => (text) => {
  const number = Number(text);
  if (!Number.isInteger(number) || number < least || number > most)
    throw new InvalidArgumentError(`A whole number from ${least} to ${most} is needed.`);
  return number;
};

const directory = (text) => {
  // As from a variable that is not set: the default is not meant.
  if (text.trim() === "") throw new InvalidArgumentError("A directory is needed.");
  return text;
};

const program = new Command("oauth-refresh-lock")
  .description("One OAuth login, any number of agents, one provider call.")
  .version(version)
  .showHelpAfterError("(see --help)")
  .exitOverride()
  .addHelpText(
    "after",
    `
Exit codes: 0 all is well; 1 something is wrong: an error, or what \`doctor\` or
\`storm\` found; 2 wrong usage. No command prints a token.`,
  );

/** @param {string} name @param {string} description @param {string} what of the state directory */
const command = (name, description) =>
  program.command(name).description(description).option("--json", "print JSON").exitOverride();

const onState = (name, description) =>
  command(name, description).option(
    "--state-dir <dir>",
    "state directory (default: OPENCLAW_STATE_DIR, ~/.openclaw)",
    directory,
  );

const onHosts = (name, description) =>
  onState(name, description).option("--coordinator <url>", "what hosts share the logins by: postgres://… or etcd://…");

onHosts("status", "each login: its lock's holder, and its next refresh").action(async ({ stateDir, ...options }) => {
  const isWhole = await status({ stateDir: stateDirectory(stateDir), ...options });
  if (!isWhole) process.exitCode = FAILED;
});

onHosts("watch", "what `status` shows, live; Ctrl-C ends it")
  .option("--interval <ms>", "milliseconds between two looks", integer(50, 3_600_000), 1000)
  .action(({ stateDir, ...options }) => watch({ stateDir: stateDirectory(stateDir), ...options }));

onHosts("doctor", "what is in the way of refreshing, and what to do about it")
  .option("--fix", "repair what can safely be repaired: file modes")
  .action(async ({ stateDir, ...options }) => {
    const isWell = await doctor({ stateDir: stateDirectory(stateDir), ...options });
    if (!isWell) process.exitCode = FAILED;
  });

command("storm", "a trial: many processes, one expired login, a provider of its own")
  .option("--processes <n>", "how many processes", integer(1, 200), 20)
  .option("--latency <ms>", "milliseconds that the provider takes", integer(0, 60_000), 200)
  .option("--no-lock", "the same without this package")
  .action(async (options) => {
    const isWell = await storm(options);
    if (!isWell) process.exitCode = FAILED;
  });

onState("path", "the path of a login's lock")
  .argument("<provider>", "such as openai-codex")
  .argument("<profileId>", "such as openai-codex:default")
  .action((provider, profileId, { stateDir, json }) => {
    const path = resolveOAuthRefreshLockPath(provider, profileId, { stateDir: stateDirectory(stateDir) });
    if (json) sayJson({ provider, profileId, lockPath: path });
    else say(path);
  });

// A reader that stops, as `head` does, ends us; `storm` clears up at the exit.
process.stdout.on("error", (error) => {
  if (error.code !== "EPIPE") throw error;
  process.exit();
});

const isJson = process.argv.includes("--json");

try {
  engine.refuseOldEngine();
  await program.parseAsync();
} catch (error) {
  // Of commander's, which has told it.
  const isUsage = typeof error.exitCode === "number";
  process.exitCode = isUsage ? (error.exitCode === 0 ? 0 : USAGE) : FAILED;
  if (!isUsage) complain(error.message);
  if (isJson && process.exitCode !== 0) {
    const message = error.message.replace(/^error: /, "");
    sayJson({ error: { code: isUsage ? "usage" : (error.code ?? "internal"), message, path: error.path ?? null } });
  }
}
