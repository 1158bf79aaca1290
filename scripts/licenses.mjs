// What is linked into an addon, for the package that carries it: crates, and Rust's standard library; with their licences, and as an
// SBOM (a software bill of materials).
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const LICENSE_FILE = /^(licen[cs]e|copying|copyright|notice|unlicense)/i;
/** The terms of the MIT licence, which are ours too. */
const MIT_TERMS = readFileSync(join(root, "LICENSE"), "utf8").replace(/^.*?(?=Permission is hereby granted)/s, "");

function output(command, args) {
  const { stdout, stderr, status, error } = spawnSync(command, args, {
    cwd: root,
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  if (error || status !== 0) throw new Error(`${command} ${args.join(" ")} failed: ${error?.message ?? stderr}`);
  return stdout;
}

/** The crates that the addon of a platform (Rust's name for it) is linked from, without our own. */
function linkedCrates(triple) {
  const args = ["metadata", "--locked", "--format-version=1", "--features=binding", `--filter-platform=${triple}`];
  const { packages, resolve } = JSON.parse(output("cargo", args));
  const crates = new Map(packages.map((crate) => [crate.id, crate]));
  const dependencies = new Map(resolve.nodes.map(({ id, deps }) => [id, deps]));
  const linked = new Set();
  const visit = (id) => {
    // A macro runs in the compiler; none of it is in the addon.
    const isMacro = crates.get(id).targets.some(({ kind }) => kind.includes("proc-macro"));
    if (isMacro || linked.has(id)) return;
    linked.add(id);
    // Of no kind are those that are neither for building nor for tests.
    for (const { pkg, dep_kinds: kinds } of dependencies.get(id))
      if (kinds.some(({ kind }) => kind === null)) visit(pkg);
  };
  visit(resolve.root);
  linked.delete(resolve.root);
  return [...linked].map((id) => crates.get(id));
}

/** The texts that lie beside a crate's manifest. */
function textsBeside({ manifest_path: manifest }) {
  const directory = manifest && dirname(manifest);
  const files = directory ? readdirSync(directory).filter((file) => LICENSE_FILE.test(file)) : [];
  return files.map((file) => readFileSync(join(directory, file), "utf8"));
}

/**
 * The texts of a crate's licence. One that comes without has those of another crate from the same repository; and of MIT the text
 * is known but for its names.
 */
function textsOf(crate, crates) {
  const { name, license, authors, repository } = crate;
  const isSibling = (other) => repository && other.repository === repository && other.license === license;
  for (const one of [crate, ...crates.filter(isSibling)]) {
    const texts = textsBeside(one);
    if (texts.length > 0) return texts;
  }
  if (!/\bMIT\b/.test(license ?? "")) throw new Error(`${name} comes without the text of its licence, ${license}`);
  const names = authors.map((author) => author.replace(/ *<.*>/, "")).join(", ");
  return [`MIT License\n\nCopyright (c) ${names}\n\n${MIT_TERMS}`];
}

const standardLibrary = () => ({
  name: "Rust's standard library",
  version: output("rustc", ["--version"]).split(" ")[1],
  license: "MIT OR Apache-2.0",
  authors: ["The Rust Project Contributors"],
});

/** The SBOM of a platform's package, in CycloneDX's JSON. */
export function sbom(triple, { name, version }) {
  const component = (crate, more) => ({
    type: "library",
    name: crate.name,
    version: crate.version,
    // SPDX has no slash, with which old manifests say "or".
    licenses: [{ expression: crate.license.replace(/ *\/ */g, " OR ") }],
    ...more,
  });
  const crates = linkedCrates(triple).map((crate) =>
    component(crate, { purl: `pkg:cargo/${crate.name}@${crate.version}` }),
  );
  const document = {
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      component: { type: "library", name, version, purl: `pkg:npm/${name.replace("@", "%40")}@${version}` },
    },
    components: [...crates.sort((one, other) => one.name.localeCompare(other.name)), component(standardLibrary())],
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** The text of THIRD-PARTY-LICENSES for a platform, by Rust's name for it. */
export function thirdPartyLicenses(triple) {
  /** By the text without its line breaks: who has it. */
  const texts = new Map();
  const crates = linkedCrates(triple);
  const list = [...crates, standardLibrary()].map((crate) => {
    const title = `${crate.name} ${crate.version}`;
    for (const text of textsOf(crate, crates)) {
      const key = text.replace(/\s+/g, " ").trim();
      const entry = texts.get(key) ?? { text: text.replaceAll("\r\n", "\n").trim(), titles: [] };
      entry.titles.push(title);
      texts.set(key, entry);
    }
    return `${title}: ${crate.license}`;
  });
  const line = "-".repeat(80);
  const parts = [...texts.values()].map(({ text, titles }) => `${line}\n${titles.join(", ")}\n${line}\n\n${text}\n`);
  return `The addon in this package is linked from:\n\n${list.sort().join("\n")}\n\n${parts.join("\n")}`;
}
