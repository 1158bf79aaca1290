/**
 * One OAuth login, any number of agents, one provider call.
 *
 * Times are milliseconds; instants are milliseconds since the epoch; paths are absolute.
 */

/** The fields of a credential that this package knows; a type of your own that has more of them fits too. */
export interface OAuthCredentialFields {
  /** Other kinds of profile are left alone. */
  type: "oauth";
  /** The provider's id, as the call has it. */
  provider: string;
  /** Access token. */
  access: string;
  /** Refresh token. */
  refresh: string;
  /** When the access token expires, in milliseconds since the epoch. */
  expires: number;
  /** The account's address: what the identity gate compares, with `accountId`. */
  email?: string;
  /** The account's id at the provider. */
  accountId?: string;
  /** The host of an enterprise's own instance. Its tokens are sent to no other host. */
  enterpriseUrl?: string;
  /** Kept as it is, for the host. */
  projectId?: string;
  /** The OAuth client that the login was made with. Kept as it is, for the host. */
  clientId?: string;
  /** ID token (OpenID Connect). */
  idToken?: string;
  /** Kept as it is, for the host. */
  displayName?: string;
}

/** A credential as OpenClaw's `auth-profiles.json` holds it. Fields not named here are kept as they are. */
export interface OAuthCredential extends OAuthCredentialFields {
  [field: string]: unknown;
}

/** Our own shape of what a refresh function returns: new fields, merged over the old ones. Without `refresh` the old refresh token stays. */
export interface RefreshedFields {
  /** The new access token. */
  access: string;
  /**
   * Milliseconds since the epoch, in the future. Seconds since the epoch, a lifetime in seconds, a `Date` and these as text are
   * understood too. Without it, or if it is not an instant: the access token's own expiry if that is a JWT, else in half an hour.
   */
  expires?: number | string | Date | undefined;
  /** The new refresh token. */
  refresh?: string | undefined;
}

/**
 * An OAuth or HTTP client's answer, which a refresh function may return as it is: the token answer (`access_token`,
 * `refresh_token`, `expires_in`, `id_token`), its text, or the same in camelCase, where `expires_at` may stand in place of the
 * lifetime; any of these inside `data`, `body`, `tokens`, `credentials`, `token` or `session`; or a `Response` whose body is still
 * unread.
 *
 * Only the fields of a credential are stored, not `scope` or `token_type`. If the answer is the provider's error response, or the
 * function returns an `Error`, we treat it as if the function had thrown it.
 */
export type ClientAnswer =
  | string
  | {
      /** As RFC 6749 §5.1 has it. */
      access_token?: string | null | undefined;
      /** As RFC 6749 §5.1 has it. */
      refresh_token?: string | null | undefined;
    }
  | {
      /** The new access token, or what returns it. */
      accessToken?: string | (() => string) | undefined;
      /** The new refresh token, or what returns it. */
      refreshToken?: string | (() => string) | undefined;
    }
  | {
      /** The new access token. */
      AccessToken?: string | undefined;
    }
  | Partial<Record<"token" | "tokens" | "credentials" | "session" | "data" | "body", unknown>>
  | {
      /** Reads a response's body. */
      text(): Promise<string>;
    };

/**
 * Requests one new token from the provider. Nothing else that can fail belongs in it: we classify the error that it throws, and the
 * class decides what the next caller may do (see {@link RefreshFailure}). So let your client's error through. After a temporary
 * failure (the provider was not reached or is busy, or its answer was lost) we call the function again, for 10 s at most, each time
 * after the pause that all processes keep. A function that decides not to ask throws an error with
 * `refreshFailure: { class: "not_asked" }`.
 *
 * Don't forget the `return`: if the function asks the provider and returns `undefined`, the new tokens are lost, we can't notice
 * it, and the next caller sends the spent refresh token.
 *
 * @param credential the credential as re-read under the lock
 * @param context.signal aborts when the call is older than `callTimeoutMs`; never because a caller left
 * @returns the new fields, in our shape or your client's, or `null`/`undefined` when the provider was not asked
 */
export type RefreshFunction = (
  credential: OAuthCredential,
  context: { signal: AbortSignal },
) => Promise<Refreshed> | Refreshed;

/** What a refresh function may return. */
export type Refreshed =
  | RefreshedFields
  | (RefreshedFields & { [field: string]: unknown })
  | ClientAnswer
  | null
  | undefined;

/** Where a key's lock lies and how long a caller waits. */
export interface LockOptions {
  /**
   * State directory, absolute. Default: `OPENCLAW_STATE_DIR`, else `<home>/.openclaw`, else an existing `<home>/.clawdbot`. If an
   * agent's directory outside it is given, the default must exist.
   */
  stateDir?: string | undefined;
  /** Lock base path, absolute, for a host that names its own. Default: {@link resolveOAuthRefreshLockPath}. */
  lockPath?: string | undefined;
  /** Ends the caller's wait, nothing else: a refresh that is under way goes on, and its result is saved. */
  signal?: AbortSignal | undefined;
  /** Limit on the caller's whole wait, in milliseconds from the call: locks, disks, stores and the provider. Default 200,000. */
  timeoutMs?: number | undefined;
  /**
   * Absolute path of a directory whose mode is world-writable and can't be changed (a container's volume, a Windows drive under
   * WSL). You vouch that no other user can reach it. We then accept world-writable modes there and below; links and owners are
   * still checked. Applies to this process from now on. Default: `OAUTH_REFRESH_LOCK_TRUSTED_VOLUME`.
   */
  trustedVolume?: string | undefined;
}

/** What {@link CredentialStore.load} returns while another program, which does not know our lock, is refreshing the login. */
export interface ClaimedCredential {
  /** Tells it from a credential. */
  claimed: true;
  /** The stored credential; callers get it meanwhile if it is still good. */
  credential?: OAuthCredentialFields | null | undefined;
}

/** What {@link CredentialStore.load} returns for a profile. */
export type StoredProfile =
  | OAuthCredential
  | OAuthCredentialFields
  | {
      /** Anything but `"oauth"`. */
      type: string;
    }
  | ClaimedCredential
  | null
  | undefined;

/**
 * A host's own store, in place of OpenClaw's `auth-profiles.json`; see docs/stores.md. Its functions are
 * called on this thread, for as long as the refresh goes on; `load` and `compareAndSwap` have 30 s each.
 *
 * If `load` throws, the call fails with `store_unreadable`; if `compareAndSwap` throws, `store_unwritable`; if `hold` throws,
 * `store_busy`. `cause` is the error thrown. After an error that says that the store is busy, the function is called again: see
 * {@link CredentialStore.load}.
 */
