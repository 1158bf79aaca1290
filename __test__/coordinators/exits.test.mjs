/** A coordinator, also one that waits, keeps no process from exiting. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { startEtcd, startPgBouncer, startPostgres } from "../../scripts/hosts/engines.mjs";
import { startKubernetesStandIn } from "../../scripts/hosts/kubernetes-stand-in.mjs";
import { createAuthority } from "../support/certificates.mjs";
import { describeWith, expectSooner, own } from "./support/engines.mjs";

const require = createRequire(import.meta.url);
const { postgresSchema } = require("../../lib/coordinators/postgres.js");
const ROOT = new URL("../../", import.meta.url);

/** Writes a row, waits for its change, and does nothing more. `make` is the code that makes `coordinator`. */
const program = (make, waits) => `
  const api = await import(${JSON.stringify(new URL("index.mjs", ROOT).href)});
  const { createRequire } = await import("node:module");
  const require = createRequire(${JSON.stringify(new URL("index.js", ROOT).href)});
  const { openCoordinator } = require("./lib/coordinators/open.js");
  const coordinator = ${make};
  const key = require("node:crypto").randomBytes(32).toString("hex");
  const version = await coordinator.compareAndSwap(key, null, "{}");
  if (${waits}) {
    void coordinator.changed(key, version, new AbortController().signal).then(() => console.log("ended"));
    await new Promise((resolve) => setTimeout(resolve, 700));
  }
  await coordinator.load(key);
  console.log("through");
`;

/** How long the process is there after its last line. */
async function lingers(make, waits) {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program(make, waits)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const lines = [];
  let through;
  createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(line);
    through = performance.now();
  });
  const exited = once(child, "exit");
  const end = await Promise.race([exited, sleep(30_000, ["it did not exit"], { ref: false })]);
  expect({ end, lines }).toEqual({ end: [0, null], lines: ["through"] });
  return performance.now() - through;
}

/** Without a time limit of ours between: an idle connection lives for 4 s, a watch for 2 s, a pool's connection for 10 s. */
const SOON_MS = 1_500;

async function expectExits(make) {
  for (const waits of [false, true]) await expectSooner(SOON_MS, () => lingers(make, waits));
}

describeWith(["postgres"], "PostgreSQL", () => {
  test("by URL", async () => {
    const postgres = await own(startPostgres());
    postgres.sql(postgresSchema());
    await expectExits(`openCoordinator(${JSON.stringify(postgres.url)})`);
  });
});

describeWith(["postgres"], "PostgreSQL by TLS", () => {
  test("with a pool of the host's", async () => {
    const authority = await createAuthority();
    const postgres = await own(startPostgres({ tls: authority.server }));
    postgres.sql(postgresSchema());
    const options = { connectionString: postgres.url, ssl: { ca: authority.root }, allowExitOnIdle: true };
    await expectExits(`api.postgresCoordinator(new (require("pg").Pool)(${JSON.stringify(options)}))`);
    expect(postgres.sql("SELECT current_setting('ssl')")).toBe("on");
  });
});

describeWith(["postgres", "pgbouncer"], "PgBouncer", () => {
  test("by URL", async () => {
    const postgres = await own(startPostgres());
    postgres.sql(postgresSchema());
    const bouncer = await own(startPgBouncer(postgres));
    await expectExits(`openCoordinator(${JSON.stringify(bouncer.url)})`);
  });
});

describeWith(["etcd"], "etcd", () => {
  test("by URL", async () => {
    const etcd = await own(startEtcd());
    await expectExits(`openCoordinator(${JSON.stringify(etcd.url)})`);
  });

  test("by TLS", async () => {
    const authority = await createAuthority();
    const etcd = await own(startEtcd({ tls: authority.server }));
    await expectExits(
      `api.etcdCoordinator(${JSON.stringify(etcd.endpoint)}, ${JSON.stringify({ ca: authority.root })})`,
    );
  });
});

test("Kubernetes, by TLS", async () => {
  const authority = await createAuthority();
  const api = await startKubernetesStandIn({ tls: authority.server });
  onTestFinished(() => api.close());
  const options = { server: api.url, namespace: "default", token: "token", ca: authority.root };
  await expectExits(`api.kubernetesCoordinator(${JSON.stringify(options)})`);
});
