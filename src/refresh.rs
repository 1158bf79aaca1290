//! One caller's way to a usable credential: look, then lock and decide, then ask the provider and settle.
//!
//! What is read before the lock is held is a hint; what [`Refresh::decide`] reads under it is authoritative. The types carry
//! the order: a [`Claimed`] generation is [`Sent`], and only that can be settled; settling consumes it, and the lock is released with it.

mod acquire;
mod attempt;
mod caller;
mod claim;
mod commit;
mod decide;
mod decision;
mod hosts;
mod known;
mod login;
mod look;
pub mod mirror;
mod obstacle;
pub mod relation;
mod retry;
mod run;
mod settle;
mod stored;
mod successor;
mod turn;
pub mod verdict;
mod waits;

pub use crate::failure::{Backoff, CallFailure, FailureClass};
pub use attempt::{Claimed, Sent, TakenOver};
pub use caller::Caller;
pub use decision::Decision;
pub use login::LoggedIn;
pub use retry::{Patience, PauseReason};
pub use run::{AskResult, Event, Program, Run, Turn, Work};
pub use settle::{Failed, Settled, Unsettled};
pub use waits::{LookedAgain, Waits};

use crate::clock::Clock;
use crate::coordinator::{CoordinatorDown, Hosts};
use crate::credential::Credential;
use crate::credential::jwt;
use crate::digest::Digest;
use crate::error::{Code, Error, Result};
use crate::key::Key;
use crate::store::Store;
use known::Known;
use relation::Relation;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex, OnceLock};
use zeroize::Zeroizing;

/// A token that expires within this many milliseconds counts as expired (OpenClaw's rule).
pub const DEFAULT_REFRESH_MARGIN_MS: f64 = 300_000.0;

/// The margin is at most this part of a token's life, as far as that is known: a token that lives no longer than the margin
/// would be refreshed at every call.
pub const MAX_MARGIN: f64 = 0.2;

/// What a caller asks for.
pub struct Refresh {
    /// Provider and profile.
    pub key: Key,
    /// The key's lock file. Its journal lies beside it.
    pub lock_base: PathBuf,
    /// The state directory, where the locks of stores lie.
    pub state_dir: PathBuf,
    /// The calling agent's store.
    pub own: Store,
    /// The main agent's store; `None` if the calling agent is the main agent.
    pub main: Option<Store>,
    /// See [`DEFAULT_REFRESH_MARGIN_MS`]; at most [`MAX_MARGIN`] of the token's life.
    pub margin_ms: f64,
    /// Serve the stored access token while it has not expired, whatever keeps it from being refreshed.
    pub serve_unexpired: bool,
    /// Replace the credential although it has not expired: the access token that the first [`Refresh::look`] finds is
    /// rejected.
    pub force: bool,
    /// An access token that is not to be served although it has not expired: the resource server refused it.
    pub rejected: OnceLock<Zeroizing<String>>,
    /// Digests of the access tokens that the first [`Refresh::look`] found in the own and the main store. An unexpired one that has
    /// come since is what we would get ourselves, even if it lives shorter than the margin.
    pub initial_access_digests: OnceLock<[Option<Digest>; 2]>,
    /// What the stores held when this call last read them.
    pub last_read: Mutex<Option<Credential>>,
    /// What to do when it is not known whether the provider has rotated.
    pub uncertain: Uncertain,
    /// The other hosts that share its grant, if there are any: see [`Refresh::share_by`].
    pub hosts: Option<Hosts>,
    /// What to do without their word.
    pub coordinator_down: CoordinatorDown,
    /// How often the engine could not be used.
    pub engine_refusals: AtomicU32,
    /// What it has met while it waited.
    pub waits: Waits,
    /// Whether [`Refresh::glance`] has just found that the own store is not of OpenClaw's SQLite era.
    pub is_own_of_file_era: AtomicBool,
    /// Whether it has just found that the own one has to be read.
    pub is_own_unknown: AtomicBool,
    /// Now.
    pub clock: Arc<dyn Clock>,
}

/// What to do when it is not known whether the provider has rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Uncertain {
    /// Ask again with the same refresh token, after a pause that all processes keep, until the provider says. If it has rotated,
    /// it may take that for theft; but then the login is lost anyway, as the new token is.
    #[default]
    Probe,
    /// Fail, until another refresh token is stored, or a caller that may ask again does.
    Fail,
}

/// A credential for the caller, without asking the provider.
#[derive(Debug)]
pub enum Served {
    /// No such profile, or not an OAuth profile.
    Absent,
    /// The stored credential is usable.
    Fresh(Credential),
    /// The stored credential is about to expire, and can't be refreshed now.
    Unexpired {
        /// The credential that is served.
        credential: Credential,
        /// Why not.
        refresh_error: Error,
    },
    /// The main store's or a peer's credential was taken over.
    Adopted {
        /// The credential that is served.
        credential: Credential,
        /// Why it could not be saved in the agent's own store too. It is durable where it came from.
        not_saved: Option<Error>,
        /// The host that got it, if that is another one.
        from_host: Option<String>,
    },
    /// The journal held what a previous owner had received.
    Recovered {
        /// The credential that is served.
        credential: Credential,
        /// Why it could not be saved in the stores yet. It is durable in the journal.
        not_saved: Option<Error>,
    },
}

/// What the provider answered.
#[derive(Debug)]
struct Answered {
    /// The credential that it makes of the one that was sent.
    credential: Credential,
    /// Which of its fields are new.
    answered: Vec<String>,
}

