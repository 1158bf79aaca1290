// How a host's own engine is passed, and how an adapter is written. Compiled, never run.
import {
  type Coordinator,
  type CoordinatorEntry,
  checkCoordinator,
  etcdCoordinator,
  inspectOAuthRefreshLocks,
  kubernetesCoordinator,
  postgresCoordinator,
} from "oauth-refresh-lock";
import pg from "pg";

const pool = new pg.Pool();
const rows = new Map<string, CoordinatorEntry>();

class Rows implements Coordinator {
  readonly name = "rows";
  async load(key: string) {
    return rows.get(key) ?? null;
  }
  async compareAndSwap(key: string, expected: string | null, value: string) {
    if ((rows.get(key)?.version ?? null) !== expected) return null;
    const version = String(Number(expected) + 1);
    rows.set(key, { version, value });
    return version;
  }
}

export const coordinators: Coordinator[] = [
  postgresCoordinator(pool),
  postgresCoordinator(pool, { table: "auth.refreshes", timeoutMs: 2_000 }),
  etcdCoordinator("http://127.0.0.1:2379"),
  etcdCoordinator(["https://a:2379", "https://b:2379"], { username: "app", password: "secret", ca: Buffer.from("") }),
  kubernetesCoordinator(),
  kubernetesCoordinator({ namespace: "logins", token: async () => "token" }),
  new Rows(),
];
const { ok, checks } = await checkCoordinator(new Rows(), { another: new Rows(), rounds: 3, writers: 4 });
export const failures: string[] = checks.filter((check) => !check.ok).map(({ rule, detail }) => `${rule}: ${detail}`);
export const passed: boolean = ok;

await inspectOAuthRefreshLocks({ coordinator: "etcd://127.0.0.1", coordinatorKey: ["new", "old"] as const });

// @ts-expect-error a pool is needed
postgresCoordinator("postgres://127.0.0.1");
// @ts-expect-error a version is text
export const wrong: CoordinatorEntry = { version: 1, value: "" };
