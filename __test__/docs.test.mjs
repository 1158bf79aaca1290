/** What the documents say: their code runs, their commands exist, their links lead somewhere, no error code is missing. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import * as oauthRefreshLock from "oauth-refresh-lock";
import { expect, onTestFinished, test } from "vitest";
import { startProvider as startPlainProvider } from "../cli/provider.mjs";
import { apiReference } from "../scripts/api-reference.mjs";
import { nodeBinary } from "../scripts/fetch.mjs";
import { RELEASES } from "../scripts/openclaw/releases.mjs";
import { cli } from "./cli/cli.mjs";
import { ended } from "./support/child.mjs";
import { startEtcdStandIn } from "./support/etcd-stand-in.mjs";
import { createHost, usable } from "./support/host.mjs";

const ROOT = join(import.meta.dirname, "..");
const DOCUMENTS = [
  ...readdirSync(ROOT).filter((name) => name.endsWith(".md")),
  ...readdirSync(join(ROOT, "docs")).flatMap((name) => (name.endsWith(".md") ? [join("docs", name)] : [])),
];
const read = (document) => readFileSync(join(ROOT, document), "utf8");
const { scripts } = JSON.parse(read("package.json"));
const blocks = DOCUMENTS.flatMap((document) =>
  [...read(document).matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(([, language, code]) => ({ document, language, code })),
);
const of = (language) => blocks.filter((block) => block.language === language).map((block, at) => ({ ...block, at }));

test("the documents are there, and every code block says what it is", () => {
  expect(DOCUMENTS).toEqual(expect.arrayContaining(["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"]));
  expect(new Set(blocks.map(({ language }) => language))).toEqual(
    new Set(["diff", "ini", "js", "json", "python", "sh", "text", "toml", "yaml"]),
  );
});

/** The login that each example refreshes, in a document's order; `null`: none. */
const REFRESHES = {
  "README.md": ["acme:owner", "openai-codex:default", "acme:owner"],
  "docs/calls.md": ["openai-codex:default"],
  "docs/claims.md": [null],
  "docs/client.md": ["acme:owner"],
  "docs/many-hosts.md": ["acme:owner"],
  "docs/operations.md": [null],
  "docs/platforms.md": [null],
  "docs/stores.md": ["acme:owner", null],
  "docs/token-endpoint.md": ["acme:team"],
};
/** Those of the recipes are run by recipes.test.mjs. */
const ofExamples = of("js").filter(({ document }) => document !== "docs/recipes.md");
const examples = Object.entries(REFRESHES).flatMap(([document, logins]) => {
  const codes = ofExamples.filter((block) => block.document === document);
  return logins.map((login, at) => ({ document, at, login, code: codes[at]?.code }));
});

test("it is known what every example is there for", () => {
  expect(examples.map(({ code }) => code).sort()).toEqual(ofExamples.map(({ code }) => code).sort());
});

/** What examples leave to their reader; and what came of them, on standard output. */
const PRELUDE = `
  const found = (globalThis.found = { asked: 0 });
  globalThis.askTheProvider = async () => {
    found.asked += 1;
    return { access_token: "new", refresh_token: "next", expires_in: 3600 };
  };
  globalThis.refresh = async () => {
    found.asked += 1;
    return { access: "new", refresh: "next", expires: Date.now() + 3_600_000 };
  };
  process.on("exit", () => process.stdout.write(JSON.stringify(found)));
`;

/** A token endpoint on loopback, which counts its calls. */
async function startProvider() {
  const asked = { asked: 0 };
  const { url, close } = await startPlainProvider(async (sent, { headers }) => {
    asked.asked += 1;
    asked.authorization = headers.authorization;
    asked.resource = sent.get("resource");
    return [200, { access_token: "new", refresh_token: "next", expires_in: 3600 }];
  });
  onTestFinished(close);
  return Object.assign(asked, { url });
}

/** Every login in the files below a directory, by profile id; links are not followed. */
function logins(directory) {
  const found = readdirSync(directory, { withFileTypes: true }).map((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return logins(path);
    return entry.name === "auth-profiles.json" ? JSON.parse(readFileSync(path, "utf8")).profiles : {};
  });
  return Object.assign({}, ...found);
}

