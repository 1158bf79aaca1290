/** Ways to keep a program from writing a file that it may read, root or not. */
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { onTestFinished } from "vitest";
import { temporaryDir } from "./host.mjs";

const isRoot = process.getuid?.() === 0;
const run = (command, ...args) => spawnSync(command, args, { stdio: "ignore" }).status === 0;

/** Whether this works here, in a directory for the purpose. */
function works(raise, lower) {
  const dir = temporaryDir();
  const worked = raise(dir);
  if (worked) lower(dir);
  rmSync(dir, { recursive: true, force: true });
  return worked;
}

const chattr = (flag) => (path) => run("chattr", flag, path);
const canChattr = process.platform === "linux" && works(chattr("+i"), chattr("-i"));
const bindReadOnly = (dir) => run("mount", "--bind", "-o", "ro", dir, dir);
const unmount = (dir) => run("umount", "--lazy", dir);
const canAppend = process.platform === "linux" && works(chattr("+a"), chattr("-a"));
const bindAlone = (file) => run("mount", "--bind", file, file);
const canMount = process.platform === "linux" && works(bindReadOnly, unmount);

/** Each raises an obstacle at a store and returns what takes it away, as the end of the test does. */
const all = [
  {
    name: "a file's place is taken",
    possible: true,
    // Where the new bytes are written before they replace the old ones.
    raise: (store) => mkdirSync(join(`${store}.oauth-refresh-lock.tmp`, "taken"), { recursive: true }),
    lower: (store) => rmSync(`${store}.oauth-refresh-lock.tmp`, { recursive: true, force: true }),
  },
  {
    name: "its directory may not be written",
    possible: process.platform !== "win32" && !isRoot,
    raise: (store) => chmodSync(dirname(store), 0o500),
    lower: (store) => chmodSync(dirname(store), 0o700),
  },
  {
    name: "its directory is immutable",
    possible: canChattr,
    raise: (store) => chattr("+i")(dirname(store)),
    lower: (store) => chattr("-i")(dirname(store)),
  },
  {
    name: "its directory is append-only",
    possible: canAppend,
    raise: (store) => chattr("+a")(dirname(store)),
    lower: (store) => chattr("-a")(dirname(store)),
  },
  { name: "the file is append-only", possible: canAppend, raise: chattr("+a"), lower: chattr("-a") },
  { name: "the file alone is mounted", possible: canMount, raise: bindAlone, lower: unmount },
  {
    name: "its file system is read-only",
    possible: canMount,
    raise: (store) => bindReadOnly(dirname(store)),
    lower: (store) => unmount(dirname(store)),
  },
];

function usable({ name, raise, lower }) {
  return {
    name,
    raise(path) {
      let up = true;
      raise(path);
      const end = () => {
        if (up) lower(path);
        up = false;
      };
      onTestFinished(end);
      return end;
    },
  };
}

/** The obstacles that can be raised here. */
export const OBSTACLES = all.filter(({ possible }) => possible).map(usable);

/** A file that only a look at it beforehand tells: the directory would let it be replaced. */
export const READ_ONLY_FILES = [
  {
    name: "the file may not be written",
    possible: process.platform !== "win32" && !isRoot,
    raise: (store) => chmodSync(store, 0o400),
    lower: (store) => chmodSync(store, 0o600),
  },
  { name: "the file is immutable", possible: canChattr, raise: chattr("+i"), lower: chattr("-i") },
]
  .filter(({ possible }) => possible)
  .map(usable);

/** What can be told before anything is written. */
export const REFUSED = [...OBSTACLES, ...READ_ONLY_FILES];

/** A directory in the place of a file. */
export const DIRECTORY = usable({
  name: "a directory is in its place",
  raise(path) {
    cpSync(path, `${path}.aside`);
    rmSync(path);
    mkdirSync(path);
  },
  lower(path) {
    rmSync(path, { recursive: true });
    renameSync(`${path}.aside`, path);
  },
});

/** A small file system of its own; `undefined` where none can be mounted. */
export function smallDisk() {
  if (!canMount) return undefined;
  const dir = temporaryDir();
  if (!run("mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", dir)) return undefined;
  onTestFinished(() => {
    unmount(dir);
    rmSync(dir, { recursive: true, force: true });
  });
  const filler = join(dir, "filler");
  return {
    dir,
    fill() {
      for (let bytes = 1 << 20; bytes >= 1; bytes >>= 1) {
        try {
          for (;;) writeFileSync(filler, Buffer.alloc(bytes), { flag: "a" });
        } catch (error) {
          if (error.code !== "ENOSPC") throw error;
        }
      }
    },
    free: () => rmSync(filler, { force: true }),
    /** Gives a file's space back to the file system. */
    punch: (path, bytes) => run("fallocate", "--punch-hole", "--offset", "0", "--length", String(bytes), path),
  };
}
