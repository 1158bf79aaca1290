/** As `addons.js`, for Bun: it puts an addon into the program if a `require` inside a `try` names it. */
const addons = require("./addons.js");

/** One that was built here, in a clone. @param {string} target */
function built(target) {
  try {
    switch (target) {
      case "linux-x64-gnu":
        return { addon: require("../oauth-refresh-lock.linux-x64-gnu.node") };
      case "linux-x64-musl":
        return { addon: require("../oauth-refresh-lock.linux-x64-musl.node") };
      case "linux-arm64-gnu":
        return { addon: require("../oauth-refresh-lock.linux-arm64-gnu.node") };
      case "linux-arm64-musl":
        return { addon: require("../oauth-refresh-lock.linux-arm64-musl.node") };
      case "darwin-x64":
        return { addon: require("../oauth-refresh-lock.darwin-x64.node") };
      case "darwin-arm64":
        return { addon: require("../oauth-refresh-lock.darwin-arm64.node") };
      case "win32-x64-msvc":
        return { addon: require("../oauth-refresh-lock.win32-x64-msvc.node") };
      case "win32-arm64-msvc":
        return { addon: require("../oauth-refresh-lock.win32-arm64-msvc.node") };
    }
  } catch (error) {
    return { error };
  }
  return {};
}

/** The one that npm installed. @param {string} target */
function installed(target) {
  try {
    switch (target) {
      case "linux-x64-gnu":
        return { addon: require("@oauth-refresh-lock/linux-x64-gnu") };
      case "linux-x64-musl":
        return { addon: require("@oauth-refresh-lock/linux-x64-musl") };
      case "linux-arm64-gnu":
        return { addon: require("@oauth-refresh-lock/linux-arm64-gnu") };
      case "linux-arm64-musl":
        return { addon: require("@oauth-refresh-lock/linux-arm64-musl") };
      case "darwin-x64":
        return { addon: require("@oauth-refresh-lock/darwin-x64") };
      case "darwin-arm64":
        return { addon: require("@oauth-refresh-lock/darwin-arm64") };
      case "win32-x64-msvc":
        return { addon: require("@oauth-refresh-lock/win32-x64-msvc") };
      case "win32-arm64-msvc":
        return { addon: require("@oauth-refresh-lock/win32-arm64-msvc") };
    }
  } catch (error) {
    return { error };
  }
  return {};
}

function places(target, packageName) {
  const own = [
    [`oauth-refresh-lock.${target}.node`, built],
    [packageName, installed],
  ].map(([name, look]) => ({ name, load: () => found(look(target)) }));
  return [...own, ...addons.places(target, packageName)];
}

function found({ addon, error }) {
  if (addon) return addon;
  throw error;
}

module.exports = { ...addons, places };
