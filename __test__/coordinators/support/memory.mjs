/** A right coordinator in memory. Whoever has the same `rows` is another process with the same engine. */
export class MemoryCoordinator {
  name = "memory";
  /** @type {{ rows: Map<string, { version: string, value: string, at: number }>, next: number, waiters: Set<() => void> }} */
  engine;

  constructor(engine = { rows: new Map(), next: 1, waiters: new Set() }) {
    this.engine = engine;
  }

  async load(key) {
    const row = this.engine.rows.get(key);
    return row ? { version: row.version, value: row.value, ageMs: performance.now() - row.at } : null;
  }

  async compareAndSwap(key, expected, value) {
    const { rows, waiters } = this.engine;
    if ((rows.get(key)?.version ?? null) !== expected) return null;
    const version = String(this.engine.next++);
    rows.set(key, { version, value, at: performance.now() });
    for (const look of [...waiters]) look();
    return version;
  }

  changed(key, version, signal) {
    const { rows, waiters } = this.engine;
    return new Promise((resolve) => {
      const look = () => {
        if (!signal.aborted && rows.get(key)?.version === version) return;
        waiters.delete(look);
        signal.removeEventListener("abort", look);
        resolve();
      };
      waiters.add(look);
      signal.addEventListener("abort", look);
      look();
    });
  }
}