export interface CredentialStore {
  /**
   * The store's name: the same in every process, and no other store's, since its credentials wait in the journal under this name.
   * The journal and errors show it, so it must not be a secret. At most 128 characters, no slash, no control character.
   */
  name: string;
  /**
   * Returns the whole credential that the store holds for the profile now; `null` or `undefined` if it holds nothing. An object of
   * another `type` (`{ type: "api_key" }` is enough) is not a login, and is left alone. A {@link ClaimedCredential} says that
   * another program is refreshing it.
   *
   * While the store is busy, `load`, `compareAndSwap` and `hold` may throw an error with `busy: true` or the `code` `"store_busy"`,
   * `EBUSY`, `EAGAIN`, `ELOCKED` or SQLite's (`SQLITE_BUSY`, `SQLITE_LOCKED`, or Node's `errcode` 5 and 6): the function is called
   * again after short pauses, for as long as the caller waits, or for 30 s to save the provider's answer.
   */
  load(profileId: string): Promise<StoredProfile> | StoredProfile;
  /**
   * Atomically: if the store still holds a credential equal to `expected` (`null`: nothing), replaces it with `next`, durably (see
   * {@link CredentialStore.durable}), and returns `true`; else changes nothing and returns `false`. Afterwards `load` must return
   * the same `type`, `provider`, `access`, `refresh` and (to within a second) `expires`, and no other account's identity fields;
   * the store may drop, change or add other fields.
   */
  compareAndSwap(
    profileId: string,
    expected: OAuthCredentialFields | null,
    next: OAuthCredentialFields,
  ): Promise<boolean> | boolean;
  /**
   * For a store that belongs to another program with a lock of its own: takes that lock, and returns a function that releases it.
   * We take it after our key's lock, before we decide what to do, and release it once everything is saved, or the call is past
   * `callTimeoutMs` (a late answer takes it again). We call `compareAndSwap` only while we hold it, `load` also without it.
   *
   * @param context.signal aborts when the caller no longer waits; a lock that is taken later is released at once
   */
  hold?(profileId: string, context: { signal: AbortSignal }): Promise<() => unknown> | (() => unknown);
  /**
   * `false`: a power cut may undo a `compareAndSwap`. The journal then keeps the new credential until the next refresh, or until a
   * call finds a logout, and restores it if the store holds the spent one again. Default `true`.
   */
  durable?: boolean | undefined;
}

/** Where the credentials of a refresh are, which of them count as expired, and how long things may take. */
export interface RefreshOptions extends LockOptions {
  /**
   * Absolute path of the directory that contains the calling agent's `auth-profiles.json`. Default: the main agent's directory.
   * Outside OpenClaw give {@link LockOptions.stateDir} as well.
   */
  agentDir?: string | undefined;
  /** The main agent's directory, absolute. Default: `OPENCLAW_AGENT_DIR`, `PI_CODING_AGENT_DIR`, else `<stateDir>/agents/main/agent`. */
  mainAgentDir?: string | undefined;
  /** The calling agent's store, in place of `agentDir`: the host keeps credentials itself. */
  store?: CredentialStore | undefined;
  /**
   * The main agent's store, in place of `mainAgentDir`. Default if `store` is given: `store` itself, unless `mainAgentDir` is
   * given.
   */
  mainStore?: CredentialStore | undefined;
  /** Age at which the provider call is aborted, in milliseconds. Default and maximum: {@link OAUTH_REFRESH_CALL_TIMEOUT_MS}. */
  callTimeoutMs?: number | undefined;
  /**
   * A token that expires within this many milliseconds is refreshed. Default 300,000; at most a fifth of the token's life, where
   * that is known.
   */
  refreshMarginMs?: number | undefined;
  /** Replace the stored access token although it has not expired. Callers that ask for this at the same time share one refresh. */
  forceRefresh?: boolean | undefined;
  /**
   * The access token that the resource server refused: refresh only if it is still the stored one. With it, `forceRefresh`
   * adds nothing.
   */
  rejectedAccess?: string | undefined;
  /**
   * If the stored access token is unexpired and was not rejected, resolves with it and sets {@link RefreshResult.refreshError}
   * when: refreshing fails; or the caller has waited 1 s for other callers; or this call's own refresh has taken another 10 s (it
   * goes on). Default `true`; `false` rejects with the error.
   */
  serveUnexpired?: boolean | undefined;
  /**
   * What to do while it is not known whether the provider has used the refresh token (an owner died, an answer was lost):
   * `"probe"` (the default) asks again with the same refresh token, after the pause that all processes keep, until the provider
   * gives a token or refuses; `"fail"` rejects with `refresh_uncertain`.
   */
  uncertain?: "probe" | "fail" | undefined;
  /**
   * Says how a call of the refresh function failed, for a provider or client whose errors this package does not know; see
   * docs/protocol.md. `undefined`: this package decides, as it does if the function throws or returns anything else. Return
   * `"answered_dead"` only if the provider said so: it ends the login.
   *
   * For a token endpoint: {@link TokenEndpointRequest.classify}.
   */
  classify?: (error: Error) => RefreshFailure["class"] | undefined;
  /**
   * What the hosts that share this login agree by: one of {@link postgresCoordinator}, {@link etcdCoordinator},
   * {@link kubernetesCoordinator} or your own; or the address of one, `"postgres://…"` (needs the package `pg`), `"etcd://host:2379"`,
   * `"etcds://…"` by TLS. Each host has a state directory of its own. See docs/many-hosts.md.
   */
  coordinator?: Coordinator | string | undefined;
  /**
   * What to do about a host that claimed the refresh token and has been silent for 180 s. `"wait"` (the default) rejects with
   * `refresh_uncertain` until that host is back or a new login is stored, as it may have the new token. `"probe"` asks the provider
   * again: if that host did have it, the provider may end the login.
   */
  lostHost?: "wait" | "probe" | undefined;
  /**
   * What to do while the coordinator can't be reached, or if this call names none for a login that this host has from one. `"refuse"`
   * (the default) does not ask the provider: a stored token that has not expired is served, else `coordinator_unavailable` is raised,
   * at once if none is named, else when the caller's time is up. `"alone"` goes on as if there were no other host: two hosts may then
   * send one refresh token.
   */
  coordinatorDown?: "refuse" | "alone" | undefined;
  /**
   * A secret that all hosts have, mixed into the keys of what they tell each other. Of several the first is used, and all open what
   * is found; an empty one among them stands for no key. Without it, whoever has both an old refresh token and the coordinator's rows
   * can read what came after that token. How to introduce and change it: docs/many-hosts.md.
   */
  coordinatorKey?: string | readonly string[] | undefined;
}

/** An error that is told beside a result. */
export interface OAuthRefreshProblem {
  /** What went wrong, for programs. */
  code: ErrorCode;
  /** For people. It holds no secret. */
  message: string;
}

/** What happened to the main agent's store. */
export interface MirrorResult {
  /** Whether it took the credential. */
  written: boolean;
  /** Why, or why not. */
  reason: MirrorReason | "store-error";
  /** With `store-error`: what went wrong. The credential is durable in the agent's own store. */
  error?: OAuthRefreshProblem;
}

/** What {@link withOAuthRefreshLock} gives. */
export interface RefreshResult {
  /**
   * - `fresh`: the stored credential was usable.
   * - `adopted`: a peer had refreshed; its credential was taken over.
   * - `refreshed`: this call asked the provider.
   * - `recovered`: the journal held a credential that a previous owner had received.
   */
  outcome: "fresh" | "adopted" | "refreshed" | "recovered";
  /** The whole credential, usable now, as the agent's store has it (or will: `notSaved`). */
  credential: OAuthCredential;
  /** With `refreshed` by a sub-agent: whether the main agent's store took the credential, and why not. */
  mirror?: MirrorResult;
  /** Why the credential could not be saved in the agent's own store yet. It is durable in the journal or in the main store. */
  notSaved?: OAuthRefreshProblem;
  /** With `adopted`: the host that asked the provider, if that is another one. */
  adoptedFrom?: {
    /** Its name. */
    host: string;
  };
  /** Why the coordinator has not been told of the new credential yet. Other hosts wait for it; this process goes on trying. */
  notShared?: OAuthRefreshProblem;
  /**
   * With `fresh`: why the credential, which is about to expire, was not refreshed. An error of this package, or the refresh
   * function's own. See {@link RefreshOptions.serveUnexpired}.
   */
  refreshError?: Error;
}

