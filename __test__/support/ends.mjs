/**
 * A process that comes to its end while its refresh function is being awaited; how, its parent says.
 */
import { withOAuthRefreshLock } from "../../index.mjs";

const [how, provider, profileId, options] = process.argv.slice(2);

const ends = {
  SIGTERM: () => {},
  "process.exit": () => process.exit(3),
  "an uncaught exception": () =>
    setImmediate(() => {
      throw new Error("nobody catches this");
    }),
};

process.on("disconnect", () => process.exit());
await withOAuthRefreshLock(
  provider,
  profileId,
  () => {
    process.send("called");
    process.once("message", ends[how]);
    return new Promise(() => {});
  },
  JSON.parse(options),
);
