//! What a journal knows of the coordinator's rows: which of its claims are this host's, and what it has to be told.

use crate::clock::{BootMs, Clock};
use crate::credential::Generation;
use crate::journal::record::Record;
use serde::{Deserialize, Serialize};

/// How many claims are remembered: agents that share a profile id may each have a login of their own.
const MAX_CLAIMS: usize = 16;
/// Of how many rows it is remembered since when they are as they are: as agents that share a profile id may have logins.
const MAX_SEEN: usize = 8;
/// Of how many generations it is remembered that a coordinator knows them.
const MAX_SHARED: usize = 16;
/// How many answers are remembered that the coordinator has, if there is room: should it be set back to a backup, it is told again.
const MAX_TOLD: usize = 8;

/// A claim that an owner of this key has made in a row, or was about to make: the coordinator may not have answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnClaim {
    /// Of this generation.
    pub generation: Generation,
    /// Its id in the row.
    pub id: String,
    /// Whether the provider may have been asked.
    pub sent: bool,
}

/// What the provider gave for a refresh token, sealed: the row of that is to hold it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answered {
    /// The row.
    pub row: String,
    /// The generation that was given. It is the one that was sent if the provider does not rotate.
    pub successor: Generation,
    /// As [`crate::coordinator::Grant::seal`] has sealed it. Empty if it had to make room: then the row is to say that it is dead.
    pub sealed: String,
    /// When it was sealed, in milliseconds since the epoch: it says how long the access token was still good by then.
    #[serde(default)]
    pub sealed_at: f64,
    /// If the provider does not rotate: the claim that it was asked under. The answer replaces no other claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_for: Option<String>,
    /// Whether the coordinator has it.
    pub is_told: bool,
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answered").field("row", &self.row).field("is_told", &self.is_told).finish_non_exhaustive()
    }
}

/// When a version of a row was first seen, where the coordinator's clock does not tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The row.
    pub row: String,
    /// Its version.
    pub version: String,
    /// Since when.
    pub since: BootMs,
    /// The boot that this counts from.
    pub boot: String,
}

impl Seen {
    /// It is seen now.
    #[must_use]
    pub fn now(row: &str, version: &str, clock: &dyn Clock) -> Self {
        Self { row: row.to_owned(), version: version.to_owned(), since: clock.boot_ms(), boot: clock.boot_id() }
    }

    /// For how long this version has been seen; `None` if that is another one.
    #[must_use]
    pub fn age_ms(&self, row: &str, version: &str, clock: &dyn Clock) -> Option<f64> {
        let is_same = self.row == row && self.version == version && clock.is_of_this_boot(&self.boot, self.since);
        is_same.then(|| clock.boot_ms() - self.since)
    }
}

impl Record {
    /// This host's claims of a generation.
    pub fn own_claims(&self, generation: Generation) -> impl Iterator<Item = &OwnClaim> {
        self.own_claims.iter().filter(move |claim| claim.generation == generation)
    }

    /// Notes a claim. An earlier one of its generation stays: the coordinator may still hold it, or show it again.
    pub fn note_claim(&mut self, claim: OwnClaim) {
        self.own_claims.push(claim);
        while self.own_claims.len() > MAX_CLAIMS {
            // A login that is asked for again and again does not displace another's.
            let number = |of: Generation| self.own_claims(of).count();
            let most = self.own_claims.iter().map(|claim| number(claim.generation)).max();
            let Some(at) = self.own_claims.iter().position(|claim| Some(number(claim.generation)) == most) else {
                return;
            };
            self.own_claims.remove(at);
        }
    }

    /// Notes whether the provider may have been asked under this claim of a generation; without one, under the latest.
    pub fn note_sent(&mut self, generation: Generation, id: Option<&str>, sent: bool) {
        let is_it = |claim: &&mut OwnClaim| claim.generation == generation && id.is_none_or(|id| claim.id == id);
        if let Some(claim) = self.own_claims.iter_mut().rfind(is_it) {
            claim.sent = sent;
        }
    }

    /// For how long a version of a row has been seen.
    #[must_use]
    pub fn seen_ms(&self, row: &str, version: &str, clock: &dyn Clock) -> Option<f64> {
        self.seen.iter().find_map(|seen| seen.age_ms(row, version, clock))
    }

