/** A client whose `fetch` talks to a server of ours. */
import { createOAuthClient } from "../../index.mjs";
import { answering } from "./calls.mjs";
import { createHost, PROFILE, PROVIDER, usable } from "./host.mjs";
import { startResource } from "./resource-server.mjs";

/** A client of a new login, and the server that it talks to. */
export async function setUp({ login = usable(), refresh = answering(), answers, ...options } = {}) {
  const resource = await startResource(answers);
  const host = createHost({ main: login });
  const client = createOAuthClient({
    provider: PROVIDER,
    profileId: PROFILE,
    refresh,
    ...host.as("main"),
    ...options,
  });
  return { client, login, resource, host, refresh };
}