/// Where a refresh finds what processes share.
pub struct Paths {
    /// See [`Refresh::lock_base`].
    pub lock_base: PathBuf,
    /// See [`Refresh::state_dir`].
    pub state_dir: PathBuf,
}

impl Paths {
    /// Those of a key in a state directory, as OpenClaw has them.
    #[must_use]
    pub fn of(key: &Key, state_dir: PathBuf) -> Self {
        Self { lock_base: key.lock_base(&state_dir), state_dir }
    }
}

impl Refresh {
    /// What the defaults ask for.
    pub fn new(key: Key, paths: Paths, own: Store, main: Option<Store>, clock: Arc<dyn Clock>) -> Self {
        let Paths { lock_base, state_dir } = paths;
        Self {
            key,
            lock_base,
            state_dir,
            own,
            main,
            margin_ms: DEFAULT_REFRESH_MARGIN_MS,
            serve_unexpired: true,
            force: false,
            rejected: OnceLock::new(),
            initial_access_digests: OnceLock::new(),
            last_read: Mutex::default(),
            uncertain: Uncertain::default(),
            hosts: None,
            coordinator_down: CoordinatorDown::default(),
            engine_refusals: AtomicU32::default(),
            waits: Waits::default(),
            is_own_of_file_era: AtomicBool::default(),
            is_own_unknown: AtomicBool::default(),
            clock,
        }
    }

    /// Refuses where the stores are of OpenClaw's SQLite era.
    pub fn refuse_sqlite_era(&self) -> Result<()> {
        self.own.refuse_sqlite_era(true)?;
        self.refuse_mains_sqlite_era()
    }

    /// The rest of [`Self::refuse_sqlite_era`], once the own store was looked at.
    fn refuse_mains_sqlite_era(&self) -> Result<()> {
        self.main.as_ref().map_or(Ok(()), |main| main.refuse_sqlite_era(self.own.is_hosted()))
    }

    /// What to tell a caller that has waited in vain, if that is for a store's lock.
    #[must_use]
    pub fn delay(&self) -> Option<Error> {
        std::iter::once(&self.own).chain(&self.main).find_map(Store::delay)
    }

    fn is_good(&self, held: &Credential) -> bool {
        // Which token is to be replaced the first look tells.
        let is_rejected = self.is_rejected(held) || (self.force && self.rejected.get().is_none());
        held.is_unexpired(self.clock.now_ms()) && !is_rejected
    }

    /// Whether a host keeps one of the stores, and may take any time to answer.
    #[must_use]
    pub fn has_host_stores(&self) -> bool {
        std::iter::once(&self.own).chain(&self.main).any(Store::is_hosted)
    }

    /// The store that this caller adopts from: the main store, or its own if it is the main agent.
    #[must_use]
    pub fn main_store(&self) -> &Store {
        self.main.as_ref().unwrap_or(&self.own)
    }

    /// Whether it outlives its margin, or has come since this call began and has not expired.
    fn is_usable(&self, credential: &Credential) -> bool {
        let now_ms = self.clock.now_ms();
        if self.is_rejected(credential) || !credential.is_unexpired(now_ms) {
            return false;
        }
        let has_come_since =
            || self.initial_access_digests.get().is_some_and(|seen| !seen.contains(&access_digest(credential)));
        let lifetime_ms = || self.known().lifetime_ms(access_digest(credential)?);
        credential.is_usable(now_ms, self.margin_ms)
            || has_come_since()
            || credential.is_usable(now_ms, margin_ms(credential, lifetime_ms(), self.margin_ms))
    }

    fn is_of_provider(&self, credential: &Credential) -> bool {
        credential.provider() == Some(self.key.provider())
    }

    fn is_rejected(&self, credential: &Credential) -> bool {
        self.rejected.get().is_some_and(|rejected| credential.access() == Some(rejected.as_str()))
    }

    /// Whether `offered` is usable, and may take the place of `held`.
    fn is_adoptable(&self, held: &Credential, offered: &Credential, known: &Known) -> bool {
        self.is_usable(offered) && may_take(held, offered, known)
    }

    /// What the key's journals know. Without its lock only this is sure: they know of every successor that a store was seen to
    /// hold before.
    fn known(&self) -> Known {
        Known::read(&self.lock_base)
    }

    /// Whether the caller takes this credential although it should have been refreshed.
    fn may_serve(&self, held: &Credential) -> bool {
        self.serve_unexpired && self.is_good(held)
    }
}

/// How long before its expiry a credential counts as expired, if it lives for `lifetime_ms` or tells so itself.
pub(crate) fn margin_ms(credential: &Credential, lifetime_ms: Option<f64>, wanted_ms: f64) -> f64 {
    let lifetime_ms = lifetime_ms.or_else(|| credential.access().and_then(jwt::lifetime_ms));
    lifetime_ms.map_or(wanted_ms, |lifetime| wanted_ms.min(lifetime * MAX_MARGIN))
}

pub(crate) fn access_digest(credential: &Credential) -> Option<Digest> {
    credential.access().map(|access| Digest::of(&[access.as_bytes()]))
}

/// Whether `offered` may take the place of `held`. One that the provider has refused for good is useless.
fn may_take(held: &Credential, offered: &Credential, known: &Known) -> bool {
    Relation::of(held, offered, &known.ledger).replaces() && !known.is_dead(offered.generation())
}

fn superseded(store: &Store) -> Error {
    let message = "the profile was replaced while the call was under way; call again";
    Error::at(Code::Superseded, store.path(), message)
}
