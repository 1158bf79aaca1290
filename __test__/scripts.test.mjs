import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { apply } from "../scripts/openclaw/patch.mjs";

const BENCH = fileURLToPath(new URL("../bench/run.mjs", import.meta.url));

/** A short run without peers; what it takes is nobody's business here. */
async function page(...cases) {
  const out = mkdtempSync(join(tmpdir(), "oauth-refresh-lock-bench-"));
  onTestFinished(() => rmSync(out, { recursive: true, force: true }));
  const only = cases.flatMap((name) => ["--only", name]);
  await promisify(execFile)(process.execPath, [BENCH, "--quick", "--alone", ...only, "--out", out]);
  return readFileSync(join(out, "benchmarks.md"), "utf8");
}

/** The cells of the row with this name. */
function row(text, name) {
  const line = text.split("\n").find((line) => line.startsWith(`| ${name} |`));
  return line
    ?.split("|")
    .slice(2, -1)
    .map((cell) => cell.trim());
}

test("the benchmarks measure, and name the contenders that are missing", async () => {
  const text = await page("pair", "storm");
  const [p50, p99] = row(text, "ours").map(Number);
  expect(p50).toBeGreaterThan(0);
  expect(p99).toBeGreaterThanOrEqual(p50);
  expect(row(text, "fs-ext")[0]).toBe("not available: left out (--alone)");
  const [, , calls, wrong] = row(text, "ours, refresh function");
  expect([calls, wrong]).toEqual(["1", "0"]);
});

/** How a maintainer's diff is applied to a bundle of OpenClaw's. */

const MAIN = [
  'import { a as lock, b as unused } from "./file-x.mjs";',
  "//#region src/main.ts",
  "function old() {",
  "\treturn lock();",
  "}",
  "//#endregion",
  "//#region src/other.ts",
  "function old2() {",
  "\treturn unused(old());",
  "}",
  "//#endregion",
  "export { old as a, old2 as b };",
  "",
].join("\n");
const bundles = new Map([
  ["main-x.mjs", MAIN],
  ["user-x.mjs", "//#region src/user.ts\nfunction use() {\n\treturn 1;\n}\n//#endregion\nexport { use as a };\n"],
]);
const others = [...bundles.values(), 'import { c as helper } from "./helper-x.mjs";\n'];
const edit = (more) => ({ of: "src/main.ts", from: "lock()", to: "1", ...more });

test("an edit counts in its source file alone, and what nothing uses any more is neither imported nor exported", () => {
  const edits = [
    edit({ from: "function old()", until: "}\n", to: "" }),
    edit({ of: "src/other.ts", from: "old()", to: "1" }),
  ];
  const changed = apply(bundles, { edits }, others);
  expect([...changed.keys()]).toEqual(["main-x.mjs"]);
  const text = changed.get("main-x.mjs");
  expect(text).toContain('import { b as unused } from "./file-x.mjs";');
  expect(text).not.toContain("function old()");
  expect(text).toContain("return unused(1);");
  expect(text).toContain("export { old2 as b };");
});

test("`before` ends an edit without being part of it", () => {
  const edits = [edit({ from: "\treturn", before: "}\n", to: "\treturn 2;\n" })];
  expect(apply(bundles, { edits }, others).get("main-x.mjs")).toContain("function old() {\n\treturn 2;\n}\n");
});

test("a new source file brings its imports, and its caller imports it", () => {
  const text =
    'import { helper } from "./helper.js";\nimport { hash } from "node:crypto";\nexport function fresh() {\n  return helper(hash);\n}\n';
  const modules = [{ path: "src/fresh.ts", beside: "src/main.ts", text }];
  const edits = [edit({ of: "src/user.ts", from: "return 1;", to: "return fresh();" })];
  const changed = apply(bundles, { modules, edits }, others);
  const main = changed.get("main-x.mjs");
  expect(main).toContain('import { c as helper } from "./helper-x.mjs";');
  expect(main).toContain('import { hash } from "node:crypto";');
  expect(main).toContain("//#region src/fresh.ts\nfunction fresh() {");
  expect(main).toContain("export { fresh };");
  expect(changed.get("user-x.mjs")).toMatch(/^import \{ fresh \} from "\.\/main-x\.mjs";\n/);
});

test("a name that only a new source file imports is exported where it is defined", () => {
  const text = 'import { use } from "./user.js";\nexport function fresh() {\n  return use();\n}\n';
  const modules = [{ path: "src/fresh.ts", beside: "src/main.ts", text }];
  const kept = new Map([...bundles, ["user-x.mjs", bundles.get("user-x.mjs").replace("export { use as a };\n", "")]]);
  const changed = apply(kept, { modules, edits: [], uses: ["src/user.ts"] }, others);
  expect(changed.get("main-x.mjs")).toContain('import { use } from "./user-x.mjs";');
  expect(changed.get("user-x.mjs")).toMatch(/\nexport \{ use \}; \/\/ exported by the source\n$/);
});

test.each([
  ["an anchor that is gone", { edits: [edit({ from: "nowhere" })] }, "src/main.ts does not have exactly once: nowhere"],
  ["an anchor that is there twice", { edits: [edit({ from: "old", of: "src/other.ts" })] }, "exactly once"],
  ["an end that is gone", { edits: [edit({ until: "nowhere" })] }, "does not have after lock(): nowhere"],
  ["a source file that is gone", { edits: [edit({ of: "src/gone.ts" })] }, "0 bundles have src/gone.ts"],
  [
    "an import of what the release does not have",
    { edits: [], modules: [{ path: "a", beside: "src/main.ts", text: 'import { gone } from "./gone.js";\n' }] },
    "no bundle imports gone",
  ],
])("%s is told", (_, diff, words) => {
  expect(() => apply(bundles, diff, others)).toThrow(words);
});
