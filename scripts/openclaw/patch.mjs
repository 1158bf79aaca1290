// Applies a maintainer's diff to a release as npm has it: bundles, in which each source file is a region, functions keep their names
// and only imports are abbreviated.

/**
 * @typedef {object} Edit of the source file `of`, in the bundle that has it
 * @property {string} of such as `src/agents/auth-profiles/oauth-manager.ts`
 * @property {string} from where it begins: text that the file has exactly once
 * @property {string} [until] where it ends, included
 * @property {string} [before] where it ends, not included. Without either, `from` alone is replaced
 * @property {string} to what takes its place
 *
 * @typedef {object} Module a source file that is new
 * @property {string} path
 * @property {string} beside the source file into whose bundle it goes, before that file
 * @property {string} text
 *
 * @typedef {object} Diff
 * @property {readonly Module[]} [modules]
 * @property {readonly Edit[]} edits
 * @property {readonly string[]} [uses] source files that new ones import something of that the release imports nowhere else
 * @property {Record<string, string>} [imports] by source file: a line that it needs beside what it imports
 */

const IMPORT = /^import \{([^}]*)\} from ["']([^"']+)["'];\n/gm;
const opening = (path) => `//#region ${path}\n`;
const CLOSING = "\n//#endregion\n";

/** The source files that a diff touches. */
export const sourcesOf = ({ modules = [], edits, uses = [] }) => [
  ...uses,
  ...edits.map(({ of }) => of),
  ...modules.map(({ beside }) => beside),
];

/**
 * @param {Map<string, string>} bundles by file name: all that have a source file of the diff
 * @param {Iterable<string>} others the text of every bundle of the release, for what new source files import
 * @returns {Map<string, string>} those that it changes, as they are then
 */
export function apply(bundles, { modules = [], edits, imports = {}, uses = [] }, others) {
  const known = importsOf(others);
  const changed = new Map();
  for (const { text: module } of modules) {
    for (const name of importedBy(module).filter((name) => !known.has(name))) {
      const made = new RegExp(`^(?:async )?function ${name}\\(`, "m");
      const home = uses.map((path) => bundleOf(bundles, path)).find((home) => made.test(bundles.get(home)));
      if (!home) continue;
      changed.set(home, `${changed.get(home) ?? bundles.get(home)}export { ${name} };${NOT_OF_SOURCE}\n`);
      known.set(name, `{ ${name} } from "./${home}"`);
    }
  }
  const change = (path, with_) => {
    const name = bundleOf(bundles, path);
    changed.set(name, with_(changed.get(name) ?? bundles.get(name)));
  };
  for (const edit of edits) change(edit.of, (text) => edited(text, edit));
  for (const { path, beside, text: module } of modules) {
    const body = module
      .replace(IMPORT, "")
      .replace(/^export /gm, "")
      .trim();
    change(beside, (text) =>
      text.replace(opening(beside), () => `${opening(path)}${body}${CLOSING}${opening(beside)}`),
    );
  }
  for (const { beside, text: module } of modules) {
    change(beside, (text) => `${importsFor(module, text, known)}${text}export { ${exportsOf(module).join(", ")} };\n`);
    const home = bundleOf(bundles, beside);
    for (const [name, text] of changed) {
      const used = exportsOf(module).filter((name) => text.includes(`${name}(`));
      if (name !== home && used.length > 0)
        changed.set(name, `import { ${used.join(", ")} } from "./${home}";\n${text}`);
    }
  }
  for (const [of, line] of Object.entries(imports)) change(of, (text) => `${line}\n${text}`);
  for (const [name, text] of changed) changed.set(name, pruned(text));
  return changed;
}

/** Without imports that nothing uses any more, and exports that are gone. */
function pruned(text) {
  const counts = new Map();
  for (const [word] of text.matchAll(/[\w$]+/g)) counts.set(word, (counts.get(word) ?? 0) + 1);
  const kept = (names, isKept) => names.split(", ").filter((name) => isKept(name.split(" as ")));
  return text
    .replace(IMPORT, (line, names, from) => {
      const used = kept(names.trim(), (parts) => counts.get(parts.at(-1)) > 1);
      if (used.length === names.split(", ").length) return line;
      return used.length > 0 ? `import { ${used.join(", ")} } from "${from}";\n` : `import "${from}";\n`;
    })
    .replace(/^export \{ (.*) \};$/gm, (_, names) => {
      const there = kept(names, ([name]) => isBound(text, name));
      return `export { ${there.join(", ")} };`;
    });
}

function bundleOf(bundles, path) {
  const found = [...bundles].filter(([, text]) => text.includes(opening(path))).map(([name]) => name);
  if (found.length !== 1) throw new Error(`${found.length} bundles have ${path}: ${found}`);
  return found[0];
}

function edited(text, { of, from, until, before, to }) {
  const first = text.indexOf(opening(of));
  const last = text.indexOf(CLOSING, first) + CLOSING.length;
  const region = text.slice(first, last);
  const start = region.indexOf(from);
  if (start < 0 || region.indexOf(from, start + 1) >= 0) throw new Error(`${of} does not have exactly once: ${from}`);
  const end = until ?? before ?? from;
  const found = end === from ? start : region.indexOf(end, start + from.length);
  if (found < 0) throw new Error(`${of} does not have after ${from}: ${end}`);
  const stop = before === undefined ? found + end.length : found;
  return text.slice(0, first + start) + to + text.slice(first + stop);
}

/** What each abbreviated name stands for. */
function importsOf(texts) {
  const known = new Map();
  for (const text of texts) {
    for (const [, names, from] of text.matchAll(IMPORT)) {
      for (const [, short, name] of names.matchAll(/(\w+) as (\w+)/g))
        known.set(name, `{ ${short} as ${name} } from "${from}"`);
    }
  }
  return known;
}

/** Marks a line by which a bundle gives away what its source file exports, and the release's bundler has kept back. */
export const NOT_OF_SOURCE = " // exported by the source";

const importedBy = (module) =>
  [...module.matchAll(IMPORT)].flatMap(([, names, from]) =>
    from.startsWith("node:") ? [] : names.split(",").flatMap((name) => name.trim() || []),
  );

/** The lines with which a bundle gets what a new source file imports and the bundle lacks. */
function importsFor(module, bundle, known) {
  const lines = [];
  for (const [, names, from] of module.matchAll(IMPORT)) {
    for (const name of names.split(",").map((name) => name.trim())) {
      if (name === "" || isBound(bundle, name)) continue;
      const of = from.startsWith("node:") ? `{ ${name} } from "${from}"` : known.get(name);
      if (!of) throw new Error(`no bundle imports ${name}`);
      lines.push(`import ${of};\n`);
    }
  }
  return lines.join("");
}

const isBound = (bundle, name) =>
  new RegExp(
    `^(?:import \\{.*\\b${name}\\b.*\\} from|(?:async )?function ${name}\\(|(?:const|let|var|class) ${name}\\b)`,
    "m",
  ).test(bundle);
const exportsOf = (module) => [...module.matchAll(/^export (?:async )?function (\w+)/gm)].map(([, name]) => name);
