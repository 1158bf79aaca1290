/** The real engines that tests start. */
export { freePort, missing } from "./engine.mjs";
export { startEtcd, startEtcdCluster } from "./etcd.mjs";
export { startPgBouncer, startPostgres } from "./postgres.mjs";
