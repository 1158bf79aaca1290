// Bundles a program that holds a lock, with each of the usual tools, and runs what they made: where node_modules is, away from it,
// and with the addon's file beside it. 0.4 GB of tools are installed below target/ at the first run. Linux on x64.
//   npm run bundlers [-- TOOL…]
import { spawnSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { packagesDir } from "./fetch.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { packageOf, target } = createRequire(import.meta.url)("../lib/native.js");
const { files } = createRequire(import.meta.url)("../package.json");
const ADDON = `oauth-refresh-lock.${target()}.node`;
const SEA_FUSE = "NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2";

const TOOLS = packagesDir("webpack", {
  webpack: "5.113.0",
  "@vercel/ncc": "0.45.0",
  "@vercel/nft": "1.11.5",
  rollup: "4.68.8",
  "@rollup/rollup-linux-x64-gnu": "4.68.8",
  "@rollup/plugin-commonjs": "29.0.3",
  "@rollup/plugin-json": "6.1.0",
  "@rollup/plugin-node-resolve": "16.0.3",
  esbuild: "0.28.2",
  "@esbuild/linux-x64": "0.28.2",
  "@oven/bun-linux-x64": "1.4.5",
  postject: "1.0.0-alpha.6",
});
const tool = createRequire(join(TOOLS, "tools.js"));
const load = async (name) => {
  const module = await import(pathToFileURL(tool.resolve(name)).href);
  return module.default ?? module;
};

const BODY = `
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "bundled-"));
  withOAuthProfileLock("a", "b", async () => "held", { stateDir: dir })
    .then((held) => console.log(held), (error) => console.log(error.code + ": " + error.message))
    .finally(() => fs.rmSync(dir, { recursive: true }));
`;
const NAMES = { fs: "node:fs", os: "node:os", path: "node:path" };
const IMPORTS = `import { withOAuthProfileLock } from "oauth-refresh-lock";
${Object.entries(NAMES)
  .map(([name, from]) => `import ${name} from "${from}";\n`)
  .join("")}`;
const REQUIRES = `const { withOAuthProfileLock } = require("oauth-refresh-lock");
${Object.entries(NAMES)
  .map(([name, from]) => `const ${name} = require("${from}");\n`)
  .join("")}`;

function run(command, args, cwd) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { cwd, encoding: "utf8" });
  if (error || status !== 0) throw new Error(`${command} ${args.join(" ")}: ${error?.message ?? stdout + stderr}`);
  return stdout.trim();
}

/** An application as npm installs it. */
function project() {
  const home = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-bundlers-"));
  const modules = join(home, "node_modules");
  for (const name of ["package.json", ...files])
    cpSync(join(root, name), join(modules, "oauth-refresh-lock", name), { recursive: true });
  const platform = join(modules, packageOf(target()));
  mkdirSync(platform, { recursive: true });
  copyFileSync(join(root, "npm", target(), "package.json"), join(platform, "package.json"));
  copyFileSync(join(root, ADDON), join(platform, ADDON));
  writeFileSync(join(home, "package.json"), `{ "private": true }`);
  writeFileSync(join(home, "app.cjs"), REQUIRES + BODY);
  writeFileSync(join(home, "app.mjs"), IMPORTS + BODY);
  mkdirSync(join(home, "dist"));
  return home;
}

async function rollup(home, format, file) {
  const names = ["@rollup/plugin-node-resolve", "@rollup/plugin-commonjs", "@rollup/plugin-json"];
  const [resolve, commonjs, json] = await Promise.all(names.map(load));
  const plugins = [resolve({ preferBuiltins: true }), commonjs(), json()];
  const { rollup } = await load("rollup");
  const bundle = await rollup({ input: join(home, "app.mjs"), plugins, onwarn() {} });
  await bundle.write({ file, format });
  await bundle.close();
}

async function esbuild(home, options) {
  const { build } = await load("esbuild");
  await build({ absWorkingDir: home, bundle: true, platform: "node", logLevel: "error", ...options });
}

/**
 * Each makes `dist/` of a project, and returns how its program is run. `takes`: the tool takes the addon along.
 *
 * @type {Record<string, { takes?: boolean, make: (home: string, dist: string) => Promise<string[]> }>}
 */