/**
 * Returns a usable credential for the profile, refreshing it at most once however many callers, processes and agents ask.
 *
 * The credential is on disk before any caller sees it. Errors that `refresh` throws arrive as they are, temporary ones only after
 * retries; our own are {@link OAuthRefreshLockError}s.
 *
 * @param provider the provider's id, such as `openai-codex`; with `profileId` it is the key
 * @param profileId names the login in the stores, such as `openai-codex:default`
 * @param refresh asks the provider: a function, or a token endpoint for us to ask
 * @param options where the stores and the lock are, which tokens count as expired, how long things may take
 * @returns `null` when there is no OAuth login under this name, it was logged out meanwhile, or `refresh` returned nothing
 */
export function withOAuthRefreshLock(
  provider: string,
  profileId: string,
  refresh: RefreshFunction | TokenEndpointRequest,
  options?: RefreshOptions,
): Promise<RefreshResult | null>;

/**
 * Runs `fn` while this process alone, on this host, holds the key's lock. Its result and its errors pass through untouched.
 *
 * No process takes over from `fn`, however long it runs; `signal` and `timeoutMs` end the wait only. A wait that times out
 * rejects with `code: "file_lock_timeout"` and `lockPath: "<base>.lock"`.
 *
 * @param provider the provider's id, such as `openai-codex`; with `profileId` it is the key
 * @param profileId names the login, such as `openai-codex:default`
 * @param fn called once, without arguments, when the lock is held; the lock is released when its promise settles
 * @param options where the lock lies, and how long to wait for it
 */
export function withOAuthProfileLock<T>(
  provider: string,
  profileId: string,
  fn: () => Promise<T> | T,
  options?: LockOptions,
): Promise<T>;

/**
 * The same in the form that OpenClaw 2026.9.6 has it.
 *
 * @param key the login
 * @param operation called once, without arguments, when the lock is held; the lock is released when its promise settles
 * @param options where the lock lies, and how long to wait for it
 */
export function withOAuthProfileLock<T>(
  key: {
    /** The provider's id, such as `openai-codex`. */
    provider: string;
    /** Names the login, such as `openai-codex:default`. */
    profileId: string;
  },
  operation: () => Promise<T> | T,
  options?: LockOptions & {
    /** Where the default state directory is looked up. Default: `process.env`. */
    env?: Readonly<Record<string, string | undefined>> | undefined;
  },
): Promise<T>;

/**
 * A token endpoint that this package itself asks (RFC 6749 §6): from the request to the saved answer in one native
 * step, which neither a blocked event loop nor the end of a worker thread interrupts.
 *
 * The request goes by HTTPS to this host and no other: redirects are not followed. `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`,
 * `NODE_EXTRA_CA_CERTS`, `SSL_CERT_FILE`, `SSL_CERT_DIR` and `NODE_USE_SYSTEM_CA` are read from `process.env`, and
 * `--use-system-ca` from Node's own options.
 */
export interface TokenEndpointRequest {
  /** URL: `https`, or `http` on loopback. */
  tokenEndpoint: string;
  /**
   * Token endpoint for credentials whose `enterpriseUrl` names another host than `tokenEndpoint`'s; `{host}` is replaced by that
   * host.
   */
  enterpriseTokenEndpoint?: string | undefined;
  /** The client's id (RFC 6749 §2.2). */
  clientId?: string | undefined;
  /** The client's password, if it has one (RFC 6749 §2.3.1). */
  clientSecret?: string | undefined;
  /** How the client says who it is (RFC 6749 §2.3.1). Default: `"basic"` with a secret, else `"none"`. */
  clientAuth?: "none" | "basic" | "post" | undefined;
  /** How the request's body is written. Default: `"form"`. */
  encoding?: "form" | "json" | undefined;
  /** Default: `"refresh_token"`. `"github-copilot"` exchanges a GitHub token for a Copilot token. */
  exchange?: "refresh_token" | "github-copilot" | undefined;
  /** Asks for less than the login may do (RFC 6749 §6). Default: not sent. */
  scope?: string | undefined;
  /** Resource indicators (RFC 8707). */
  resource?: string | readonly string[] | undefined;
  /** More headers, such as `User-Agent`. */
  headers?: Readonly<Record<string, string>> | undefined;
  /**
   * Where the answer names the account, as a path of member names: in the claims of `id_token`, of a JWT access token, or in the
   * answer itself. Fields that the credential lacks are filled in; an answer that contradicts it is refused. The claims `email`,
   * `iss` and `sub` need no path.
   */
  identityClaims?:
    | {
        /** Where the account's id is. */
        accountId?: readonly string[] | undefined;
        /** Where its address is. */
        email?: readonly string[] | undefined;
      }
    | undefined;
  /**
   * The member that the provider wraps its answer in: a name, or a path of at most 8 names. If it holds no token, the answer
   * itself is read.
   */
  envelope?: string | readonly string[] | undefined;
  /** What `expires_in` counts, and the refresh token's lifetime: seconds, or milliseconds. Default: `"s"`. */
  expiresInUnit?: "s" | "ms" | undefined;
  /** `"static"`: the provider keeps the refresh token as it is, so asking again never hurts. Default: `"rotates"`. */
  replay?: "rotates" | "static" | undefined;
  /** How long connecting may take, in milliseconds. Default 10,000. */
  connectTimeoutMs?: number | undefined;
  /**
   * How many keys of this client may be refreshed at a time, by all processes that share the lock directory. Each key is assigned
   * to one of the places by its hash, so two keys may wait for each other while another place is free. Default: no limit.
   */
  maxParallel?: number | undefined;
  /**
   * What this provider's own error codes mean, whatever the status: `dead` codes end the login, `unspent` codes leave the refresh
   * token as it is. They are compared whole, in upper or lower case, with the members where providers put codes (`error`,
   * `error.code`, `error_code`, `errorCode`, `code`, `status`, `message`, …), and come before the codes that this package knows.
   */
  classify?:
    | {
        /** End the login. */
        dead?: readonly string[] | undefined;
        /** Leave the refresh token as it is. */
        unspent?: readonly string[] | undefined;
      }
    | undefined;
}

/** Requests for logins that OpenClaw's users share and for providers that wrap their answers; sources are in `presets.json`. Spread one to change it. */
export const OAUTH_PRESETS: Readonly<
  Record<
    "openai-codex" | "anthropic" | "github-app" | "github-copilot" | "tiktok-business" | "withings",
    Readonly<TokenEndpointRequest>
  >
>;

/** What a token endpoint gave. */
export type ExchangedFields = {
  /** Empty if the endpoint, against RFC 6749 §5.1, gave a new refresh token alone: keep that, and ask again. */
  access: string;
  /** Milliseconds since the epoch, if the endpoint says. */
  expires?: number;
  /** A new refresh token. */
  refresh?: string;
  /** When the new refresh token expires, in milliseconds since the epoch. */
  refreshExpires?: number;
  /** ID token (OpenID Connect). */
  idToken?: string;
  /** By {@link TokenEndpointRequest.identityClaims}. */
  accountId?: string;
  /** By {@link TokenEndpointRequest.identityClaims}, or the claim `email`. */
  email?: string;
  /** The claim `iss`. */
  issuer?: string;
  /** The claim `sub`. */
  subject?: string;
};

/** A token endpoint, and what to send to it. */
export interface TokenEndpointCall extends TokenEndpointRequest {
  /** The refresh token to send. */
  refreshToken: string;
}

/**
 * Asks a token endpoint once, with no lock and no store: for a refresh function of your own.
 *
 * @throws errors with `refreshFailure`
 */
