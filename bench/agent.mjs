/**
 * A process of the benchmark: runs what a case's module exports as `work`, when its parent asks, and ends with its parent.
 */
process.once("disconnect", () => process.exit());
process.on("message", async ({ id, module, name, args }) => {
  try {
    const { work } = await import(module);
    process.send?.({ id, result: await work[name](args) });
  } catch (error) {
    const { code, message } = error;
    process.send?.({ id, error: { code, message: String(message ?? error) } });
  }
});
