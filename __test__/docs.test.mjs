/** What the documents say: their code runs, their commands exist, their links lead somewhere, no error code is missing. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { expect, test } from "vitest";
import { apiReference } from "../scripts/api-reference.mjs";
import { nodeBinary } from "../scripts/fetch.mjs";
import { RELEASES } from "../scripts/openclaw/releases.mjs";
import { cli } from "./cli/cli.mjs";
import { createHost } from "./support/host.mjs";

const ROOT = join(import.meta.dirname, "..");
const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));

const DOCUMENTS = [
  ...readdirSync(ROOT).filter((name) => name.endsWith(".md")),
  ...readdirSync(join(ROOT, "docs")).flatMap((name) => (name.endsWith(".md") ? [join("docs", name)] : [])),
];
const text = (document) => readFileSync(join(ROOT, document), "utf8");
/** The generated reference is compared as a whole. */
const WRITTEN = DOCUMENTS.filter((document) => document !== join("docs", "api.md"));
const blocks = WRITTEN.flatMap((document) =>
  [...text(document).matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(([, language, code]) => ({ document, language, code })),
);
const of = (language) => blocks.filter((block) => block.language === language).map((block, at) => ({ ...block, at }));

test("the documents are there, and every code block says what it is", () => {
  expect(DOCUMENTS).toEqual(expect.arrayContaining(["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"]));
  expect(new Set(blocks.map(({ language }) => language))).toEqual(new Set(["diff", "js", "sh", "text"]));
});

/** What examples leave to their reader. */
const PRELUDE = `
  globalThis.asked = 0;
  globalThis.askTheProvider = async () => {
    globalThis.asked += 1;
    return { access_token: "new", refresh_token: "next", expires_in: 3600 };
  };
  globalThis.refresh = () => ({ access: "new", refresh: "next", expires: Date.now() + 3_600_000 });
  process.on("exit", () => process.stdout.write(String(globalThis.asked)));
`;

test.each(of("js"))("the code in $document runs ($at)", ({ code }) => {
  const host = createHost();
  const login = { type: "oauth", provider: "openai-codex", access: "old", refresh: "r", expires: 1 };
  const asks = code.includes("askTheProvider");
  if (asks) host.seed("main", JSON.stringify({ version: 1, profiles: { "openai-codex:default": login } }));
  mkdirSync(join(host.root, "node_modules"));
  symlinkSync(ROOT, join(host.root, "node_modules", "oauth-refresh-lock"));
  if (existsSync(join(ROOT, "examples", "sqlite-store.mjs"))) {
    symlinkSync(join(ROOT, "examples", "sqlite-store.mjs"), join(host.root, "sqlite-store.mjs"));
  }
  writeFileSync(join(host.root, "prelude.mjs"), PRELUDE);
  writeFileSync(join(host.root, "example.mjs"), code.replaceAll("/var/lib/acme", host.root));
  const isOld = Number(process.versions.node.split(".")[0]) < 22;
  const node = code.includes("sqlite") && isOld ? nodeBinary(22) : process.execPath;
  const options = ["--disable-warning=ExperimentalWarning", "--import", "./prelude.mjs"];
  const { stdout, stderr, status } = spawnSync(node, [...options, "example.mjs"], {
    cwd: host.root,
    encoding: "utf8",
    env: { PATH: process.env.PATH, HOME: host.root, OPENCLAW_STATE_DIR: host.stateDir, ACME_SECRET: "secret" },
  });
  expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
  expect(stdout).toBe(asks ? "1" : "0");
});

test.each(
  of("sh").flatMap(({ document, code }) =>
    code
      .trim()
      .split("\n")
      .map((line) => ({ document, line })),
  ),
)("$document: `$line` can be run", ({ line }) => {
  const [command, ...args] = line
    .replace(/\s#.*$/, "")
    .trim()
    .split(/\s+/);
  if (command === "npx") {
    const [name, ...rest] = args;
    expect(name).toBe("oauth-refresh-lock");
    expect(cli([...rest, "--help"]).status).toBe(0);
    return;
  }
  expect(command).toBe("npm");
  const [verb, script] = args;
  if (verb === "install") expect(script).toBe("oauth-refresh-lock");
  else expect(scripts).toHaveProperty(verb === "run" ? script : verb);
});

test.each(of("diff"))("what the diff in $document adds is what is applied to the release ($at)", ({ code }) => {
  const squeeze = (given) => given.replaceAll(/\s+/g, " ").trim();
  const variants = RELEASES.flatMap(({ variants }) => Object.values(variants));
  const added = code.split("\n").filter((line) => line.startsWith("+"));
  expect(added.length).toBeGreaterThan(1);
  const isApplied = (changes) => {
    const text = squeeze(changes.map(({ to }) => to).join("\n"));
    return added.every((line) => text.includes(squeeze(line.slice(1))));
  };
  expect(variants.some(isApplied)).toBe(true);
});

test.each(DOCUMENTS.map((document) => ({ document })))(
  "the links of $document lead to files and headings",
  ({ document }) => {
    const slug = (heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\w\- ]/g, "")
        .replaceAll(" ", "-");
    for (const [, link] of text(document).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(link)) continue;
      const [file, anchor] = link.split("#");
      const path = file ? join(dirname(join(ROOT, document)), file) : join(ROOT, document);
      expect(existsSync(path), `${document}: ${link}`).toBe(true);
      if (!anchor) continue;
      const target = text(relative(ROOT, path));
      const headings = [...target.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => slug(heading));
      const anchors = [...target.matchAll(/<a id="([^"]+)">/g)].map(([, id]) => id);
      expect([...headings, ...anchors], `${document}: ${link}`).toContain(anchor);
    }
  },
);

test("docs/api.md is what index.d.ts says", { timeout: 180_000 }, () => {
  expect(text("docs/api.md")).toBe(apiReference());
});

test("docs/errors.md has every code that index.d.ts declares, in its order", () => {
  const declared = readFileSync(join(ROOT, "index.d.ts"), "utf8").match(/export type ErrorCode =(.*?);\n\n/s)[1];
  const codes = [...declared.matchAll(/\| "(\w+)"/g)].map(([, code]) => code);
  const told = [...text("docs/errors.md").matchAll(/^\| `(\w+)` \|/gm)].map(([, code]) => code);
  expect(codes.length).toBeGreaterThan(20);
  expect(told).toEqual(codes);
});