export function refreshOAuthToken(
  request: TokenEndpointCall,
  options?: {
    /** Aborts the call; if the request was sent, whether the refresh token is spent is then unknown. */
    signal?: AbortSignal | undefined;
    /** Default and maximum: {@link OAUTH_REFRESH_CALL_TIMEOUT_MS}. */
    timeoutMs?: number | undefined;
  },
): Promise<ExchangedFields>;

/** Where a login is stored, and what else is to be known of it. */
export interface LoginOptions
  extends Pick<RefreshOptions, "stateDir" | "agentDir" | "mainAgentDir" | "store" | "trustedVolume"> {
  /** Replace even another account's login, or another kind of profile. Default `false`. */
  replace?: boolean | undefined;
  /**
   * How a program that has only this store, such as the command line, gets the next token; stored beside the tokens. Not needed for a
   * provider in {@link OAUTH_PRESETS}. The secret itself stays in the environment: `clientSecretEnv` is its variable's name.
   */
  refreshedBy?:
    | {
        /** As {@link TokenEndpointRequest.tokenEndpoint}. */
        tokenEndpoint?: string | undefined;
        /** As {@link TokenEndpointRequest.clientId}. */
        clientId?: string | undefined;
        /** The environment variable that has the client's secret. */
        clientSecretEnv?: string | undefined;
      }
    | undefined;
}

/**
 * Stores a login, durably, through the same locks as refreshes: it creates the store and its directories where there are none, and
 * leaves every other byte of a store as it is. A refresh that is under way finds it there, and its caller gets it.
 *
 * The credential itself says whose it is, or else its tokens do; for a provider in {@link OAUTH_PRESETS} by that preset's claims. If it
 * replaces a login, it inherits that one's account only if the tokens of both have the same issuer and subject.
 *
 * @param credential in our field names or an OAuth client's ({@link ClientAnswer}), or its JSON text; without an access token, or with
 *   one that has expired, the first call refreshes
 * @throws `invalid_argument`; `identity_mismatch`: the name is another account's, or no login, and `replace` is not set;
 *   `refresh_token_spent`: this refresh token was used before; `grant_dead`: the provider has refused it for good; `store_unwritable` and
 *   the like. Nothing is changed then.
 */
export function saveOAuthLogin(
  provider: string,
  profileId: string,
  credential: OAuthCredential | OAuthCredentialFields | NonNullable<Refreshed>,
  options?: LoginOptions,
): Promise<{
  /** Whether a login was there before. */
  outcome: "added" | "replaced";
  /** The store. */
  path: string;
}>;

/**
 * Takes a login out of an agent's store, durably. A refresh that is under way does not bring it back. Copies in other agents' stores
 * stay: remove them too.
 */
export function removeOAuthLogin(
  provider: string,
  profileId: string,
  options?: Omit<LoginOptions, "store" | "replace" | "refreshedBy">,
): Promise<{
  /** Whether there was one. */
  removed: boolean;
  /** The store. */
  path: string;
}>;

/** One profile to keep fresh, with what its refresh needs. */
export interface KeptProfile extends Omit<RefreshOptions, "signal" | "timeoutMs" | "serveUnexpired" | "forceRefresh"> {
  /** The provider's id, such as `openai-codex`. */
  provider: string;
  /** Names the login in the stores. */
  profileId: string;
  /** Default: the `refresh` of all profiles. */
  refresh?: RefreshFunction | TokenEndpointRequest | undefined;
}

/**
 * Refreshes profiles ahead of their expiry, through the same lock, so that agents rarely meet an expired token. Any number
 * of processes may do so side by side: one refreshes. After a failure it tries again.
 *
 * It never waits for a lock, and keeps its process alive only during a provider call of its own.
 */
export function keepOAuthFresh(options: {
  /** Which logins. */
  profiles: readonly KeptProfile[];
  /** Asks the provider, for all profiles that have no `refresh` of their own. */
  refresh?: RefreshFunction | TokenEndpointRequest | undefined;
  /** Each refresh begins up to this much before the margin, at random, in milliseconds. Default 60,000. */
  jitterMs?: number | undefined;
  /** Ends it. */
  signal?: AbortSignal | undefined;
  /** Called with each failure; a lock that another process holds is reported only after half a minute, and once. */
  onError?: ((error: unknown, profile: { provider: string; profileId: string }) => void) | undefined;
}): void;

/** What a client is made of: a login, how it is refreshed, and where it is stored. */
export interface OAuthClientOptions extends Omit<RefreshOptions, "signal" | "forceRefresh" | "rejectedAccess"> {
  /** The provider's id, such as `openai-codex`. */
  provider: string;
  /** Names the login in the stores. */
  profileId: string;
  /** Asks the provider: a function, or a token endpoint for us to ask. */
  refresh: RefreshFunction | TokenEndpointRequest;
  /** Sends the requests of {@link OAuthClient.fetch}. Default: the global `fetch`, as it is at each call. */
  fetch?: ((input: never, init?: never) => Promise<unknown>) | undefined;
  /** Called with the error of each refresh that fails while its callers have a token that is still good. */
  onError?: ((error: unknown) => void) | undefined;
  /**
   * Before each refresh, looks for a newer access token of the same account that another program on this machine has: Codex, Claude Code,
   * opencode, or a file that you name. Callers get it in place of the refresh; nothing is stored, and no file of theirs is locked or
   * written. See docs/client.md.
   */
  adoptFrom?: readonly ("codex" | "claude-code" | "opencode" | NeighbourFile)[] | undefined;
}

/** Another program's JSON file. */
export interface NeighbourFile {
  /** Absolute. */
  path: string;
  /** What it has: access tokens, which must be JWTs, with their expiry in milliseconds since the epoch if they don't say it. */
  // biome-ignore lint/suspicious/noExplicitAny: it is whatever the other program writes, and a wrong guess is ignored
  read(json: any): NeighbourToken | readonly NeighbourToken[];
}

/** An access token of another program's. */
export interface NeighbourToken {
  /** A JWT. */
  access: string;
  /** Milliseconds since the epoch. Default: what the JWT says. */
  expires?: number | undefined;
  /** The account's id; a token of another account is not used. Default: what the JWT says. */
  accountId?: string | undefined;
}

/** Limits of one call of a client. */
export interface OAuthClientCall {
  /** Ends this caller's wait, nothing else. */
  signal?: AbortSignal | undefined;
  /** Limit on this caller's wait, in milliseconds. Default: the client's. */
  timeoutMs?: number | undefined;
  /** The access token that a server refused, for a caller with an HTTP client of its own: see {@link RefreshOptions.rejectedAccess}. */
  rejectedAccess?: string | undefined;
}

/** A login's client. Its functions need no `this`. */
export interface OAuthClient {
  /** An access token that is good for 10 s at least, unless its whole life is shorter or it can't be refreshed now. */
  token(options?: OAuthClientCall): Promise<string>;
  /** The same as a header. */
  headers(options?: OAuthClientCall): Promise<{
    /** `Bearer` and the token. */
    authorization: string;
  }>;
  /**
   * The same with all that is stored beside it, the refresh token too. With a token by {@link OAuthClientOptions.adoptFrom}, `access`
   * and `expires` are the other program's: don't store it.
   */
  credential(options?: OAuthClientCall): Promise<OAuthCredential>;
  /**
   * `fetch` with the login's token, in place of any other `Authorization` header. If the answer is 401, the token is replaced, unless
   * another caller has done so, and the request is sent once more; what then comes is returned. If no other token can be had, it
   * rejects with the refresh's error. A token that was refused although it was new is not replaced again for that within a minute.
   *
   * The body must be sendable twice: a string, a Buffer, a typed array, an ArrayBuffer, URLSearchParams, FormData or a Blob. A
   * stream or an async iterable is refused (`invalid_argument`) before anything is sent. The body of a `Request` is read into
   * memory first.
   *
   * An abort of `init.signal` ends the wait for the token and the request, and rejects with its reason. Redirects are followed as
   * `fetch` does it: another origin gets no token, and its 401 replaces none.
   */
  fetch: typeof fetch;
}

