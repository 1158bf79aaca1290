// For what system an addon is, as its own header says: a file under another platform's name would install and never load.

const ELF_MACHINES = new Map([
  [62, "x64"],
  [183, "arm64"],
]);
const MACH_O_CPUS = new Map([
  [0x0100_0007, "x64"],
  [0x0100_000c, "arm64"],
]);
const PE_MACHINES = new Map([
  [0x8664, "x64"],
  [0xaa64, "arm64"],
]);

/** The platform's name, such as `linux-x64-gnu`, or `undefined` if these bytes are no library for a system that we know. */
export function addonKind(bytes) {
  if (bytes.length < 64) return undefined;
  if (bytes.readUInt32BE(0) === 0x7f454c46) {
    const cpu = ELF_MACHINES.get(bytes.readUInt16LE(18));
    // glibc's symbols carry versions; musl's don't.
    return cpu && `linux-${cpu}-${bytes.includes("GLIBC_2.") ? "gnu" : "musl"}`;
  }
  if (bytes.readUInt32LE(0) === 0xfeedfacf) {
    const cpu = MACH_O_CPUS.get(bytes.readUInt32LE(4));
    return cpu && `darwin-${cpu}`;
  }
  if (bytes.toString("latin1", 0, 2) === "MZ") {
    const at = bytes.readUInt32LE(60);
    if (at + 6 > bytes.length || bytes.toString("latin1", at, at + 4) !== "PE\0\0") return undefined;
    const cpu = PE_MACHINES.get(bytes.readUInt16LE(at + 4));
    return cpu && `win32-${cpu}-msvc`;
  }
  return undefined;
}