    /// Notes that a version of a row is seen now.
    pub fn note_seen(&mut self, seen: Seen) {
        self.seen.retain(|earlier| earlier.row != seen.row);
        self.seen.push(seen);
        let excess = self.seen.len().saturating_sub(MAX_SEEN);
        self.seen.drain(..excess);
    }

    /// Forgets the claims of a generation that was exchanged.
    pub fn end_claims(&mut self, spent: Generation) {
        self.note_alone(spent);
        self.own_claims.retain(|claim| claim.generation != spent);
    }

    /// Notes what the coordinator is to be told, or has told.
    pub fn note_answered(&mut self, answered: Answered) {
        self.note_shared(answered.successor);
        self.answered.retain(|earlier| earlier.row != answered.row);
        self.answered.push(answered);
        self.give_up_told(MAX_TOLD);
    }

    /// Notes that the coordinator has it.
    pub fn note_told(&mut self, row: &str) {
        for answered in self.answered.iter_mut().filter(|answered| answered.row == row) {
            answered.is_told = true;
        }
        self.give_up_told(MAX_TOLD);
    }

    /// Notes that the coordinator may have forgotten all that it has been told.
    pub fn note_forgotten(&mut self) {
        for answered in self.answered.iter_mut().filter(|answered| answered.only_for.is_none()) {
            answered.is_told = false;
        }
    }

    /// Gives up what the coordinator has, except the latest. Says whether there was something.
    pub fn give_up_told(&mut self, keep: usize) -> bool {
        let mut excess = self.answered.iter().filter(|one| one.is_told).count().saturating_sub(keep);
        let before = self.answered.len();
        self.answered.retain(|one| {
            let is_excess = one.is_told && excess > 0;
            excess -= usize::from(is_excess);
            !is_excess
        });
        self.answered.len() < before
    }

    /// Whether a coordinator knows this generation: other hosts may have it.
    #[must_use]
    pub fn is_shared(&self, generation: Generation) -> bool {
        self.shared.contains(&generation)
    }

    /// Notes that it does.
    pub fn note_shared(&mut self, generation: Generation) {
        self.shared.retain(|known| *known != generation);
        self.shared.push(generation);
        let excess = self.shared.len().saturating_sub(MAX_SHARED);
        self.shared.drain(..excess);
    }

    /// Notes that no other host has it any more.
    pub fn note_alone(&mut self, generation: Generation) {
        self.shared.retain(|known| *known != generation);
    }

    /// Whether it says anything of a coordinator.
    #[must_use]
    pub fn knows_hosts(&self) -> bool {
        !(self.own_claims.is_empty() && self.answered.is_empty())
    }

    /// Gives up the oldest answer that the coordinator has not been told, so that it hears at least that the refresh token is of no
    /// use any more; then that as well. `false` if there is none.
    pub fn give_up_owed(&mut self) -> bool {
        if let Some(owed) = self.answered.iter_mut().find(|one| !one.is_told && !one.sealed.is_empty()) {
            owed.sealed.clear();
            return true;
        }
        let oldest = self.answered.iter().position(|one| !one.is_told);
        oldest.map(|at| self.answered.remove(at)).is_some()
    }

    /// What the coordinator has not been told.
    pub fn owed(&self) -> impl Iterator<Item = &Answered> {
        self.answered.iter().filter(|answered| !answered.is_told)
    }

    /// Absorbs what an earlier term's owners have claimed, were answered, and have seen.
    pub(super) fn absorb_hosts(&mut self, earlier: &Self) {
        for claim in &earlier.own_claims {
            match self.own_claims.iter_mut().find(|own| own.id == claim.id) {
                Some(own) => own.sent |= claim.sent,
                None if self.ledger.is_spent(claim.generation) => {}
                None => self.own_claims.insert(0, claim.clone()),
            }
        }
        for answered in &earlier.answered {
            if !self.answered.iter().any(|own| own.row == answered.row) && !answered.is_told {
                self.note_answered(answered.clone());
            }
        }
        for generation in &earlier.shared {
            if self.shared.len() < MAX_SHARED && !self.is_shared(*generation) {
                self.shared.insert(0, *generation);
            }
        }
        for seen in &earlier.seen {
            if self.seen.len() < MAX_SEEN && !self.seen.iter().any(|own| own.row == seen.row) {
                self.seen.insert(0, seen.clone());
            }
        }
    }
}