/**
 * A client bound to one login: hands out its access token, refreshed through {@link withOAuthRefreshLock} when it is due.
 *
 * While the token is good, callers get it at once. If it is due (see {@link RefreshOptions.refreshMarginMs}), one refresh goes on
 * behind all callers: it waits for no lock, and keeps its process alive only during a provider call of its own, as an exit then
 * could lose the login. Its failures are told to `onError` and on the diagnostics channel.
 *
 * @throws `invalid_argument`; the functions of the client reject with `no_login` if there is no login to use, else as
 *   {@link withOAuthRefreshLock} does
 */
export function createOAuthClient(options: OAuthClientOptions): OAuthClient;

/**
 * The key's lock base path: `<stateDir>/locks/oauth-refresh/sha256-<64 hex>`. Creates nothing. Without a `stateDir` in options or
 * environment it checks, on this thread, which default exists.
 *
 * As in OpenClaw 2026.4.20. From 2026.6.11 on OpenClaw names its own `lock-<32 hex>` and takes the environment as the third
 * argument; there call OpenClaw's function, and pass what it returns as `lockPath`.
 */
export function resolveOAuthRefreshLockPath(
  provider: string,
  profileId: string,
  options?: {
    /** Absolute. Default as in {@link LockOptions.stateDir}. */
    stateDir?: string | undefined;
  },
): string;

/** Identity evidence in a credential. */
export interface OAuthIdentity {
  /** The account's id. */
  accountId?: unknown;
  /** The account's address. */
  email?: unknown;
}

/**
 * Whether `incoming` may overwrite `existing`: no field that both carry differs, and `incoming` carries every field
 * that `existing` carries. `accountId` is trimmed; `email` is trimmed and lower-cased; blank is absent.
 *
 * Stricter than OpenClaw 2026.4.20, where an equal `accountId` is enough: members of one workspace share theirs. It refuses,
 * and OpenClaw does not, where `existing` carries both fields and `incoming` carries only one, or another `email`.
 */
export function isSafeToCopyOAuthIdentity(
  existing: OAuthIdentity | OAuthCredential,
  incoming: OAuthIdentity | OAuthCredential,
): boolean;

/**
 * Why a refreshed credential was or was not written to the main agent's store. Only a refresh, which knows more than the two
 * credentials, gives the last three:
 * - `same-grant-successor`: the main store held an ancestor of the credential, whose refresh token is spent.
 * - `superseded`: meanwhile a login or logout replaced the agent's own credential, or a login replaced the main store's; or the
 *   credential was received for an agent with another main store.
 * - `logged-out`: the main store's profile was logged out meanwhile.
 */
export type MirrorReason =
  | "no-existing-credential"
  | "non-oauth-existing-credential"
  | "provider-mismatch"
  | "tenant-mismatch"
  | "identity-mismatch-or-regression"
  | "invalid-incoming-expiry"
  | "incoming-not-fresher"
  | "incoming-fresher"
  | "same-grant-successor"
  | "superseded"
  | "logged-out";

/**
 * Whether a refreshed credential may replace what the main store holds, and why. As in OpenClaw 2026.4.20, with two reasons more:
 * `tenant-mismatch` and `invalid-incoming-expiry`.
 */
export function shouldMirrorRefreshedOAuthCredential(params: {
  /** What the main store holds. */
  existing: object | null | undefined;
  /** What the provider gave. */
  refreshed: OAuthCredential | OAuthCredentialFields;
}): {
  /** Whether it may. */
  shouldMirror: boolean;
  /** Why, or why not. */
  reason: MirrorReason;
};

/** Whether an error, its message, its body or its `cause` says that the refresh token was used before. OpenClaw's phrases. */
export function isRefreshTokenReusedError(error: unknown): boolean;

/**
 * What a failed call of a token endpoint means for its refresh token, for a host that asks the provider itself: the class that
 * a refresh function's error would get, and the pause that the provider asked for. Looks at typed causes, status, body and codes
 * by the rules in docs/protocol.md; in doubt the class is `uncertain`. Reads an unread body, from a copy. Never rejects.
 */
export function classifyRefreshFailure(error: unknown): Promise<RefreshFailure>;

/** Which claim: that of one refresh, by a host that asks the provider by itself. */
export interface ClaimOptions extends Pick<LockOptions, "stateDir" | "lockPath" | "trustedVolume"> {
  /** Names this refresh and no other, such as 16 random bytes in hex; no secret. */
  claimId: string;
}

/** A claim that this process has. */
export interface OAuthRefreshClaim {
  /**
   * Deletes the record and releases the lock. Call it once no store contains the marker that the host put in the credential's
   * place.
   */
  settle(): Promise<void>;
  /** Lets go of the claim and leaves the record: the next caller that waits hears that the owner is dead. */
  release(): Promise<void>;
}

/** What became of a claim. `unknown`: it is not on record, because it was settled before the question, or never made. */
export type AwaitedClaim =
  | {
      /** Its owner has settled it, or it is not on record. */
      state: "settled" | "unknown";
    }
  | ({
      /** Its owner is dead, and the claim is yours. */
      state: "ownerDead";
      /** As it was before the claim. */
      credential: OAuthCredential;
      /** Whether the dead owner allowed its refresh token to be sent once more (`uncertain: "probe"`). */
      mayProbe: boolean;
    } & OAuthRefreshClaim);

/**
 * Puts a credential on record, durably, before the host takes it out of its stores to ask the provider; and holds the claim, by a
 * lock that the kernel lets go of when this process (or worker thread) ends. See docs/claims.md.
 *
 * Deletes the records that dead owners left of the same generation; this record replaces them. A claim that is held does not keep
 * the process from ending.
 *
 * @throws `invalid_argument`, also for a `claimId` that was used before; `lock_unavailable`, `journal_unusable`: nothing is on record
 */
export function holdOAuthRefreshClaim(
  provider: string,
  profileId: string,
  options: ClaimOptions & {
    /** What the host calls this refresh token, such as its hash; no secret. */
    generation: string;
    /** As the host's stores have it, with `type: "oauth"`; 40 KiB at most. */
    credential: OAuthCredential | OAuthCredentialFields;
    /** Whether its refresh token may be sent once more if this process dies: `probe` (default) or `fail`. */
    uncertain?: "probe" | "fail" | undefined;
  },
): Promise<OAuthRefreshClaim>;

/**
 * Waits until a claim is settled or its owner is dead, by the kernel's word. If the owner is dead, this caller owns the claim.
 * After its `settle` the others are told `settled`; after its `release`, or the end of this process, the next one is told
 * `ownerDead`.
 *
 * @throws `invalid_argument`, `caller_aborted`, `file_lock_timeout`, `lock_unavailable`, `journal_unusable`
 */
export function awaitOAuthRefreshClaim(
  provider: string,
  profileId: string,
  options: ClaimOptions & Pick<LockOptions, "signal" | "timeoutMs">,
): Promise<AwaitedClaim>;

/**
 * Where several machines that have one login agree on who refreshes it: three functions over an engine that you run already. It sees
 * opaque keys and sealed values only, never a token.
 *
 * Write one of your own where there is none for your engine, and let {@link checkCoordinator} try it.
 */
