/** The workflow against the package: a platform, a Node or a script that one of them forgets is found here, not by a release. */
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "..");
const { TARGETS } = createRequire(import.meta.url)("../lib/native.js");
const read = (...path) => readFileSync(join(ROOT, ...path), "utf8");
const workflow = read(".github", "workflows", "ci.yml");

/** By name: the text of each job. */
const jobs = new Map(
  workflow
    .slice(workflow.indexOf("\njobs:\n"))
    .split(/^(?= {2}[\w-]+:$)/m)
    .slice(1)
    .map((text) => [/^ {2}([\w-]+):/.exec(text)[1], text]),
);
const found = (pattern, ...names) =>
  names.flatMap((name) => [...jobs.get(name).matchAll(pattern)].map(([, value]) => value));
const list = (text) => text.split(",").map((item) => item.trim());

test("every platform is built, and tested where it is to run", () => {
  expect([...jobs.keys()]).toEqual(["test", "build-linux", "build-native", "pack", "smoke", "smoke-linux", "publish"]);
  const [linux] = found(/^ +target: \[(.*)\]$/gm, "build-linux");
  const built = [...list(linux), ...found(/\{ target: ([\w-]+),/g, "build-native")];
  expect(built.sort()).toEqual([...TARGETS].sort());
  expect(found(/\{ target: ([\w-]+),/g, "smoke", "smoke-linux").sort()).toEqual([...TARGETS].sort());
});

test("the packages are tested on every supported Node", () => {
  const [, supported] = /OTHER_NODES = \[(.*)\]/.exec(read("scripts", "test.mjs"));
  const nodes = found(/^ +node: \[(.*)\]$/gm, "smoke", "smoke-linux");
  expect(nodes).toEqual([supported, supported]);
  const { engines } = JSON.parse(read("package.json"));
  expect(engines.node).toBe(`>=${list(supported)[0]}`);
});

test("what is published has passed every other job, and is built on main without a token or npm's packages beside it", () => {
  const needs = (name) => found(/^ {4}needs: \[(.*)\]$/gm, name).flatMap(list);
  const passed = new Set();
  const visit = (name) => {
    passed.add(name);
    needs(name).forEach(visit);
  };
  visit("publish");
  expect([...passed].sort()).toEqual([...jobs.keys()].sort());
  expect(workflow).not.toMatch(/secrets\.|_TOKEN/);
  for (const name of ["build-linux", "build-native", "pack", "publish"])
    expect(jobs.get(name), name).not.toMatch(/npm (ci|install|run)\b/);
  expect(jobs.get("build-native")).toContain("scripts/setup.mjs --addon-only");
  // Elsewhere a token of GitHub's could be asked for, to publish as this workflow.
  for (const [name, text] of jobs) expect(text.includes("id-token: write"), name).toBe(name === "publish");
  for (const step of workflow.split(/^ +- /m).filter((step) => step.startsWith("uses: actions/checkout@")))
    expect(step).toContain("persist-credentials: false");
});

test("one exact Rust builds it all, and it is new enough", () => {
  const [, rust] = /^ {2}RUST: "(\d+\.\d+\.\d+)"$/m.exec(workflow);
  const [, least] = /^rust-version = "(.*)"$/m.exec(read("Cargo.toml"));
  expect(rust.localeCompare(least, "en", { numeric: true })).toBeGreaterThanOrEqual(0);
  const withRust = [...jobs].filter(([, text]) => text.includes("rustup ")).map(([name]) => name);
  expect(withRust).toEqual(["test", "build-linux", "build-native", "pack"]);
  for (const name of withRust) {
    expect(jobs.get(name), name).toMatch(/rustup toolchain install \$\{\{ env\.RUST \}\} --no-self-update/);
    expect(jobs.get(name), name).toMatch(/rustup default \$\{\{ env\.RUST \}\}/);
  }
});

test("what the workflow runs is there", () => {
  const { scripts } = JSON.parse(read("package.json"));
  const files = [...workflow.matchAll(/(?:node|sh) ((?:scripts|smoke)\/[\w./-]+)/g)].map(([, file]) => file);
  expect(new Set(files).size).toBe(5);
  expect(files.filter((file) => !existsSync(join(ROOT, file)))).toEqual([]);
  for (const [, name] of workflow.matchAll(/npm (?:run )?(\w+)$/gm)) expect(scripts).toHaveProperty(name);
});
