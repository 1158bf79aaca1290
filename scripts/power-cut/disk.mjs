/**
 * A disk as a power cut leaves it. What was not synced may be there or not, in any combination; a write may be there in part, by
 * sectors of 512 bytes; a name may point to a file whose bytes are not there. A file's `fsync` keeps its bytes and not its name; that of
 * a directory keeps the names in it.
 */
import { createHash } from "node:crypto";
import { lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const SECTOR = 512;

/** What is there before: nothing of it can be lost. */
export function snapshot(root) {
  const [names, dirs, bytes] = [new Map(), new Set(), new Map()];
  const walk = (dir) => {
    dirs.add(dir);
    for (const name of readdirSync(dir)) {
      const path = join(dir, name);
      if (lstatSync(path).isDirectory()) walk(path);
      else {
        const node = `old ${path}`;
        names.set(path, node);
        bytes.set(node, readFileSync(path));
      }
    }
  };
  walk(root);
  return { names, dirs, bytes };
}

/** Whether a later `sync` keeps this operation. */
function isKeptBy(sync, operation) {
  if (sync.node !== undefined) return operation.node === sync.node && ["write", "size"].includes(operation.kind);
  return [operation.path, operation.to].some((path) => path !== undefined && dirname(path) === sync.dir);
}

/** The first `count` operations, each with whether a power cut right after them can undo it. */
export function upTo(operations, count) {
  const done = operations.slice(0, count);
  const syncs = done.filter(({ kind }) => kind === "sync");
  return done.flatMap((operation, at) => {
    if (operation.kind === "sync" || operation.kind === "mark") return [];
    return [{ operation, isDurable: syncs.some((sync) => at < sync.until && isKeptBy(sync, operation)) }];
  });
}

/** What is on the disk if these operations, and no others, have reached it; `sectorsOf` says which sectors of a write did. */
export function after(before, kept, sectorsOf = () => undefined) {
  const [names, dirs, bytes] = [new Map(before.names), new Set(before.dirs), new Map(before.bytes)];
  for (const operation of kept) {
    const { kind, node, path, to } = operation;
    if (kind === "mkdir") dirs.add(path);
    if (kind === "rmdir") dirs.delete(path);
    if (kind === "create") names.set(path, node);
    if (kind === "unlink" && names.get(path) === node) names.delete(path);
    if (kind === "rename") {
      if (names.get(path) === node) names.delete(path);
      names.set(to, node);
    }
    if (kind === "size" || kind === "write") bytes.set(node, changed(bytes.get(node), operation, sectorsOf(operation)));
  }
  return { names, dirs, bytes };
}

function changed(old = Buffer.alloc(0), { kind, size, offset, data }, sectors) {
  if (kind === "size") return Buffer.concat([old, Buffer.alloc(Math.max(0, size - old.length))]).subarray(0, size);
  const all = Buffer.concat([old, Buffer.alloc(Math.max(0, offset + data.length - old.length))]);
  for (let at = 0; at < data.length; ) {
    const sector = Math.floor((offset + at) / SECTOR);
    const end = Math.min(data.length, (sector + 1) * SECTOR - offset);
    if (sectors === undefined || sectors(sector)) data.copy(all, offset + at, at, end);
    at = end;
  }
  return all;
}

/** The files that can be reached from the root, and their names. */
function reachable({ names, dirs, bytes }, root) {
  const isThere = (dir) => dirs.has(dir) && (dir === root || isThere(dirname(dir)));
  const files = [...names].filter(([path]) => isThere(dirname(path)));
  return {
    dirs: [...dirs].filter(isThere).sort(),
    files: files
      .map(([path, node]) => [path, bytes.get(node) ?? Buffer.alloc(0)])
      .sort(([one], [other]) => (one < other ? -1 : 1)),
  };
}

export function fingerprint(state, root) {
  const { dirs, files } = reachable(state, root);
  const hash = createHash("sha256").update(dirs.join("\n"));
  for (const [path, bytes] of files) hash.update(`\n${path} ${bytes.length}\n`).update(bytes);
  return hash.digest("hex");
}

export function restore(state, root) {
  rmSync(root, { recursive: true, force: true });
  const { dirs, files } = reachable(state, root);
  for (const dir of dirs) mkdirSync(dir, { mode: 0o700 });
  for (const [path, bytes] of files) writeFileSync(path, bytes, { mode: 0o600 });
}