export interface Coordinator {
  /** For messages. Without a password. */
  readonly name: string;
  /**
   * The row, or `null`. It must never be older than what this process has read or written before.
   *
   * @param key 64 hexadecimal digits
   */
  load(key: string): Promise<CoordinatorEntry | null>;
  /**
   * Writes the row in one step if it has the expected version, or is not there with `null`. When it resolves, the row is durable: it
   * is there after the engine lost its power. Rows must never be deleted: a spent refresh token could be sent again.
   *
   * @param value JSON text of at most 64 KiB
   * @returns the new version, which this row never had before; `null` if the version was another one
   * @throws if it is unknown whether the row was written
   */
  compareAndSwap(key: string, expected: string | null, value: string): Promise<string | null>;
  /**
   * Resolves when the row has another version. It may resolve early, or never: we look now and then as well. It must end when
   * the signal aborts, and must not keep the process from exiting.
   */
  changed?(key: string, version: string, signal: AbortSignal): Promise<void>;
}

/** A row, as {@link Coordinator.load} gives it. */
export interface CoordinatorEntry {
  /** Another one after each write. */
  version: string;
  /** As it was written. */
  value: string;
  /** How long ago the row was written, in milliseconds by the engine's clock; left out where the engine can't tell. */
  ageMs?: number;
}

/** What {@link postgresCoordinator} needs of a pool: a `Pool` of the package `pg` has it. */
export interface PostgresPool {
  /** Runs one statement on whichever connection is free. */
  query(query: { text: string; values: unknown[] }): Promise<{
    /** What it found. */
    rows: unknown[];
  }>;
  /** Lends one connection. */
  connect(): Promise<
    Pick<PostgresPool, "query"> & {
      /** Gives it back; with an error, or `true`, to be closed. */
      release(error?: Error | boolean): void;
    }
  >;
}

/** How a PostgreSQL is used. */
export interface PostgresCoordinatorOptions {
  /** The table's exact name, or `schema.name`. Default `oauth_refresh_lock`. */
  table?: string | undefined;
  /** After so long a request that has no answer fails, in milliseconds. Default 5,000. */
  timeoutMs?: number | undefined;
}

/**
 * A coordinator in your PostgreSQL. Create the table first, and give the user `SELECT`, `INSERT` and `UPDATE` on it; `DELETE` is not
 * needed, and better not granted:
 *
 * ```sql
 * CREATE TABLE oauth_refresh_lock (key text PRIMARY KEY, rev bigint NOT NULL, value text NOT NULL,
 *                                  at timestamptz NOT NULL DEFAULT clock_timestamp());
 * ```
 *
 * Each step is one statement on one of the pool's connections, durable whatever the database's `synchronous_commit` is; it works
 * through PgBouncer too. The address must be that of the primary: a read replica is refused. While somebody waits for another
 * machine, one more connection, which is not the pool's, listens.
 *
 * @param pool your own. We never end it.
 * @throws `invalid_argument`
 */
export function postgresCoordinator(pool: PostgresPool, options?: PostgresCoordinatorOptions): Coordinator;

/** How an etcd is used. */
export interface EtcdCoordinatorOptions {
  /** What the keys begin with. Default `oauth-refresh-lock/`. */
  prefix?: string | undefined;
  /** A user that may read and write the prefix. */
  username?: string | undefined;
  /** That user's password. */
  password?: string | undefined;
  /** The certificates of the authorities that vouch for etcd, PEM. Default: those that Node trusts. */
  ca?: string | Uint8Array | undefined;
  /** This client's certificate and its key, PEM. */
  cert?: string | Uint8Array | undefined;
  /** The certificate's private key, PEM. */
  key?: string | Uint8Array | undefined;
  /** After so long a request that has no answer fails, in milliseconds. Default 5,000. */
  timeoutMs?: number | undefined;
}

/**
 * A coordinator in your etcd 3.4 or newer, through its JSON gateway; it needs no other package. Of several endpoints of one
 * cluster, those that can't be reached are passed over. It tells no ages.
 *
 * @param endpoints such as `https://etcd-0:2379`
 * @throws `invalid_argument`
 */
export function etcdCoordinator(endpoints: string | string[], options?: EtcdCoordinatorOptions): Coordinator;

/** How a Kubernetes API is used. */
export interface KubernetesCoordinatorOptions {
  /** Default: the pod's own. Better one with nothing else in it, since rights can't be limited to Secrets by how their names begin. */
  namespace?: string | undefined;
  /** What the Secrets' names begin with. Default `oauth-refresh-lock`. */
  name?: string | undefined;
  /** The API server's address. Default: the pod's. */
  server?: string | undefined;
  /** A bearer token, or what returns the current one. Default: that of the pod's service account, read each time. */
  token?: string | (() => string | Promise<string>) | undefined;
  /** The certificate of the authority that vouches for the API server, PEM. Default: the service account's. */
  ca?: string | Uint8Array | undefined;
  /** After so long a request that has no answer fails, in milliseconds. Default 5,000. */
  timeoutMs?: number | undefined;
}

/**
 * A coordinator in the Kubernetes API: a Secret for each row. In a pod it needs no option. The pod's service account needs the verbs
 * `get`, `create`, `update` and `watch` on `secrets` in the namespace. It tells no ages.
 *
 * @throws `invalid_argument`
 */
export function kubernetesCoordinator(options?: KubernetesCoordinatorOptions): Coordinator;

/** What {@link checkCoordinator} found. */
export interface CoordinatorReport {
  /** Whether every rule holds. */
  ok: boolean;
  /** One for each rule. */
  checks: {
    /** For people. */
    rule: string;
    /** Whether it holds. */
    ok: boolean;
    /** What is wrong; or what is worth knowing although nothing is. */
    detail?: string;
  }[];
}

/**
 * Tries whether a coordinator keeps the rules, for an adapter that you write: one winner among many at once, no lost update, new
 * versions, values that come back as they were, and more. It can't try what happens when the engine loses its power. It writes some
 * dozens of rows under keys of its own, and leaves them there. It takes about ten seconds, and longer where the engine is slow: with
 * the defaults up to 160 of its operations follow one upon another. One that takes a minute hangs.
 *
 * @throws `invalid_argument`
 */
export function checkCoordinator(
  coordinator: Coordinator,
  options?: {
    /** The same engine, as another process has it; with it more can be tried. */
    another?: Coordinator | undefined;
    /** How often each race is run. Default 10. */
    rounds?: number | undefined;
    /** How many take part. Default 8. */
    writers?: number | undefined;
  },
): Promise<CoordinatorReport>;

/** A provider call older than this is aborted: 120,000 ms. */
export const OAUTH_REFRESH_CALL_TIMEOUT_MS: 120_000;

/** OpenClaw's lock options. We use only `stale`: we wait in the kernel and do not retry. */
export const OAUTH_REFRESH_LOCK_OPTIONS: Readonly<{
  /** Not used here. */
  retries: Readonly<{ retries: 20; factor: 2; minTimeout: 100; maxTimeout: 10_000; randomize: true }>;
  /** From which age on a stuck refresh is taken over, in milliseconds. */
  stale: 180_000;
}>;

/**
 * Whether this package can work here: its native addon loads, this Node is new enough, and the operator has not switched it off. Never
 * throws. The environment variable `OAUTH_REFRESH_LOCK` is the operator's word, until the addon is loaded: `auto` (the default) loads
 * it at the first call; `off` never does, so that every call that needs it throws `addon_unavailable`; `require` loads it when this
 * package is imported, which throws if it can't be loaded. Another word is taken for `off`, with a warning.
 */
export function isAvailable(): boolean;

