//! What a row says to this host: whether it may be claimed, and if not, why.

use super::answers::Successor;
use super::{Trouble, claimant};
use crate::coordinator::{
    CLAIM_LIMIT_MS, Earlier, Entry, Grant, HostClaim, Hosts, LostHost, Row, RowState, SEND_LIMIT_MS, Unavailable,
};
use crate::error::{Code, Error, Result};
use crate::failure::Backoff;
use crate::journal::record::{FailureRecord, Outcome, PauseUntil, Seen};
use crate::journal::siblings::{Sending, Siblings};
use crate::lock;
use crate::refresh::Refresh;
use crate::refresh::claim::Candidate;
use crate::refresh::decision::Awaited;

/// What a row says of a generation.
pub(super) enum Standing {
    /// It may be claimed.
    Claimable(Earlier),
    /// What the provider gave for it.
    Spent(Box<Successor>),
    /// Another host is sending it.
    Sending(Awaited),
    /// That host has been silent for too long.
    Lost(HostClaim),
    /// Another key of this host is sending it.
    Sibling(Sending),
    /// Another key of this host has claimed it, and is about to send it.
    Claiming,
    /// The journal, or the row itself, now says more than it did: decide again.
    Noted,
    /// It is another one by now: look again.
    Changed,
    /// A peer has taken over from this owner, so the claim may be that peer's, under the same id.
    TakenOver,
}

/// Whose claim it is.
enum OwnRow {
    /// Another host's.
    No,
    /// This host's, and nothing was sent.
    Unsent,
    /// This host's, whose owner may have sent it, and is gone.
    Ended,
    /// The same, but that owner may still be there: it was stuck, and was taken over from.
    Stuck,
    /// Another key's of this host, which is at it.
    Sibling(Sending),
    /// Another key's of this host, which is about to be at it.
    Claiming,
}

impl Refresh {
    /// What a row says to this host.
    pub(super) fn standing(
        &self,
        candidate: &mut Candidate,
        hosts: &Hosts,
        grant: &Grant,
        row: Option<&(Row, Entry)>,
    ) -> Result<Standing, Trouble> {
        // After the row was read: a peer begins its term before it claims. Whatever is put in the place of this version comes before that.
        if !candidate.lock.is_current() {
            return Ok(Standing::TakenOver);
        }
        let generation = candidate.held.generation();
        let known = candidate.journal.record().failure_before(generation);
        let is_dead = known.is_some_and(FailureRecord::is_dead);
        let known = Earlier {
            attempts: known.map_or(0, |failure| failure.attempts),
            in_doubt: known.is_some_and(FailureRecord::is_in_doubt),
        };
        let Some((row, entry)) = row else { return Ok(Standing::Claimable(known)) };
        // As if the call that it is claimed for had been made.
        let repeated = Earlier { attempts: known.attempts.max(row.attempts.saturating_add(1)), in_doubt: true };
        match row.state {
            RowState::Spent => self.open(hosts, grant, row, entry).map(|one| Standing::Spent(Box::new(one))),
            RowState::Free => self.standing_of_free(candidate, hosts, grant, (row, entry)),
            RowState::Sent | RowState::Lost => match self.own_claim_in(candidate, row)? {
                // Its owner could not say so.
                OwnRow::Unsent if is_dead => hosts.put(grant, entry, &row.clone().in_state(RowState::Dead)),
                OwnRow::Unsent => self.standing_of_unsent(candidate, grant, (row, entry)),
                OwnRow::Stuck => Ok(Standing::Claimable(repeated)),
                // The kernel says that its owner is gone.
                OwnRow::Ended => hosts.put(grant, entry, &row.clone().after(repeated).in_state(RowState::Unsure)),
                OwnRow::Sibling(sending) => Ok(Standing::Sibling(sending)),
                // It sends nothing under a claim that is as old as this; its lock may be held for something else.
                OwnRow::Claiming if self.age_ms(candidate, grant, entry)? > SEND_LIMIT_MS => {
                    self.standing_of_unsent(candidate, grant, (row, entry))
                }
                OwnRow::Claiming => Ok(Standing::Claiming),
                OwnRow::No if row.state == RowState::Sent => self.await_host(candidate, hosts, grant, (row, entry)),
                OwnRow::No => match (&row.claim, hosts.lost_host) {
                    (Some(claim), LostHost::Wait) => Ok(Standing::Lost(claim.clone())),
                    _ => self.note(candidate, grant, (row, entry), Outcome::Uncertain, repeated.attempts),
                },
            },
            RowState::Unsure => self.note(candidate, grant, (row, entry), Outcome::Uncertain, row.attempts.max(1)),
            RowState::Dead => {
                self.note(candidate, grant, (row, entry), Outcome::Dead { lost_with: None }, row.attempts)
            }
        }
    }

