/** A process of the smoke test: says `ready`, then does what its parent sends, and answers with what came of it. */
import { once } from "node:events";
import { withOAuthProfileLock, withOAuthRefreshLock } from "oauth-refresh-lock";

const actions = {
  async refresh({ tokenEndpoint, ...options }) {
    const request = { tokenEndpoint, clientId: "smoke" };
    const { outcome, credential } = await withOAuthRefreshLock("smoke", "smoke:login", request, options);
    return { outcome, access: credential.access };
  },
  async hold(options) {
    await withOAuthProfileLock(
      "smoke",
      "smoke:held",
      async () => {
        process.send({ held: true });
        await once(process, "message");
      },
      options,
    );
    return { released: true };
  },
};

process.once("disconnect", () => process.exit());
process.once("message", async ({ action, options }) => {
  try {
    process.send(await actions[action](options));
  } catch ({ code, message }) {
    process.send({ code, message });
  }
});
process.send({ ready: true });