/**
 * Looks at every key of a state directory: which process holds its lock, which step its refresh has reached, and what blocks it. It
 * creates and changes nothing, needs no right to write, and returns no secret; it reads the agents' stores to leave out failures of
 * tokens that were replaced. It never takes a lock that excludes an owner; where the kernel doesn't list locks (elsewhere than on
 * Linux, of another PID namespace, on a remote file system), it takes the shared lock for an instant. For people, logs and
 * dashboards: the report may be outdated when you read it.
 *
 * A lock path in another directory is not seen.
 *
 * @throws `invalid_argument`, `lock_unavailable`
 */
export function inspectOAuthRefreshLocks(options?: {
  /** State directory, absolute. Default as in {@link LockOptions.stateDir}. */
  stateDir?: string | undefined;
  /** To look into the rows of the logins that hosts share. */
  coordinator?: Coordinator | string | undefined;
  /** The key or keys that calls give, to see whether the rows can be opened. */
  coordinatorKey?: string | readonly string[] | undefined;
}): Promise<OAuthRefreshLockReport[]>;

/** What a coordinator knows of a login, by its refresh token as it is stored here. */
export interface OAuthRefreshRow {
  /**
   * - `free`: no host is refreshing it.
   * - `sent`: a host has claimed it, and is asking the provider or about to.
   * - `lost`: that host has been silent for 180 s.
   * - `unsure`: a call ended without a clear answer; any host may ask again.
   * - `spent`: a host has refreshed it. The next call here takes the new token over.
   * - `dead`: the provider has refused it for good.
   * - `unknown`: the coordinator could not be asked; `problem` says why.
   */
  state: "free" | "sent" | "lost" | "unsure" | "spent" | "dead" | "unknown";
  /** The host that claimed it last, and the process there. */
  host?: string;
  /** The id of that process. */
  pid?: number;
  /** How old that is, in milliseconds, if the coordinator's clock tells. */
  ageMs?: number;
  /** How often in a row it was sent and no token came. */
  attempts?: number;
  /** Whether one of those calls may have used it up. */
  inDoubt?: boolean;
  /** Why it could not be asked. */
  problem?: OAuthRefreshProblem;
}

/** A key, as {@link inspectOAuthRefreshLocks} found it. */
export interface OAuthRefreshLockReport {
  /** The lock's base path; the files that belong to it begin with it. */
  lockPath: string;
  /** How often a peer has taken over from a stuck owner. */
  term: number;
  /** The process that holds the lock now. */
  holder: {
    /** The process's id. */
    pid: number;
    /** Its command, if it is a process of our PID namespace. */
    command: string | null;
    /** How long it has held the lock, in milliseconds without suspended time; `null` if it took it in another boot. */
    heldMs: number | null;
    /** When it took the lock, in milliseconds since the epoch by its host's clock. */
    since: number;
    /** From which age on, in milliseconds, a peer may take over; `null`: never, as from `withOAuthProfileLock`. */
    staleAfterMs: number | null;
    /** When the process was started, in clock ticks since the boot. */
    startTime: number | null;
    /** The boot's id. */
    boot: string;
    /** The inode of its PID namespace. */
    pidNamespace: number | null;
    /** Whether that namespace is not ours, but a container's for example: `pid` then is its number there. */
    isElsewhere: boolean;
  } | null;
  /** How many processes of this kernel wait for it; `null` where we can't tell, as inside a PID namespace about another's. */
  waiters: number | null;
  /** How far the last refresh has come. */
  state: "idle" | "dispatched" | "received" | "committed";
  /** The process that last set out to ask the provider. */
  lastClaim: {
    /** The process's id. */
    pid: number;
    /** When, in milliseconds since the epoch. */
    at: number;
  } | null;
  /**
   * For each refresh token, the last failed call that still restricts the next caller, also a call that ended with its owner's
   * death. Refresh tokens that no known store holds are left out, unless some store can't be read (a host's, for example). Only
   * `answered_dead` needs a new login.
   */
  failures: {
    /** As {@link RefreshFailure.class}. */
    outcome: "answered_unspent" | "uncertain" | "answered_dead";
    /** How often in a row the provider was asked and no token came. */
    attempts: number;
    /** The process that asked. */
    pid: number;
    /** The host that asked, if that is another one. */
    host?: string | null;
    /** When it asked, in milliseconds since the epoch. */
    at: number;
    /** How long every caller still waits before the provider is asked again. */
    retryAfterMs: number | null;
  }[];
  /** How many received credentials the journal keeps for stores, including those that are just being saved or were superseded. */
  waitingCredentials: number;
  /**
   * The stores, as paths or `host:<name>`, that should have one of these and could not take it yet. A credential that a login, or
   * the main store's copy, has superseded does not count. Empty while the lock is held.
   */
  waitingFor: string[];
  /** What the journal knows of a coordinator, if it knows anything. */
  shared?: {
    /** How many new tokens that has not been told of. */
    owed: number;
    /** If a coordinator was given: the rows of the stored logins. */
    rows?: OAuthRefreshRow[];
  } | null;
  /**
   * Another program's lock file that blocks this key; its process may be alive or dead. `null` for the holder's own lock file and
   * for one that a dead process of ours left.
   */
  foreign: {
    /** Its process, if the file says. */
    pid: number | null;
    /** When it took the lock, in milliseconds since the epoch, if the file says. */
    createdAt: number | null;
    /** Whether that process lives. */
    alive: boolean;
  } | null;
  /** Why the lock file or the journal can't be used or read. */
  problem: OAuthRefreshProblem | null;
  /** Files that a dead process left; the next owner removes them. */
  debris: string[];
}