test.each(examples)("the code in $document runs, and refreshes $login ($at)", async ({ code, login }) => {
  const host = createHost();
  const [provider] = login?.split(":") ?? [];
  const expired = { type: "oauth", provider, access: "old", refresh: "r", expires: 1 };
  // An example that tells how a login gets there has to do so.
  const logsIn = code.includes("const login = ");
  host.seed("main", JSON.stringify({ version: 1, profiles: login && !logsIn ? { [login]: expired } : {} }));
  mkdirSync(join(host.root, "node_modules"));
  symlinkSync(ROOT, join(host.root, "node_modules", "oauth-refresh-lock"));
  symlinkSync(join(ROOT, "examples", "sqlite-store.mjs"), join(host.root, "sqlite-store.mjs"));
  writeFileSync(join(host.root, "prelude.mjs"), PRELUDE);
  const endpoint = await startProvider();
  const coordinator = code.includes("COORDINATOR") ? await startEtcdStandIn() : undefined;
  const here = code
    .replaceAll("/var/lib/acme", host.root)
    .replaceAll("https://auth.acme.example/token", endpoint.url)
    .replace(/^const result = /m, "const result = found.result = ");
  const isInStore = code.includes("const store = ");
  writeFileSync(
    join(host.root, "example.mjs"),
    isInStore ? `${here}\nfound.held = store.load(${JSON.stringify(login)});` : here,
  );
  const isOld = Number(process.versions.node.split(".")[0]) < 22;
  const node = code.includes("sqlite") && isOld ? nodeBinary(22) : process.execPath;
  const child = spawn(node, ["--disable-warning=ExperimentalWarning", "--import", "./prelude.mjs", "example.mjs"], {
    cwd: host.root,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      PATH: process.env.PATH,
      HOME: host.root,
      OPENCLAW_STATE_DIR: host.stateDir,
      ACME_SECRET: "secret",
      COORDINATOR: coordinator?.url,
    },
  });
  const { stdout, ...end } = await ended(child);
  expect(end).toEqual({ stderr: "", status: 0 });

  const found = JSON.parse(stdout);
  expect(found.asked + endpoint.asked).toBe(login ? 1 : 0);
  if (login) expect(found.held ?? logins(host.root)[login]).toMatchObject({ access: "new", refresh: "next" });
  if (here !== code && here.includes("found.result")) expect(found.result.outcome).toBe("refreshed");
  if (coordinator) expect(coordinator.rows.size).toBe(1);
  if (endpoint.asked) {
    const resource = code.includes("resource:") ? "https://api.acme.example/" : null;
    const authorization = code.includes("ACME_SECRET") ? `Basic ${btoa("agents:secret")}` : undefined;
    const sent = { authorization, resource };
    expect(endpoint).toMatchObject(sent);
  }
});

const lines = of("sh").flatMap(({ document, code }) =>
  code
    .trim()
    .split("\n")
    .map((line) => ({ document, line })),
);

test.each(lines)("$document: `$line` can be run", ({ line }) => {
  const [command, ...args] = line
    .replace(/\s#.*$/, "")
    .trim()
    .split(/\s+/);
  if (command === "npm") {
    const [verb, script] = args;
    if (verb === "install") expect(script).toBe("oauth-refresh-lock");
    else expect(scripts).toHaveProperty(verb === "run" ? script : verb);
    return;
  }
  const [program, ...rest] = args;
  expect(`${command} ${program}`).toMatch(/^(?:npx oauth-refresh-lock|node cli\/main\.mjs)$/);
  const host = createHost({ main: usable() });
  if (rest[0] === "storm") rest.push("--processes", "3");
  const { stdout, stderr, status } = cli(rest, { OPENCLAW_STATE_DIR: host.stateDir });
  expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
  if (rest.includes("--json")) expect(JSON.parse(stdout)).toBeTypeOf("object");
  else expect(stdout).not.toBe("");
});

const squeeze = (given) => given.replaceAll(/\s+/g, " ").trim();
const textOf = ({ modules = [], edits, imports = {} }) =>
  squeeze([...modules.map(({ text }) => text), ...edits.map(({ to }) => to), ...Object.values(imports)].join("\n"));
const diffs = RELEASES.flatMap(({ variants }) => Object.values(variants).filter(Boolean));

test.each(of("diff"))("the diff in $document adds the lines that are applied to the release ($at)", ({ code }) => {
  const added = code.split("\n").filter((line) => line.startsWith("+") && !line.startsWith("+++ "));
  expect(added.length).toBeGreaterThan(1);
  const isApplied = (diff) => added.every((line) => textOf(diff).includes(squeeze(line.slice(1))));
  expect(diffs.some(isApplied)).toBe(true);
});

test("the documents show the whole refresh of the newest release, its new files to the last line", () => {
  const { modules } = RELEASES.at(-1).variants.full;
  const shown = squeeze(
    of("diff")
      .map(({ code }) => code.replaceAll(/^\+/gm, ""))
      .join("\n"),
  );
  expect(modules.length).toBe(3);
  for (const { text } of modules) expect(shown).toContain(squeeze(text));
});

test.each(DOCUMENTS.map((document) => ({ document })))(
  "the links of $document lead to files and headings",
  ({ document }) => {
    const slug = (heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\w\- ]/g, "")
        .replaceAll(" ", "-");
    for (const [, link] of read(document).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(link)) continue;
      const [file, anchor] = link.split("#");
      const path = file ? join(dirname(join(ROOT, document)), file) : join(ROOT, document);
      expect(existsSync(path), `${document}: ${link}`).toBe(true);
      if (!anchor) continue;
      const target = read(relative(ROOT, path));
      const headings = [...target.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => slug(heading));
      const anchors = [...target.matchAll(/<a id="([^"]+)">/g)].map(([, id]) => id);
      expect([...headings, ...anchors], `${document}: ${link}`).toContain(anchor);
    }
  },
);

test("a reference can be made of index.d.ts, with every function that there is", () => {
  const functions = Object.entries(oauthRefreshLock).filter(([name]) => /^[a-z]/.test(name));
  const named = [...apiReference().matchAll(/^### (\w+)\(\)$/gm)].map(([, name]) => name);
  expect(functions.length).toBeGreaterThan(8);
  expect(named).toEqual(expect.arrayContaining(functions.map(([name]) => name)));
});

test("docs/errors.md has every code that index.d.ts declares, in its order", () => {
  const declared = read("index.d.ts").match(/export type ErrorCode =(.*?);\n\n/s)[1];
  const codes = [...declared.matchAll(/\| "(\w+)"/g)].map(([, code]) => code);
  const told = [...read("docs/errors.md").matchAll(/^\| `(\w+)` \|/gm)].map(([, code]) => code);
  expect(codes.length).toBeGreaterThan(20);
  expect(told).toEqual(codes);
});
