/** What this package exports about coordinators. Each file is loaded when it is used. */

const postgresCoordinator = (pool, options) => require("./postgres.js").postgresCoordinator(pool, options);
const etcdCoordinator = (endpoints, options) => require("./etcd.js").etcdCoordinator(endpoints, options);
const kubernetesCoordinator = (options) => require("./kubernetes.js").kubernetesCoordinator(options);
const checkCoordinator = async (coordinator, options) => require("./check.js").checkCoordinator(coordinator, options);

module.exports = { checkCoordinator, etcdCoordinator, kubernetesCoordinator, postgresCoordinator };