    /// A row that may be claimed, after a pause perhaps, or an answer of a provider that does not rotate.
    fn standing_of_free(
        &self,
        candidate: &mut Candidate,
        hosts: &Hosts,
        grant: &Grant,
        (row, entry): (&Row, &Entry),
    ) -> Result<Standing, Trouble> {
        if row.answer.is_some()
            && let Ok(successor) = self.open(hosts, grant, row, entry)
            && self.is_usable(successor.credential())
            && successor.credential().access() != candidate.held.access()
            && successor.credential().outlives(&candidate.held)
        {
            return Ok(Standing::Spent(Box::new(successor)));
        }
        self.standing_of_unsent(candidate, grant, (row, entry))
    }

    /// A row whose last call was not made, or has left the refresh token as it was. One before that may not have.
    fn standing_of_unsent(
        &self,
        candidate: &mut Candidate,
        grant: &Grant,
        (row, entry): (&Row, &Entry),
    ) -> Result<Standing, Trouble> {
        let outcome = if row.in_doubt { Outcome::Uncertain } else { Outcome::Unspent };
        self.note(candidate, grant, (row, entry), outcome, row.attempts)
    }

    /// Puts on record here what another host has found out, for as long as it is in the way; once it is not, the row may be claimed.
    /// What is known here and is worse stays.
    fn note(
        &self,
        candidate: &mut Candidate,
        grant: &Grant,
        (row, entry): (&Row, &Entry),
        outcome: Outcome,
        attempts: u32,
    ) -> Result<Standing, Trouble> {
        let generation = candidate.held.generation();
        let age_ms = self.age_ms(candidate, grant, entry)?;
        let left_ms = (row.pause_ms.min(Backoff::LONGEST_MS) - age_ms).max(0.0);
        let pause = (left_ms > 0.0).then(|| PauseUntil::lasting(&*self.clock, left_ms));
        let claim = row.claim.as_ref();
        let told = FailureRecord {
            generation,
            outcome,
            pid: claim.map_or(0, |claim| claim.pid),
            host: claim.map(|claim| claim.host.clone()),
            at: self.clock.now_ms() - age_ms,
            attempts,
            pause,
        };
        let is_free = told.outcome == Outcome::Unspent;
        // An answer that came since has settled it.
        let known = candidate.journal.record().failure_before(generation).filter(|_| row.answer.is_none());
        let is_known = known.is_some_and(|one| one.severity() >= told.severity() && one.attempts >= attempts);
        let failure = match known {
            Some(known) if known.severity() >= told.severity().max(1) => known.clone().met_again(told),
            _ => told,
        };
        if left_ms <= 0.0 && (is_known || is_free) {
            let in_doubt = failure.is_in_doubt();
            return Ok(Standing::Claimable(Earlier { attempts: failure.attempts, in_doubt }));
        }
        let mut record = candidate.journal.record().clone();
        record.set_failure(generation, Some(failure));
        candidate.journal.write(record)?;
        Ok(Standing::Noted)
    }

