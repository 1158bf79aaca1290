/** As many processes as a case needs, for each Node that a contender runs on. */
import { Process } from "./processes.mjs";

export async function withPools(entrants, count, work) {
  const pools = new Map();
  for (const { node, reason } of entrants) {
    if (!reason && !pools.has(node))
      pools.set(
        node,
        Array.from({ length: count }, () => new Process({ node })),
      );
  }
  try {
    return await work(({ node }) => pools.get(node) ?? []);
  } finally {
    await Promise.all([...pools.values()].flat().map((process) => process.kill()));
  }
}
