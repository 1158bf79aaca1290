//! One grant on several hosts: a row for each refresh token, in an engine that all hosts reach (see `docs/many-hosts.md`).
//!
//! The engine compares and swaps, and says how old a row is. It sees names and sealed values: both come from the refresh token
//! itself ([`seal`]), so who holds one can find its row and open its successor, and nobody else can.

mod row;
pub mod seal;

pub use row::{Earlier, HostClaim, Row, RowState};
pub use seal::{Answer, Grant};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// A claim of this age, in milliseconds, is in doubt: its host may be lost. Longer than a provider call may take.
pub const CLAIM_LIMIT_MS: f64 = 180_000.0;

/// Under a claim of this age nothing is sent any more: an event loop may take half a minute to hear that it is to ask, the call takes
/// up to two minutes, and it has to end before the limit.
pub const SEND_LIMIT_MS: f64 = 30_000.0;

/// The engine. Its functions may be called from any thread, and block it for a few seconds at most.
pub trait Coordinator: Send + Sync {
    /// What people call it.
    fn name(&self) -> &str;

    /// The value of a row now, or a little while ago.
    fn load(&self, row: &str) -> Result<Option<Entry>, Unavailable>;

    /// Puts `value` in the place of the version `expected` (`None`: no row) in one durable step. The new version; `None` if it was
    /// another; an error if that is not known: it may still happen.
    fn compare_and_swap(&self, row: &str, expected: Option<&str>, value: &str) -> Result<Option<String>, Unavailable>;

    /// Calls `changed` once the row is no longer of this version, at the latest when `limit` is over, and perhaps early. What comes
    /// back is dropped when nobody waits any more.
    fn watch(&self, row: &str, version: &str, limit: Duration, changed: Box<dyn FnOnce() + Send>) -> Option<Watch>;

    /// Whether it can never be asked again, as whoever gave it has ended.
    fn is_gone(&self) -> bool {
        false
    }
}

/// A wait for a change, for as long as it is kept.
pub type Watch = Box<dyn Send>;

/// A row as an engine holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Another one after each write.
    pub version: String,
    /// JSON text: see [`Row`].
    pub value: String,
    /// How long ago it was written, if the engine's own clock tells.
    pub age_ms: Option<f64>,
}

/// Why an engine gave no answer, in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(pub String);

/// What a call does about a host that has been silent for [`CLAIM_LIMIT_MS`] while it asked the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LostHost {
    /// Waits for its word, or for another login: it may have the new token.
    #[default]
    Wait,
    /// Asks again. If that host comes back with a token, the provider may have taken the second call for theft.
    Probe,
}

/// What a call does while the engine can't be reached, or is not named for a login that it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CoordinatorDown {
    /// Asks no provider.
    #[default]
    Refuse,
    /// Goes on as if this host were the only one.
    Alone,
}

/// What a refresh needs to share its grant with other hosts.
#[derive(Clone)]
pub struct Hosts {
    /// The engine.
    pub coordinator: Arc<dyn Coordinator>,
    /// See [`LostHost`].
    pub lost_host: LostHost,
    /// Mixed into the keys of the sealed values, the newest first.
    pub keys: Vec<Zeroizing<String>>,
    /// What people call this host.
    pub name: String,
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosts").field("coordinator", &self.coordinator.name()).finish_non_exhaustive()
    }
}