    /// Another host's claim: it is waited for, until it is too old.
    fn await_host(
        &self,
        candidate: &mut Candidate,
        hosts: &Hosts,
        grant: &Grant,
        (row, entry): (&Row, &Entry),
    ) -> Result<Standing, Trouble> {
        let age_ms = self.age_ms(candidate, grant, entry)?;
        let left_ms = CLAIM_LIMIT_MS - age_ms;
        let Some(claim) = &row.claim else {
            return Err(Trouble::Row(Unavailable("its row names no host".to_owned())));
        };
        if left_ms > 0.0 {
            let generation = candidate.held.generation();
            if !candidate.journal.record().is_shared(generation) {
                let mut record = candidate.journal.record().clone();
                record.note_shared(generation);
                candidate.journal.write(record)?;
            }
            let message = format!(
                "{} has been refreshing profile \"{}\" for {:.0} s (see the coordinator, {}); call again",
                claimant(claim),
                self.key.profile_id().escape_debug(),
                age_ms / 1000.0,
                hosts.coordinator.name()
            );
            let error = Error::new(Code::FileLockTimeout, message);
            let (row, version) = (grant.row().to_owned(), entry.version.clone());
            return Ok(Standing::Sending(Awaited { row, version, left_ms, error }));
        }
        hosts.put(grant, entry, &row.clone().in_state(RowState::Lost))
    }

    /// Whose claim a row has, if not another host's.
    fn own_claim_in(&self, candidate: &Candidate, row: &Row) -> Result<OwnRow> {
        let generation = candidate.held.generation();
        let own = candidate.journal.record().own_claims(generation).find(|own| row.is_claimed_by(&own.id));
        let mut siblings = Siblings::read(&candidate.lock)?;
        let others: Vec<_> =
            siblings.own_claims(generation).filter(|claim| row.is_claimed_by(&claim.id)).cloned().collect();
        if own.is_none() && others.is_empty() {
            return Ok(OwnRow::No);
        }
        if let Some(sending) = siblings.sending(generation, &*self.clock)? {
            return Ok(OwnRow::Sibling(sending));
        }
        if !own.into_iter().chain(&others).any(|claim| claim.sent) {
            let is_claiming = siblings.is_claiming(generation, |claim| row.is_claimed_by(&claim.id), &*self.clock)?;
            return Ok(if is_claiming { OwnRow::Claiming } else { OwnRow::Unsent });
        }
        // One that was taken over from may not be dead.
        let is_dead = |term| lock::is_free(candidate.lock.base(), term);
        let are_dead =
            (0..candidate.lock.term()).try_fold(true, |dead, term| Ok::<_, Error>(dead && is_dead(term)?))?;
        Ok(if are_dead { OwnRow::Ended } else { OwnRow::Stuck })
    }

    /// How old a version of a row is: as its engine says, or since it was first seen here, which is kept in the journal.
    fn age_ms(&self, candidate: &mut Candidate, grant: &Grant, entry: &Entry) -> Result<f64> {
        if let Some(age_ms) = entry.age_ms {
            return Ok(age_ms.max(0.0));
        }
        let mut record = candidate.journal.record().clone();
        if let Some(age_ms) = record.seen_ms(grant.row(), &entry.version, &*self.clock) {
            return Ok(age_ms);
        }
        record.note_seen(Seen::now(grant.row(), &entry.version, &*self.clock));
        candidate.journal.write(record)?;
        Ok(0.0)
    }
}

impl Hosts {
    /// Puts a row in the place of this version.
    fn put(&self, grant: &Grant, entry: &Entry, row: &Row) -> Result<Standing, Trouble> {
        let swapped = self.coordinator.compare_and_swap(grant.row(), Some(&entry.version), &row.to_json())?;
        Ok(if swapped.is_some() { Standing::Noted } else { Standing::Changed })
    }
}
