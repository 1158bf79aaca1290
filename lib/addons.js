/**
 * Where the addon may lie. The paths are written out, so that ncc and nft find the files and take them along. They are no `require`s:
 * esbuild, rollup and webpack would take such a file for JavaScript, and fail. Bun wants requires: `addons-bun.js`.
 */
const { createRequire } = require("node:module");
const path = require("node:path");
const { fileURLToPath } = require("node:url");

/** Whether webpack, or ncc, has made this a part of another file. */
const isWebpack = typeof __webpack_require__ === "function";
/** Whether a bundler has. In an ES module there is no `__filename`. */
const isBundled = isWebpack || typeof __filename === "undefined" || path.basename(__filename) !== "addons.js";

/** Where the ES module is that this is a part of, if it is in one. */
let moduleUrl;

/** @param {string} [url] `import.meta.url` */
function bundledIn(url) {
  moduleUrl = url;
}

/**
 * Where to look, the first first.
 *
 * @param {string} target
 * @param {string} packageName
 * @returns {{ name: string, load: () => object }[]}
 */
function places(target, packageName) {
  const [built, installed] = isInDirectory() ? filesOf(target) : [];
  // Packagers that follow paths take the file without its package.
  const taken = (load) => [place(built, load), { ...place(installed, load), name: packageName }];
  if (!isBundled) {
    const [first, last] = taken(require);
    return [first, place(packageName, require), last];
  }
  const file = `oauth-refresh-lock.${target}.node`;
  if (isWebpack) {
    const load = __non_webpack_require__;
    return [...(built ? taken(load) : []), place(packageName, load), place(`./${file}`, load)];
  }
  const programs = [moduleUrl?.startsWith("file:") && fileURLToPath(moduleUrl), ownFile(), process.argv[1]];
  return [...new Set(programs)].flatMap((program) => {
    if (!program || !path.isAbsolute(program)) return [];
    const load = createRequire(program);
    return [place(packageName, load), place(path.join(path.dirname(program), file), load)];
  });
}

const place = (name, load) => ({ name, load: () => load(name) });

const ownFile = () => (typeof __filename === "undefined" ? undefined : __filename);

/** Whether `__dirname` says where this file is. Webpack makes it the root, or a path relative to anywhere: nothing is loaded from there. */
function isInDirectory() {
  return typeof __dirname !== "undefined" && path.isAbsolute(__dirname) && __dirname !== path.parse(__dirname).root;
}

/** One that was built here, in a clone; and the one that npm installed, as a bundler sees it. @param {string} target */
function filesOf(target) {
  switch (target) {
    case "linux-x64-gnu":
      return [
        path.join(__dirname, "../oauth-refresh-lock.linux-x64-gnu.node"),
        path.join(__dirname, "../../@oauth-refresh-lock/linux-x64-gnu/oauth-refresh-lock.linux-x64-gnu.node"),
      ];
    case "linux-x64-musl":
      return [
        path.join(__dirname, "../oauth-refresh-lock.linux-x64-musl.node"),
        path.join(__dirname, "../../@oauth-refresh-lock/linux-x64-musl/oauth-refresh-lock.linux-x64-musl.node"),
      ];
    case "linux-arm64-gnu":
      return [
        path.join(__dirname, "../oauth-refresh-lock.linux-arm64-gnu.node"),
        path.join(__dirname, "../../@oauth-refresh-lock/linux-arm64-gnu/oauth-refresh-lock.linux-arm64-gnu.node"),
      ];
    case "linux-arm64-musl":
      return [
        path.join(__dirname, "../oauth-refresh-lock.linux-arm64-musl.node"),
        path.join(__dirname, "../../@oauth-refresh-lock/linux-arm64-musl/oauth-refresh-lock.linux-arm64-musl.node"),
      ];
    case "darwin-x64":
      return [
        path.join(__dirname, "../oauth-refresh-lock.darwin-x64.node"),
        path.join(__dirname, "../../@oauth-refresh-lock/darwin-x64/oauth-refresh-lock.darwin-x64.node"),
      ];
    case "darwin-arm64":
      return [
        path.join(__dirname, "../oauth-refresh-lock.darwin-arm64.node"),
        path.join(__dirname, "../../@oauth-refresh-lock/darwin-arm64/oauth-refresh-lock.darwin-arm64.node"),
      ];
    case "win32-x64-msvc":
      return [
        path.join(__dirname, "../oauth-refresh-lock.win32-x64-msvc.node"),
        path.join(__dirname, "../../@oauth-refresh-lock/win32-x64-msvc/oauth-refresh-lock.win32-x64-msvc.node"),
      ];
    case "win32-arm64-msvc":
      return [
        path.join(__dirname, "../oauth-refresh-lock.win32-arm64-msvc.node"),
        path.join(__dirname, "../../@oauth-refresh-lock/win32-arm64-msvc/oauth-refresh-lock.win32-arm64-msvc.node"),
      ];
  }
  return [];
}

module.exports = { bundledIn, isBundled, places };
