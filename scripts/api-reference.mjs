// Writes target/api.md, a reference to read, from index.d.ts. TypeDoc needs an older TypeScript than the one we check with, so it is installed apart.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { packagesDir } from "./fetch.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const TOOLS = { typedoc: "0.28.20", "typedoc-plugin-markdown": "4.14.1", typescript: "5.9.3" };

const HEAD = "# API\n\n";

const OPTIONS = {
  plugin: ["typedoc-plugin-markdown"],
  router: "module",
  readme: "none",
  sort: ["source-order"],
  groupOrder: ["Functions", "Interfaces", "*"],
  disableSources: true,
  entryFileName: "api",
  hideBreadcrumbs: true,
  hidePageHeader: true,
  hidePageTitle: true,
  useCodeBlocks: true,
  expandParameters: true,
  parametersFormat: "table",
  interfacePropertiesFormat: "table",
  typeAliasPropertiesFormat: "table",
  typeDeclarationFormat: "table",
  // What an editor shows of a member is what stands here.
  validation: { notDocumented: true },
  requiredToBeDocumented: ["Class", "Function", "Interface", "Property", "Method", "TypeAlias", "Variable"],
  // OpenClaw's, for proper-lockfile.
  intentionallyNotDocumented: ["retries", "factor", "minTimeout", "maxTimeout", "randomize"].map(
    (name) => `OAUTH_REFRESH_LOCK_OPTIONS.__type.retries.__type.${name}`,
  ),
  treatWarningsAsErrors: true,
};

/** The reference as Markdown. */
export function apiReference() {
  const tools = packagesDir("typedoc", TOOLS);
  const work = mkdtempSync(join(tools, "run-"));
  try {
    const entry = join(work, "index.d.ts");
    writeFileSync(entry, readFileSync(join(root, "index.d.ts")));
    const compilerOptions = { strict: true, module: "nodenext", types: [], lib: ["es2022", "dom"] };
    writeFileSync(join(work, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["index.d.ts"] }));
    writeFileSync(join(work, "typedoc.json"), JSON.stringify({ ...OPTIONS, entryPoints: [entry], out: "out" }));
    const typedoc = join(tools, "node_modules", "typedoc", "bin", "typedoc");
    const { status, stdout, stderr } = spawnSync(process.execPath, [typedoc], { cwd: work, encoding: "utf8" });
    if (status !== 0) throw new Error(`TypeDoc failed: ${stdout}${stderr}`);
    return HEAD + readFileSync(join(work, "out", "api.md"), "utf8");
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  mkdirSync(join(root, "target"), { recursive: true });
  writeFileSync(join(root, "target", "api.md"), apiReference());
}