/** What each means and what to do about it: [errors by code](errors.md). */
export type ErrorCode =
  /** An argument or option is of the wrong type, out of range, unknown or in the wrong place; or a default path needs a directory that is not there. Nothing was done. */
  | "invalid_argument"
  /** The refresh function, or a host's store, called this package for the key that is being refreshed. */
  | "nested_call"
  /** The caller's time for a lock, the key's or a store's, ran out: `lockPath` names the lock, `holder` (where known) its holder. Or the file system of the lock or store does not answer. */
  | "file_lock_timeout"
  /** The caller's time ran out during its own refresh; the refresh goes on and is saved. */
  | "caller_timeout"
  /** The caller's `signal` aborted; `cause` is its reason. */
  | "caller_aborted"
  /** The provider call took longer than `callTimeoutMs` and was aborted; a refresh function's late success is still saved. */
  | "refresh_call_timeout"
  /** The refresh function threw something that is not an `Error`; `cause` is what it threw. */
  | "refresh_threw_non_error"
  /** The refresh function's result is not a credential: no token in a known shape, a token that is not well-formed text, an expiry in the past, or more than 40 KiB. */
  | "invalid_refresh_result"
  /** The refresh function's result belongs to another account, tenant or provider. Nothing was written. */
  | "identity_mismatch"
  /** The stored profile belongs to another provider than the call, or names none. */
  | "provider_mismatch"
  /** A store could not be read: it is another user's, closed to this one, or not a file. Or a host's `load` threw (`cause`) or did not return within 30 s. */
  | "store_unreadable"
  /** A host's store, or its owner's lock, was in use for as long as the caller waited, or claimed by another program; or `hold` failed (`cause`). */
  | "store_busy"
  /** A store is cut off, not JSON, not UTF-8, or not of the known shape; or its credential is larger than 40 KiB, or is a login written wrongly. */
  | "store_invalid"
  /** A store is larger than 64 MiB. */
  | "store_too_large"
  /** A store could not be written. Or a host's `compareAndSwap` threw (`cause`), did not return, or did not do what it must. */
  | "store_unwritable"
  /** A store was there when its refresh began, and is gone. The journal keeps the received credential until the store is back. */
  | "store_vanished"
  /** The agent keeps its credentials in SQLite; a JSON store beside it would block them. */
  | "sqlite_store"
  /** A login or logout replaced the profile while the call was under way; the result was not written. */
  | "superseded"
  /** A client has no login to use: none is stored, it was logged out, or its refresh function returned nothing. Log in. */
  | "no_login"
  /** A server refused the access token of a client, and the request could not be sent again; another token has been asked for. */
  | "access_refused"
  /** The last refresh brought no token; the provider is asked again after `retryAfterMs`, and this caller will not wait so long. */
  | "refresh_backoff"
  /** The provider refuses this refresh token for good. It is not asked again until another one is stored. */
  | "grant_dead"
  /** This refresh token was used before (was a backup restored, or the same login stored again?), and its successor is in no store and no journal. */
  | "refresh_token_spent"
  /** It is not known yet whether the provider has used the refresh token; it is asked again in `retryAfterMs` at the earliest. */
  | "refresh_uncertain"
  /** The provider answered, and the journal could not record the answer; the stores were tried all the same. This process keeps trying. */
  | "receipt_unsaved"
  /** The journal can't be read or written, is full of unsaved credentials, or is another key's; the message says which. No call begins. */
  | "journal_unusable"
  /** A newer release of this package wrote the journal. */
  | "journal_version"
  /** The token endpoint was not reached, and nothing was sent; or it refused the request without looking at it (HTTP/2). */
  | "provider_unreachable"
  /** The token endpoint refused: see `status` and `oauthError`; or a refresh function returned a refusal. Or the credential has no refresh token; then nothing was sent. */
  | "provider_refused"
  /** The token endpoint answered with something that is neither a token nor an error, or with a token that is not valid text. */
  | "provider_answer_invalid"
  /** The request was sent, and no whole answer came back. */
  | "provider_answer_lost"
  /** The coordinator can't be reached, or what it holds can't be used: the message says which and what to do. The provider was not asked. */
  | "coordinator_unavailable"
  /** The lock file or its directory can't be used. */
  | "lock_unavailable"
  /** No native addon for this platform could be loaded, Node is older than 20, or `OAUTH_REFRESH_LOCK=off` is set. */
  | "addon_unavailable"
  /** A defect of this package. */
  | "internal";

/** The holder of a lock, for people to read: no decision depends on it. */
export interface LockHolder {
  /** The id of the process that holds it. */
  pid: number;
  /** How long it has held the lock, in milliseconds by this host's clock. */
  heldMs: number;
  /** How far its refresh has come, as the journal says. */
  state?: "idle" | "dispatched" | "received" | "committed";
}

/**
 * How a provider call failed. Added as `refreshFailure` to the error that the refresh function threw. If that error already has a
 * `refreshFailure` with one of these classes, its `class` and `retryAfterMs` count.
 */
export interface RefreshFailure {
  /**
   * - `not_asked`: the refresh function decided not to ask; only its own error, or `classify`, can say so. This caller gets the
   *   error at once, and the next caller's function is called without a pause.
   * - `not_sent`: the provider was not reached. The next caller tries.
   * - `answered_unspent`: it answered and has not used the refresh token (429, 503, a refused client). Every caller waits a while.
   * - `answered_dead`: it refused the refresh token for good. It is not asked again until another one is stored.
   * - `uncertain`: it may have used the refresh token. See {@link RefreshOptions.uncertain}.
   */
  class: "not_asked" | "not_sent" | "answered_unspent" | "answered_dead" | "uncertain";
  /**
   * With `answered_unspent`, if the provider asked for a pause: how long every caller waits, in milliseconds; at least 1,000
   * and at most 3,600,000, whatever it asked for.
   */
  retryAfterMs?: number;
  /** With `answered_dead`: what every later caller is told. */
  message?: string;
}

/**
 * Every error that this package itself raises. No message or field holds a secret.
 */
export class OAuthRefreshLockError extends Error {
  private constructor();
  /** Where two copies of this package may be loaded, tell its errors by this and `code`. */
  name: "OAuthRefreshLockError";
  /** What went wrong, for programs. Stable. */
  code: ErrorCode;
  /** The file or directory concerned; `host:` and the name of a {@link CredentialStore}. */
  path?: string;
  /** With `file_lock_timeout`: `<base>.lock`, as OpenClaw expects it; `<store>.lock` if a store's lock was waited for. */
  lockPath?: string;
  /** With `file_lock_timeout`, where known. */
  holder?: LockHolder;
  /** With `refresh_backoff`, `refresh_uncertain` and `provider_refused`: how long every caller waits, in milliseconds. */
  retryAfterMs?: number;
  /** The HTTP status of the token endpoint's answer. */
  status?: number;
  /** That answer's error code, such as `invalid_grant` (RFC 6749 §5.2). */
  oauthError?: string;
  /** Set if a call to a token endpoint failed, or a refresh function returned a refusal. */
  refreshFailure?: RefreshFailure;
}

/** What every event tells. */
export interface OAuthRefreshLockEventSubject {
  /** The provider's id, as the call has it. */
  provider: string;
  /** Names the login, as the call has it. */
  profileId: string;
  /** The key's lock base path. */
  lockPath: string;
  /** The calling agent's directory; `host:` and the name of its {@link CredentialStore}. */
  agentDir?: string;
  /** Milliseconds since the epoch, with fractions. */
  at: number;
}

/** A message on the `node:diagnostics_channel` named `oauth-refresh-lock`. `type` says what else it has. */
export type OAuthRefreshLockEvent = OAuthRefreshLockEventSubject &
  (
    | {
        /**
         * - `waiting`: the caller stands in line behind a peer in this process or another.
         * - `acquired`: the key's lock is ours.
         * - `dispatched`: the provider is about to be asked.
         * - `refreshed`: the new credential is in the agent's own store.
         * - `recovered`: the journal held a credential that a previous owner had received.
         */
        type: "waiting" | "acquired" | "dispatched" | "refreshed" | "recovered";
      }
    | {
        /** The stored credential was usable. */
        type: "fresh";
        /** If it is about to expire and was not refreshed: the `code` of {@link RefreshResult.refreshError}, where known. */
        code?: string;
      }
    | {
        /** A peer's credential was taken over. */
        type: "adopted";
        /** The host that asked the provider, if that is another one. */
        host?: string;
      }
    | {
        /** The main store took the credential. */
        type: "mirrored";
        /** Why it was allowed to. */
        reason: MirrorReason;
      }
    | {
        /** The main store did not take the credential. */
        type: "refused";
        /** Why not. */
        reason: MirrorReason | "store-error";
      }
    | {
        /** We removed the lock file of an owner that is dead, past the age limit, or stuck. */
        type: "reclaimed";
        /** That owner's process; `null` if its lock file does not say. */
        pid: number | null;
      }
    | {
        /** Something that people should know of a directory's file system. Once per directory; also a Node warning. */
        type: "warned";
        /**
         * - `lock_granted_twice`, `lock_refused`, `file_system_not_local`: its locks can't be relied on.
         * - `directory_not_synced`: its syncs of directories can't.
         */
        code: "lock_granted_twice" | "lock_refused" | "file_system_not_local" | "directory_not_synced";
        /** For people. */
        message: string;
        /** The directory; with `directory_not_synced` the first such one on that file system. */
        path: string;
      }
    | {
        /** The call failed. */
        type: "failed";
        /** The error's `code`, where it has one: an {@link ErrorCode}, or the refresh function's own. */
        code?: string;
      }
  );
