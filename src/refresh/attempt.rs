//! One provider call, from the claim to the end. The types carry the order: what is claimed can be sent, and only what was sent can
//! be settled, or fail.

use super::Answered;
use super::hosts::ClaimedRow;
use crate::credential::{Credential, Generation};
use crate::error::Result;
use crate::journal::Journal;
use crate::journal::record::Record;
use crate::lock::Guard;

/// A refresh token that this process is about to send. The journal says that it is being sent. Holds the key's lock.
#[derive(Debug)]
#[must_use = "send it or give it up: otherwise the journal says that the token may have been sent"]
pub struct Claimed {
    attempt: Sent,
    /// What the journal said before.
    before: Record,
}

/// A peer has taken over from us. Nothing was sent, and nothing may be.
#[derive(Debug)]
pub struct TakenOver;

/// A refresh token that the provider may have seen. Holds the key's lock. If it is dropped, the journal still says that it is
/// being sent, as after the death of its owner.
#[derive(Debug)]
pub struct Sent {
    pub(super) journal: Journal,
    pub(super) credential: Credential,
    pub(super) spent: Generation,
    /// Whether it is the main store's credential although the agent has one of its own.
    pub(super) instead_of_own: bool,
    /// What the provider answered, if it could not be saved yet.
    pub(super) answer: Option<Answered>,
    /// The claim in the coordinator's row, if other hosts share the grant.
    pub(super) row: Option<ClaimedRow>,
    pub(super) lock: Guard,
}

impl Claimed {
    pub(super) fn new(attempt: Sent, before: Record) -> Self {
        Self { attempt, before }
    }

    /// The credential to refresh, as re-read under the lock.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.attempt.credential
    }

    /// Allows to ask the provider, unless a peer has taken over since the decision. To be called at the last moment.
    pub fn send(self) -> Result<Box<Sent>, TakenOver> {
        if self.attempt.is_ours() {
            return Ok(Box::new(self.attempt));
        }
        // If that fails it is in doubt, as after a death.
        let _ = self.give_up();
        Err(TakenOver)
    }

    /// Sends nothing. The journal says again what it said before, so that no caller has to doubt, or to log in again.
    pub fn give_up(mut self) -> Result<()> {
        if let Some(row) = &self.attempt.row {
            row.give_back();
        }
        self.attempt.journal.write(self.before)
    }
}

impl Sent {
    /// The credential that is sent.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Whether no peer has taken over from us, and no other host may soon do so. Restarts the age by which others may take us for
    /// stuck, so that it is the call's age.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.heartbeat();
        self.lock.is_current() && !self.row.as_ref().is_some_and(ClaimedRow::is_late)
    }

    /// Tells waiters that we are not stuck: for an owner that keeps trying to save an answer.
    pub fn heartbeat(&self) {
        self.lock.heartbeat();
    }
}
