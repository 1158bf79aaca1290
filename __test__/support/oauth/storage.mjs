/**
 * The server's memory: an `oidc-provider` adapter whose content the demonstration may look at without spending a token.
 *
 * Nothing is ever evicted: an evicted grant would look like a revoked one.
 */

/** @typedef {Record<string, any>} Payload */

export function createStorage() {
  /** by model, then by id */
  const models = new Map();
  /** refresh token to grant id; outlives the token, so that a dead grant can be told from an unknown one */
  const grantOf = new Map();

  const table = (model) => {
    const entries = models.get(model) ?? new Map();
    models.set(model, entries);
    return entries;
  };

  const adapter = (model) => {
    const entries = table(model);
    return {
      async upsert(id, payload) {
        entries.set(id, payload);
        if (model === "RefreshToken") grantOf.set(id, payload.grantId);
      },
      find: async (id) => entries.get(id),
      async consume(id) {
        const payload = entries.get(id);
        if (payload) payload.consumed = Math.floor(Date.now() / 1000);
      },
      async destroy(id) {
        entries.delete(id);
      },
      async revokeByGrantId(grantId) {
        for (const [id, payload] of entries) {
          if (payload.grantId === grantId) entries.delete(id);
        }
      },
    };
  };

  return {
    adapter,

    /** Whether the server still knows this access token. */
    hasAccessToken: (access) => table("AccessToken").has(access),

    /** Whether this refresh token would be accepted: known and not used yet. */
    hasUnusedRefreshToken(refresh) {
      const payload = table("RefreshToken").get(refresh);
      return payload !== undefined && !payload.consumed;
    },

    /** Whether the grant that this refresh token was issued under exists, used or not. */
    hasGrantOf(refresh) {
      const grantId = grantOf.get(refresh);
      return grantId !== undefined && table("Grant").has(grantId);
    },
  };
}
