#!/usr/bin/env node
/** `npx oauth-refresh-lock`. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import engine from "../lib/engine.js";
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

/** A program asks for a token often, and no command needs what the others load. */
const load = {
  doctor: () => import("./doctor.mjs"),
  login: () => import("./login.mjs"),
  package: () => import("../index.mjs"),
  state: () => import("./state.mjs"),
  status: () => import("./status.mjs"),
  storm: () => import("./storm.mjs"),
  token: () => import("./token.mjs"),
};
const stateDirectory = async (given) => (await load.state()).stateDirectory(given);

const seconds = (least) => integer(least, 1_000_000);

/** A variable's name. What stands there in its place may be what is to be in it, and is shown to nobody. */
const variable = (text) => {
  if (!/^[A-Za-z_]\w*$/.test(text))
    program.error("error: an option ending in -env, and --env, take the name of a variable, not its value");
  return text;
};

const directory = (text) => {
  // As from a variable that is not set: the default is not meant.
  if (text.trim() === "") throw new InvalidArgumentError("A directory is needed.");
  return text;
};

const absolute = (text) => resolve(directory(text));

const program = new Command("oauth-refresh-lock")
  .description("One OAuth login, any number of agents, one provider call.")
  .version(version)
  .showHelpAfterError("(see --help)")
  .exitOverride()
  .addHelpText(
    "after",
    `
Exit codes: 0 all is well; 1 something is wrong: an error, or what \`doctor\` or
\`storm\` found; 2 wrong usage. No command but \`token\` prints a token.`,
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

/** What hosts share logins by. */
const withCoordinator = (of) =>
  of
    .option("--coordinator <url>", "what hosts share logins by: postgres://… or etcd://…")
    .addOption(
      new Option("--coordinator-env <name>", "the variable that has it, for one with a password")
        .argParser(variable)
        .conflicts("coordinator"),
    );

/** And the key that they share. */
const withHosts = (of) =>
  withCoordinator(of).option(
    "--coordinator-key-env <name>",
    "the variable that has the hosts' key, or several, one a line",
    variable,
  );

const onHosts = (name, description) => withHosts(onState(name, description));

onHosts("status", "each login: its lock's holder, and its next refresh").action(async ({ stateDir, ...options }) => {
  const { status } = await load.status();
  const isWhole = await status({ stateDir: await stateDirectory(stateDir), ...options });
  if (!isWhole) process.exitCode = FAILED;
});

onHosts("watch", "what `status` shows, live; Ctrl-C ends it")
  .option("--interval <ms>", "milliseconds between two looks", integer(50, 3_600_000), 1000)
  .action(async ({ stateDir, ...options }) => {
    const { watch } = await load.status();
    await watch({ stateDir: await stateDirectory(stateDir), ...options });
  });

onHosts("doctor", "what is in the way of refreshing, and what to do about it")
  .option("--fix", "repair what can safely be repaired: file modes")
  .action(async ({ stateDir, ...options }) => {
    const { doctor } = await load.doctor();
    const isWell = await doctor({ stateDir: await stateDirectory(stateDir), ...options });
    if (!isWell) process.exitCode = FAILED;
  });

withCoordinator(command("storm", "a trial: many processes, one login, its own provider"))
  .option("--processes <n>", "how many processes", integer(1, 200), 20)
  .option("--hosts <n>", "spread over so many hosts, a state directory each", integer(1, 20), 1)
  .option("--latency <ms>", "milliseconds that the provider takes", integer(0, 60_000), 200)
  .option("--no-lock", "the same without this package")
  .option("--provider <module>", "a module that starts another provider (`npm run storm` in a clone)")
  .action(async (options) => {
    const { storm } = await load.storm();
    const isWell = await storm(options);
    if (!isWell) process.exitCode = FAILED;
  });

onState("path", "the path of a login's lock")
  .argument("<provider>", "such as openai-codex")
  .argument("<profileId>", "such as openai-codex:default")
  .action(async (provider, profileId, { stateDir, json }) => {
    const { resolveOAuthRefreshLockPath } = await load.package();
    const path = resolveOAuthRefreshLockPath(provider, profileId, { stateDir: await stateDirectory(stateDir) });
    if (json) sayJson({ provider, profileId, lockPath: path });
    else say(path);
  });

/** What a command needs to know of a login's store. */
const withStore = (of) =>
  of
    .option("--state-dir <dir>", "state directory (default: OPENCLAW_STATE_DIR, ~/.openclaw)", absolute)
    .option("--agent-dir <dir>", "the directory of the agent whose login it is (default: the main agent's)", absolute);

/** How a login is refreshed, for a provider that has no preset. */
const withEndpoint = (of) =>
  of
    .option("--token-endpoint <url>", "where the provider refreshes tokens; else by preset, or as at `login add`")
    .option("--client-id <id>", "the client that the login belongs to")
    .option("--client-secret-env <name>", "the environment variable that has the client's secret", variable);

/** For what asks for a token. */
const withToken = (of) =>
  withHosts(
    withEndpoint(
      withStore(
        of.argument("<provider>", "such as openai-codex").argument("<profileId>", "such as openai-codex:default"),
      ),
    ),
  )
    .option("--min-life <seconds>", "refresh a token that lives no longer (default: 300)", seconds(0))
    .option(
      "--timeout <seconds>",
      "give up after so long (default: 200); an answer on its way is still saved",
      seconds(1),
    )
    .addOption(new Option("--coordinator-down <what>", "when that is away").choices(["refuse", "alone"]))
    .addOption(new Option("--lost-host <what>", "when a host stays silent").choices(["wait", "probe"]));

const lone = (name, description) => program.command(name).description(description).exitOverride();

withToken(lone("token", "prints an access token, refreshed if need be, to a pipe"))
  .addOption(
    new Option("--format <format>", "what the reader expects")
      .choices(["raw", "json", "headers", "exec-credential"])
      .default("raw"),
  )
  .addOption(new Option("--json", "as --format json, and an error as JSON too").implies({ format: "json" }))
  .option("--force-tty", "print it on a terminal too")
  .action(async (provider, profileId, options) => {
    const { token } = await load.token();
    await token({ provider, profileId }, options);
  });

withToken(lone("run", "runs a program with an access token in its environment"))
  .argument("<command...>", "after --, the program and its arguments")
  .option("--env <name>", "the variable that gets the token", variable, "ACCESS_TOKEN")
  .action(async (provider, profileId, command, options) => {
    const { run } = await load.token();
    process.exitCode = await run({ provider, profileId }, command, options);
  });

const login = lone("login", "stores, removes and lists logins, by the same locks");
const onLogin = (name, description) =>
  withStore(login.command(name).description(description).option("--json", "print JSON").exitOverride());

withEndpoint(onLogin("add", "stores the login on standard input: JSON, in our field names or RFC 6749's"))
  .argument("<provider>")
  .argument("<profileId>")
  .option("--replace", "even if another account's login, or another kind of profile, has that name")
  .action(async (provider, profileId, options) => {
    const { add } = await load.login();
    await add({ provider, profileId }, options);
  });

onLogin("remove", "takes a login out of an agent's store")
  .argument("<provider>")
  .argument("<profileId>")
  .action(async (provider, profileId, options) => {
    const { remove } = await load.login();
    if (!(await remove({ provider, profileId }, options))) process.exitCode = FAILED;
  });

login
  .command("list")
  .description("all logins, and the agents that have them")
  .option("--state-dir <dir>", "state directory (default: OPENCLAW_STATE_DIR, ~/.openclaw)", directory)
  .option("--json", "print JSON")
  .exitOverride()
  .action(async ({ stateDir, ...options }) => {
    const { list } = await load.login();
    const isWhole = await list({ stateDir: await stateDirectory(stateDir), ...options });
    if (!isWhole) process.exitCode = FAILED;
  });

// A reader that stops, as `head` does, ends us; `storm` clears up at the exit.
process.stdout.on("error", (error) => {
  if (error.code !== "EPIPE") throw error;
  process.exit();
});

// What comes after `--` is another program's.
const end = process.argv.indexOf("--");
const isJson = process.argv.slice(0, end === -1 ? undefined : end).includes("--json");

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
