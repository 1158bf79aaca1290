// How a host's own stores are passed. Compiled, never run.
import {
  type ClaimedCredential,
  type CredentialStore,
  type KeptProfile,
  keepOAuthFresh,
  type OAuthCredential,
  type RefreshOptions,
  type StoredProfile,
  withOAuthRefreshLock,
} from "oauth-refresh-lock";

declare const credential: OAuthCredential;
declare const rows: Map<string, OAuthCredential>;

const synchronous: CredentialStore = {
  name: "rows",
  load: (profileId) => rows.get(profileId),
  compareAndSwap(profileId: string, expected: OAuthCredential | null, next: OAuthCredential) {
    return expected !== null && rows.has(profileId) && next.access !== "";
  },
};

// What else a store may tell, and be.
const shared: CredentialStore = {
  name: "shared",
  load: (profileId) => (profileId === "key" ? { type: "api_key" } : { claimed: true, credential: rows.get(profileId) }),
  compareAndSwap: () => false,
  durable: false,
};
const claimed: ClaimedCredential = { claimed: true };
export const profiles: StoredProfile[] = [claimed, credential, null, undefined, await shared.load("key")];

class Keychain implements CredentialStore {
  readonly name = "keychain";
  async load(_profileId: string) {
    return credential;
  }
  async compareAndSwap() {
    return true;
  }
}

const options: RefreshOptions = { store: new Keychain(), mainStore: synchronous, stateDir: "/state" };
await withOAuthRefreshLock("acme", "acme:default", () => null, options);
const kept: KeptProfile = { provider: "acme", profileId: "acme:default", store: synchronous };
keepOAuthFresh({ profiles: [kept], refresh: () => null });

// What is refused.

// @ts-expect-error It has no name.
({ load: () => null, compareAndSwap: () => true }) satisfies CredentialStore;
// @ts-expect-error It can't be written.
({ name: "n", load: () => null }) satisfies CredentialStore;
// @ts-expect-error Its swap does not say whether it has swapped.
({ name: "n", load: () => null, compareAndSwap: () => undefined }) satisfies CredentialStore;
// @ts-expect-error What it holds is no credential.
({ name: "n", load: () => "text", compareAndSwap: () => true }) satisfies CredentialStore;

// @ts-expect-error A claim is told by `true`.
({ claimed: 1 }) satisfies StoredProfile;
