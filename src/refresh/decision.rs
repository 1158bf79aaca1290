//! What the owner of a key's lock is to do.

use super::{Claimed, Served};
use crate::error::Error;
use crate::lock::Guard;
use std::path::PathBuf;

/// What the owner of the lock is to do.
#[derive(Debug)]
pub enum Decision {
    /// Nothing: a peer has refreshed. The locks are released.
    Served(Served),
    /// Ask the provider. It is on record that it is being asked.
    Send(Box<Claimed>),
    /// Decide again after a pause that everyone keeps. The locks are released.
    BackOff {
        /// In so many milliseconds.
        wait_ms: f64,
        /// What to tell a caller that can't wait so long.
        error: Error,
    },
    /// Decide again in so many milliseconds: another program is refreshing, as a store says. The locks are released.
    Claimed {
        /// Longer each time.
        wait_ms: f64,
        /// What to tell a caller that can't wait so long.
        error: Error,
    },
    /// Decide again in this many milliseconds: an owner that is not stuck, of a term that is over, is asking the provider.
    /// The locks are released.
    Later(f64),
    /// The same refresh token is being sent under another name: wait for that key's lock, let it go, then decide again.
    Busy {
        /// The key's lock, to decide with.
        lock: Guard,
        /// The lock to wait for.
        other: PathBuf,
    },
    /// The same refresh token is being sent on another host: wait for that, then decide again.
    Elsewhere {
        /// The key's lock, to decide with.
        lock: Guard,
        /// What to wait for.
        awaited: Awaited,
    },
    /// We were stuck, and a peer has taken over; or another program has taken what our sidecar should have kept it from.
    /// Nothing was sent. Take the lock again, then decide again.
    TakenOver,
}

/// A row of the coordinator that another host is to change.
#[derive(Debug)]
pub struct Awaited {
    /// The row.
    pub row: String,
    /// As it is now.
    pub version: String,
    /// In so many milliseconds that host counts as lost.
    pub left_ms: f64,
    /// What to tell a caller that can't wait so long.
    pub error: Error,
}

/// What a try to decide came to.
pub(super) enum Try {
    Decided(Decision),
    /// A store has changed meanwhile: decide again, on what it holds now.
    Again(Guard),
}

impl From<Decision> for Try {
    fn from(decision: Decision) -> Self {
        Self::Decided(decision)
    }
}

impl From<Served> for Try {
    fn from(served: Served) -> Self {
        Self::Decided(Decision::Served(served))
    }
}
