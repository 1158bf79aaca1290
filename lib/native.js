const path = require("node:path");
const { OAuthRefreshLockError } = require("./errors.js");

let loaded;

/** The native addon, loaded at first use: importing this package never throws. */
function native() {
  loaded ??= load();
  return loaded;
}

function load() {
  const file = path.join(__dirname, "..", `oauth-refresh-lock.${target()}.node`);
  try {
    return require(file);
  } catch (cause) {
    throw new OAuthRefreshLockError(
      "addon_unavailable",
      `no native addon for ${target()} (tried ${file}); build it with \`npm run build\`, which needs Rust (https://rustup.rs)`,
      { cause, path: file },
    );
  }
}

/** The platform's name as napi spells it, such as `linux-x64-gnu`. */
function target() {
  const { platform, arch } = process;
  if (platform === "linux") return `${platform}-${arch}-${isMusl() ? "musl" : "gnu"}`;
  return platform === "win32" ? `${platform}-${arch}-msvc` : `${platform}-${arch}`;
}

function isMusl() {
  return process.report.getReport().header.glibcVersionRuntime === undefined;
}

module.exports = { native, target };
