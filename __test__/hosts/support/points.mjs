/** The points of a call at which something can become of its process or host, and how a call gets there. */

/** `at`: where the agent holds its call, or the provider does. `isSent`: the provider gets the refresh token. */
export const POINTS = [
  { point: "before the claim", at: "claiming" },
  { point: "claimed, and not on record", at: "claimed", isClaimed: true },
  { point: "dispatched, and not sent", at: "called", isClaimed: true },
  { point: "the provider has the request", gate: "before", isClaimed: true, isSent: true },
  { point: "the provider has answered", gate: "after", isClaimed: true, isSent: true },
  { point: "the answer is here, and on no disk", at: "answered", isClaimed: true, isSent: true },
  { point: "saved, and the engine not told", at: "telling", isClaimed: true, isSaved: true },
  { point: "the engine told, and not on record", at: "told", isClaimed: true, isSaved: true },
];

/** Begins a call on a host, and has it reach this point. `release` lets it go on. */
export async function reach({ at, gate }, world, grant, host, more) {
  const held = gate && grant.hold(gate);
  const agent = await world.agent();
  const call = agent.call(world.ask(host, { ...(at && { holdAt: [at] }), ...more }));
  await (held ? held.reached : call.held(at));
  return { agent, call, release: () => (held ? held.release() : call.goOn(at)) };
}
