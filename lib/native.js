const path = require("node:path");
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

let loaded;

/** The native addon, loaded at first use: importing this package never throws. */
function native() {
  loaded ??= load();
  return loaded;
}

/** One that was built here comes before the one that npm installed for this platform. */
function load() {
  const name = target();
  const tried = [path.join(__dirname, "..", `oauth-refresh-lock.${name}.node`), `oauth-refresh-lock-${name}`];
  const failures = [];
  for (const file of tried) {
    try {
      return require(file);
    } catch (error) {
      failures.push(error);
    }
  }
  throw unavailable(name, tried, failures);
}

function unavailable(name, tried, failures) {
  const [built, packaged] = tried;
  // A file that is there and can't be loaded says more than one that isn't there.
  const broken = failures.findIndex(({ code }) => code !== "MODULE_NOT_FOUND");
  const cause = failures[Math.max(broken, 0)];
  const found = broken < 0 ? "" : `; it is there but can't be loaded: ${cause.message.split(/\r?\n/)[0]}`;
  const advice = TARGETS.includes(name)
    ? `install this package again without --omit=optional, on the platform that it is to run on (a lock file made on another one may lack ${packaged})`
    : `there is no prebuilt one for this platform (there are ${TARGETS.join(", ")})`;
  return new OAuthRefreshLockError(
    "addon_unavailable",
    `no native addon for ${name}: tried ${tried.join(" and ")}${found}. ${capital(advice)}, or build it from a clone of the ` +
      "repository with `npm run build`, which needs Rust (https://rustup.rs), and put the file in the first place",
    { cause, path: built },
  );
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

/** The platform's name as napi spells it, such as `linux-x64-gnu`. */
function target() {
  const { platform, arch } = process;
  if (platform === "linux") return `${platform}-${arch}-${isMusl() ? "musl" : "gnu"}`;
  return platform === "win32" ? `${platform}-${arch}-msvc` : `${platform}-${arch}`;
}

function isMusl() {
  const { report } = process;
  const before = report.excludeNetwork;
  // It would look up the names of all addresses.
  report.excludeNetwork = true;
  try {
    return report.getReport().header.glibcVersionRuntime === undefined;
  } finally {
    report.excludeNetwork = before;
  }
}

module.exports = { TARGETS, native, target };