const MAKERS = {
  webpack: {
    async make(home, dist) {
      const webpack = await load("webpack");
      const output = { path: dist, filename: "app.cjs" };
      const given = { mode: "production", target: "node", context: home, entry: "./app.cjs", output };
      const stats = await new Promise((resolve, reject) =>
        webpack(given, (error, stats) => (error ? reject(error) : resolve(stats))),
      );
      if (stats.hasErrors()) throw new Error(stats.toString());
      return [process.execPath, "app.cjs"];
    },
  },
  ncc: {
    takes: true,
    async make(home, dist) {
      run(process.execPath, [tool.resolve("@vercel/ncc/dist/ncc/cli.js"), "build", "app.cjs", "-o", dist, "-q"], home);
      return [process.execPath, "index.cjs"];
    },
  },
  nft: {
    takes: true,
    async make(home, dist) {
      const { nodeFileTrace } = await load("@vercel/nft");
      const { fileList } = await nodeFileTrace([join(home, "app.mjs")], { base: home });
      for (const file of fileList) cpSync(join(home, file), join(dist, file));
      return [process.execPath, "app.mjs"];
    },
  },
  "rollup, ES module": {
    async make(home, dist) {
      await rollup(home, "es", join(dist, "app.mjs"));
      return [process.execPath, "app.mjs"];
    },
  },
  "rollup, CommonJS": {
    async make(home, dist) {
      await rollup(home, "cjs", join(dist, "app.cjs"));
      return [process.execPath, "app.cjs"];
    },
  },
  "esbuild, CommonJS": {
    async make(home, dist) {
      await esbuild(home, { entryPoints: ["app.mjs"], format: "cjs", outfile: join(dist, "app.cjs") });
      return [process.execPath, "app.cjs"];
    },
  },
  "esbuild, ES module": {
    async make(home, dist) {
      // As esbuild has it for every package in CommonJS.
      const js = `import { createRequire } from "node:module"; const require = createRequire(import.meta.url);`;
      const banner = { js };
      await esbuild(home, { entryPoints: ["app.mjs"], format: "esm", outfile: join(dist, "app.mjs"), banner });
      return [process.execPath, "app.mjs"];
    },
  },
  "bun build --compile": {
    takes: true,
    async make(home, dist) {
      const bun = join(dirname(tool.resolve("@oven/bun-linux-x64/package.json")), "bin", "bun");
      run(bun, ["build", "--compile", "app.mjs", "--outfile", join(dist, "app")], home);
      return ["./app"];
    },
  },
  "Node SEA": {
    async make(home, dist) {
      await esbuild(home, { entryPoints: ["app.cjs"], format: "cjs", outfile: join(home, "sea.cjs") });
      const config = { main: "sea.cjs", output: "sea.blob", disableExperimentalSEAWarning: true };
      writeFileSync(join(home, "sea.json"), JSON.stringify(config));
      run(process.execPath, ["--experimental-sea-config", "sea.json"], home);
      const program = join(dist, "app");
      copyFileSync(process.execPath, program);
      const postject = join(dirname(tool.resolve("postject/package.json")), "dist", "cli.js");
      run(process.execPath, [postject, program, "NODE_SEA_BLOB", "sea.blob", "--sentinel-fuse", SEA_FUSE], home);
      return ["./app"];
    },
  },
};

const SENTENCE = /^addon_unavailable: .*Keep oauth-refresh-lock out of the bundle, or put .* beside it$/;
const isHeld = (said) => said === "held";
let missed = 0;
const tell = (said, isRight) => {
  if (isRight) return isHeld(said) ? "runs" : "says what to do";
  missed += 1;
  return `WRONG: ${said}`;
};

const wanted = process.argv.slice(2);
const chosen = Object.entries(MAKERS).filter(
  ([name]) => wanted.length === 0 || wanted.some((part) => name.includes(part)),
);
if (chosen.length === 0) throw new Error(`no such tool; there are: ${Object.keys(MAKERS).join("; ")}`);
console.log("| tool | where node_modules is | alone | with the addon's file beside it |\n| --- | --- | --- | --- |");
for (const [name, { takes, make }] of chosen) {
  const home = project();
  const elsewhere = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-bundled-"));
  try {
    const dist = join(home, "dist");
    const [command, ...args] = await make(home, dist);
    const inPlace = run(command, args, dist);
    cpSync(dist, elsewhere, { recursive: true });
    // Nothing of it is to be found where it was.
    rmSync(home, { recursive: true });
    const alone = run(command, args, elsewhere);
    copyFileSync(join(root, ADDON), join(elsewhere, basename(ADDON)));
    const beside = run(command, args, elsewhere);
    const cells = [
      tell(inPlace, isHeld(inPlace)),
      tell(alone, takes ? isHeld(alone) : SENTENCE.test(alone)),
      tell(beside, isHeld(beside)),
    ];
    console.log(`| ${[name, ...cells].join(" | ")} |`);
  } catch (error) {
    missed += 1;
    console.log(`| ${name} | FAILED: ${error.message.split("\n").slice(0, 6).join(" ")} | | |`);
  } finally {
    for (const directory of [home, elsewhere]) rmSync(directory, { recursive: true, force: true });
  }
}
process.exitCode = missed > 0 ? 1 : 0;
