/** What a program did to the files below a directory, as the kernel saw it: `strace` writes it down, this reads it. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";

const MODELLED =
  "open openat creat write pwrite64 ftruncate fallocate fsync fdatasync rename renameat renameat2 unlink unlinkat mkdir mkdirat rmdir".split(
    " ",
  );
/** A program that does one of these to our files is refused. */
const NOT_MODELLED =
  "writev pwritev pwritev2 truncate link linkat symlink symlinkat copy_file_range sendfile sync_file_range".split(" ");
const FD = /^(?:\d+|AT_FDCWD)(?:<(.*)>)?$/s;

/** Runs a Node program, and returns what it did. A `mark` is what it wrote to its standard output. */
export function traced(args, { root, before, log }) {
  const strace = [
    "-f",
    "-y",
    "-xx",
    "-s",
    "1000000",
    "-e",
    `trace=${[...MODELLED, ...NOT_MODELLED].join(",")}`,
    "-o",
    log,
  ];
  const { status, stderr } = spawnSync("strace", [...strace, process.execPath, ...args], { encoding: "utf8" });
  if (status !== 0) throw new Error(`the program failed: ${stderr}`);
  return operationsOf(linesOf(readFileSync(log, "latin1")), root, before);
}

/** Whole calls, in the order of their ends; `before` tells how many had ended when it began. */
function* linesOf(text) {
  const begun = new Map();
  let ended = 0;
  for (const line of text.split("\n")) {
    const [, thread, rest] = /^(\d+) +(.*)$/s.exec(line) ?? [];
    if (rest === undefined) continue;
    const unfinished = /^(.*) <unfinished \.\.\.>$/s.exec(rest);
    if (unfinished) begun.set(thread, { text: unfinished[1], before: ended });
    else {
      const resumed = /^<\.\.\. \w+ resumed>(.*)$/s.exec(rest);
      const { text: start, before } = resumed ? begun.get(thread) : { text: "", before: ended };
      const whole = resumed ? start + resumed[1] : rest;
      const [, call, args, result] = /^(\w+)\((.*)\) += (-?\d+)/s.exec(whole) ?? [];
      if (call === undefined || Number(result) < 0) continue;
      yield { call, args: args.split(", ").map(decoded), result: Number(result), before };
      ended += 1;
    }
  }
}

const decoded = (text) =>
  text.replace(/(?:\\x[0-9a-f]{2})+/g, (hex) => Buffer.from(hex.replaceAll("\\x", ""), "hex").toString("latin1"));
const unquoted = (text) => text.slice(1, -1);
const pathOf = (fd) => FD.exec(fd)?.[1]?.replace(/ \(deleted\)$/, "");

function operationsOf(lines, root, before) {
  const operations = [];
  const names = new Map(before.names);
  const offsets = new Map();
  const sizes = new Map([...before.bytes].map(([node, bytes]) => [node, bytes.length]));
  // By descriptor: a file may lose its name while it is open.
  const nodes = new Map();
  let created = 0;
  const isBelow = (path) => path === root || path?.startsWith(`${root}/`);
  const at = (fd, path) => resolve(fd === undefined ? "/" : (pathOf(fd) ?? "/"), unquoted(path));
  const add = (operation) => void operations.push(operation);
  const wrote = (node, offset, data) => {
    add({ kind: "write", node, offset, data: Buffer.from(data, "latin1") });
    sizes.set(node, Math.max(sizes.get(node) ?? 0, offset + data.length));
  };

  const resized = (node, size) => {
    add({ kind: "size", node, size });
    sizes.set(node, size);
  };

  const opened = (path, flags, fd) => {
    if (!isBelow(path)) return void nodes.delete(fd);
    if (flags.includes("O_CREAT") && !names.has(path)) {
      created += 1;
      names.set(path, `new ${created}`);
      add({ kind: "create", path, node: names.get(path) });
    } else if (flags.includes("O_TRUNC")) resized(names.get(path), 0);
    nodes.set(fd, names.get(path));
    offsets.set(fd, flags.includes("O_APPEND") ? sizes.get(names.get(path)) : 0);
  };
  const renamed = (path, to) => {
    if (!isBelow(path) && !isBelow(to)) return;
    const node = names.get(path);
    names.delete(path);
    names.set(to, node);
    add({ kind: "rename", path, to, node });
  };
  const unlinked = (path) => {
    if (!isBelow(path)) return;
    add({ kind: "unlink", path, node: names.get(path) });
    names.delete(path);
  };
  const removed = (path) => {
    if (isBelow(path)) add({ kind: "rmdir", path });
  };
  const numbered = (fd) => Number.parseInt(fd, 10);

  // How many operations there were before each call.
  const counts = [];
  for (const { call, args, result, before: ended } of lines) {
    counts.push(operations.length);
    const fd = args[0];
    const isOurs = args.some((arg) => arg.includes(root));
    if (isOurs && NOT_MODELLED.includes(call)) throw new Error(`${call} is not modelled`);
    switch (call) {
      case "open":
        opened(at(undefined, args[0]), args[1], result);
        break;
      case "openat":
        opened(at(fd, args[1]), args[2], result);
        break;
      case "creat":
        opened(at(undefined, args[0]), "O_CREAT|O_TRUNC", result);
        break;
      case "write": {
        const data = unquoted(args.slice(1, -1).join(", "));
        if (numbered(fd) === 1) add({ kind: "mark", text: data.trim() });
        else if (isOurs && isBelow(pathOf(fd))) {
          const offset = offsets.get(numbered(fd));
          wrote(nodes.get(numbered(fd)), offset, data);
          offsets.set(numbered(fd), offset + result);
        }
        break;
      }
      case "pwrite64":
        if (isBelow(pathOf(fd)))
          wrote(nodes.get(numbered(fd)), Number(args.at(-1)), unquoted(args.slice(1, -2).join(", ")));
        break;
      case "ftruncate":
        if (isBelow(pathOf(fd))) resized(nodes.get(numbered(fd)), Number(args[1]));
        break;
      case "fallocate":
        if (isBelow(pathOf(fd))) {
          const node = nodes.get(numbered(fd));
          resized(node, Math.max(sizes.get(node) ?? 0, Number(args[2]) + Number(args[3])));
        }
        break;
      case "fsync":
      case "fdatasync": {
        const path = pathOf(fd);
        const node = nodes.get(numbered(fd));
        // What was written while it ran may not be kept by it.
        const until = counts[ended];
        if (isBelow(path)) add({ kind: "sync", until, ...(node === undefined ? { dir: path } : { node }) });
        break;
      }
      case "rename":
        renamed(at(undefined, args[0]), at(undefined, args[1]));
        break;
      case "renameat":
      case "renameat2":
        renamed(at(args[0], args[1]), at(args[2], args[3]));
        break;
      case "unlink":
        unlinked(at(undefined, args[0]));
        break;
      case "unlinkat":
        if (args[2].includes("AT_REMOVEDIR")) removed(at(args[0], args[1]));
        else unlinked(at(args[0], args[1]));
        break;
      case "mkdir":
        if (isBelow(at(undefined, args[0]))) add({ kind: "mkdir", path: at(undefined, args[0]) });
        break;
      case "mkdirat":
        if (isBelow(at(args[0], args[1]))) add({ kind: "mkdir", path: at(args[0], args[1]) });
        break;
      case "rmdir":
        removed(at(undefined, args[0]));
        break;
      default:
    }
  }
  return operations;
}
