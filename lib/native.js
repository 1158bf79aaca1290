const { closeSync, openSync, readSync, readdirSync } = require("node:fs");
const { createRequire } = require("node:module");
const addons = require("#addons");
const { OAuthRefreshLockError } = require("./errors.js");

/** The platforms that there is a package for, as napi spells them. `npm/` has one folder for each. */
const TARGETS = [
  "linux-x64-gnu",
  "linux-x64-musl",
  "linux-arm64-gnu",
  "linux-arm64-musl",
  "darwin-x64",
  "darwin-arm64",
  "win32-x64-msvc",
  "win32-arm64-msvc",
];

/** A program's header and the name of its loader lie in the first of so many bytes. */
const HEADER_BYTES = 4_096;

/** The package that has a platform's addon. Scoped: no one else can publish one for a future platform. */
const packageOf = (target) => `@oauth-refresh-lock/${target}`;

/** The operator's word: `off`, `auto` (the default) or `require`. */
const MODE = "OAUTH_REFRESH_LOCK";

let loaded;

/** The native addon, loaded at first use: importing this package throws only if the operator asks for that. */
function native() {
  loaded ??= load();
  return loaded;
}

let isWarned = false;

/** Whether the addon loads. Never throws. */
function isAvailable() {
  try {
    return Boolean(native());
  } catch (error) {
    // Nobody else would hear of a word that is misspelled.
    if (error.code === "invalid_argument" && !isWarned) process.emitWarning(`${error.message}; this package is off`);
    isWarned ||= error.code === "invalid_argument";
    return false;
  }
}

/** With `require`, a program that could not refresh later does not start. */
function loadIfRequired() {
  if (mode() === "require") native();
}

const mode = () => (process.env[MODE] ?? "").trim().toLowerCase() || "auto";

/** One that was built here comes before the one that npm installed for this platform. */
function load() {
  refuseIfOff();
  const names = targets();
  const tried = names.flatMap((name) => addons.places(name, packageOf(name)));
  const failures = [];
  for (const { load } of tried) {
    try {
      const addon = load();
      addon.stayLoaded?.(fileOf(addon));
      return addon;
    } catch (error) {
      failures.push(error);
    }
  }
  throw unavailable(
    names[0],
    tried.map(({ name }) => name),
    failures,
  );
}

function refuseIfOff() {
  const said = mode();
  if (said === "off") {
    const message = `this package is switched off: the environment says ${MODE}=off; unset it, or have the program ask isAvailable() first`;
    throw new OAuthRefreshLockError("addon_unavailable", message);
  }
  if (said !== "auto" && said !== "require")
    throw new OAuthRefreshLockError("invalid_argument", `${MODE} must be "off", "auto" or "require"`);
}

/** The file that an addon was loaded from; bundlers rename it, and have other `require`s. */
function fileOf(addon) {
  const { cache } = createRequire(process.execPath);
  return Object.values(cache).find(({ exports }) => exports === addon)?.filename;
}

function unavailable(name, tried, failures) {
  // A file that is there and can't be loaded says more than one that isn't there.
  const broken = failures.findIndex(({ code }) => code !== "MODULE_NOT_FOUND");
  const cause = failures[Math.max(broken, 0)];
  const found = broken < 0 ? "" : `; ${tried[broken]} exists but can't be loaded: ${firstLine(cause.message)}`;
  return new OAuthRefreshLockError(
    "addon_unavailable",
    `no native addon for ${name}: tried ${list([...new Set(tried)])}${found}. ${advice(name, broken < 0 ? undefined : cause)}`,
    { cause, path: tried[0] },
  );
}

/** What to do about it. @param {Error & { code?: string } | undefined} broken why one that is there can't be loaded */
function advice(name, broken) {
  if (broken?.code === "ERR_DLOPEN_DISABLED")
    return "Let Node load native addons: start it without `--no-addons` and, under its permission model, with `--allow-addons`";
  if (broken?.message.includes("--allow-ffi")) return "Start Deno with `--allow-ffi`";
  if (addons.isBundled && !broken) {
    return `Keep oauth-refresh-lock out of the bundle, or put ${packageOf(name)}'s file oauth-refresh-lock.${name}.node beside it`;
  }
  const build =
    "build it from a clone of the repository with `npm run build`, which needs Rust (https://rustup.rs), and put the file at the " +
    "first of the paths that were tried";
  if (broken) return `Install this package again on the platform that it is to run on, or ${build}`;
  if (!TARGETS.includes(name))
    return `This platform has no prebuilt addon (others have: ${TARGETS.join(", ")}): ${build}`;
  return (
    "Install this package again without --omit=optional, on the platform that it is to run on (a lock file made on another one " +
    `may lack ${packageOf(name)}), or ${build}`
  );
}

/** What a loader says, as a part of our sentence: Windows ends its messages with a full stop and "\r\n". */
const firstLine = (message) => message.split(/\r?\n/)[0].replace(/\.\s*$/, "");

const list = (items) => `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`;

/** The platform's name as napi spells it, such as `linux-x64-gnu`. */
function target() {
  return targets()[0];
}

/** The same; if it can't be told what the C library is, the likelier one first. */
function targets() {
  const { platform, arch } = process;
  if (platform === "linux") return libcs().map((libc) => `${platform}-${arch}-${libc}`);
  return [platform === "win32" ? `${platform}-${arch}-msvc` : `${platform}-${arch}`];
}

/** As the loader says that this program names in its header (ELF, PT_INTERP): a quick look, where a report of Node's takes 20 ms. */
function libcs() {
  const header = headerOf(process.execPath);
  const [isMusl, isGnu] = ["/ld-musl-", "/ld-linux"].map((loader) => header.includes(loader));
  if (isMusl !== isGnu) return isMusl ? ["musl"] : ["gnu"];
  // A program without a loader, or one that can't be read.
  return hasMuslLoader() ? ["musl", "gnu"] : ["gnu", "musl"];
}

function headerOf(file) {
  const bytes = Buffer.alloc(HEADER_BYTES);
  try {
    const opened = openSync(file);
    try {
      readSync(opened, bytes);
    } finally {
      closeSync(opened);
    }
  } catch {
    // Then it says nothing.
  }
  return bytes.latin1Slice();
}

function hasMuslLoader() {
  try {
    return readdirSync("/lib").some((name) => name.startsWith("ld-musl-"));
  } catch {
    return false;
  }
}

module.exports = { TARGETS, isAvailable, loadIfRequired, native, packageOf, target };
