//! Other hosts that share the grant: the coordinator's row of a refresh token is one more peer that may have claimed or spent it.

mod answers;
mod row;

pub(super) use row::ClaimedRow;

use super::Refresh;
use super::claim::{Candidate, RowClaim};
use super::decision::{Awaited, Decision, Try};
use super::obstacle::{Obstacle, process};
use crate::coordinator::Unavailable;
use crate::coordinator::{CLAIM_LIMIT_MS, CoordinatorDown, Entry, Grant, HostClaim, Hosts, LostHost, Row, RowState};
use crate::digest::hex;
use crate::error::{Code, Error, Result};
use crate::journal::record::{FailureRecord, Outcome, OwnClaim, PauseUntil, Seen};
use crate::journal::siblings::{Sending, Siblings};
use answers::Successor;

/// How often a claim is tried again because the row was changed by then.
const MAX_SWAPS: u32 = 32;
/// How long to wait before an engine that could not be reached is asked again.
const DOWN_PAUSE_MS: f64 = 500.0;

/// What the other hosts have to say.
pub(super) enum Among {
    /// Nothing against it: go on.
    Claimed(Box<Candidate>),
    Decided(Box<Try>),
}

impl From<Try> for Among {
    fn from(tried: Try) -> Self {
        Self::Decided(Box::new(tried))
    }
}

/// Why the engine can't be gone by.
enum Trouble {
    Engine(Unavailable),
    Error(Error),
}

impl From<Unavailable> for Trouble {
    fn from(why: Unavailable) -> Self {
        Self::Engine(why)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// What a row says of a generation.
enum Standing {
    /// It may be claimed, after so many calls without a token.
    Claimable(u32),
    /// What the provider gave for it.
    Spent(Box<Successor>),
    /// Another host is sending it.
    Sending(Awaited),
    /// That host has been silent for too long.
    Lost(HostClaim),
    /// Another key of this host is sending it.
    Sibling(Sending),
    /// The journal, or the row itself, now says more than it did: decide again.
    Noted,
}

impl Refresh {
    /// Claims the candidate's refresh token among all hosts, with the key's lock and no other.
    pub(super) fn claim_among_hosts(&self, mut candidate: Candidate) -> Result<Among> {
        let grant = candidate.held.refresh().and_then(Grant::of);
        let (Some(hosts), Some(grant)) = (&self.hosts, grant) else {
            // Nobody else has it.
            candidate.row = RowClaim::NotWanted;
            return Ok(Among::Claimed(Box::new(candidate)));
        };
        match self.try_to_claim(&mut candidate, hosts, &grant) {
            Ok(Ok(row)) => candidate.row = RowClaim::Made(Box::new(row)),
            Ok(Err(standing)) => return self.heed(candidate, standing).map(Among::from),
            Err(Trouble::Error(error)) => return Err(error),
            Err(Trouble::Engine(_)) if hosts.down == CoordinatorDown::Alone => candidate.row = RowClaim::NotWanted,
            Err(Trouble::Engine(why)) => {
                let obstacle = Obstacle { refresh_error: unavailable(hosts, &why), wait_ms: Some(DOWN_PAUSE_MS) };
                return self.tell_obstacle(&candidate.held, obstacle).map(|decision| Try::from(decision).into());
            }
        }
        Ok(Among::Claimed(Box::new(candidate)))
    }

    /// Looks what other hosts have done, for a caller that may not ask the provider itself. In vain if the engine is down: then what is
    /// in the way here counts.
    pub(super) fn look_among_hosts(&self, mut candidate: Candidate) -> Result<Among> {
        let grant = candidate.held.refresh().and_then(Grant::of);
        let (Some(hosts), Some(grant), RowClaim::NotMade) = (&self.hosts, grant, &candidate.row) else {
            return Ok(Among::Claimed(Box::new(candidate)));
        };
        let row = hosts.load(grant.row());
        match row.map_err(Trouble::from).and_then(|row| self.standing(&mut candidate, hosts, &grant, row.as_ref())) {
            Ok(standing @ (Standing::Spent(_) | Standing::Sending(_) | Standing::Sibling(_))) => {
                self.heed(candidate, standing).map(Among::from)
            }
            Ok(_) | Err(_) => Ok(Among::Claimed(Box::new(candidate))),
        }
    }

    /// Does what a row says.
    fn heed(&self, candidate: Candidate, standing: Standing) -> Result<Try> {
        match standing {
            Standing::Spent(successor) => self.take_over(candidate, *successor),
            Standing::Sending(awaited) => Ok(Decision::Elsewhere { lock: candidate.lock, awaited }.into()),
            Standing::Sibling(Sending::Under(other)) => Ok(Decision::Busy { lock: candidate.lock, other }.into()),
            Standing::Lost(claim) => {
                let obstacle = Obstacle { refresh_error: self.is_lost(&claim), wait_ms: None };
                self.tell_obstacle(&candidate.held, obstacle).map(Try::from)
            }
            Standing::Claimable(_) | Standing::Noted | Standing::Sibling(Sending::OutOfTerm) => {
                Ok(Try::Again(candidate.lock))
            }
        }
    }

    /// Claims the row, unless it says otherwise.
    fn try_to_claim(
        &self,
        candidate: &mut Candidate,
        hosts: &Hosts,
        grant: &Grant,
    ) -> Result<Result<ClaimedRow, Standing>, Trouble> {
        let generation = candidate.held.generation();
        answers::tell_answers(&mut candidate.journal, hosts, Some(generation))?;
        // Most often there is none: a claim finds that out by itself.
        let is_known = candidate.journal.record().own_claim(generation).is_some();
        let mut row = if is_known { hosts.load(grant.row())? } else { None };
        for _ in 0..MAX_SWAPS {
            let attempts = match self.standing(candidate, hosts, grant, row.as_ref())? {
                Standing::Claimable(attempts) => attempts,
                standing => return Ok(Err(standing)),
            };
            let id = own_id(candidate)?;
            let claim = HostClaim {
                id: id.clone(),
                host: hosts.name.clone(),
                pid: std::process::id(),
                at: self.clock.now_ms(),
            };
            let since = row::Since::now(&*self.clock);
            let value = Row::new(RowState::Sent, Some(claim), attempts).to_json();
            let expected = row.as_ref().map(|(_, entry)| entry.version.as_str());
            if let Some(version) = hosts.coordinator.compare_and_swap(grant.row(), expected, &value)? {
                let claimed = ClaimedRow::new(hosts, grant, &self.clock, generation, version, id, attempts, since);
                return Ok(Ok(claimed));
            }
            row = hosts.load(grant.row())?;
        }
        Err(Unavailable(
            "its row was another one at each of 32 reads; does it compare and swap in one step?".to_owned(),
        )
        .into())
    }

    /// What a row says to this host.
    fn standing(
        &self,
        candidate: &mut Candidate,
        hosts: &Hosts,
        grant: &Grant,
        row: Option<&(Row, Entry)>,
    ) -> Result<Standing, Trouble> {
        let generation = candidate.held.generation();
        let known = candidate.journal.record().failure_before(generation).map_or(0, |failure| failure.attempts);
        let Some((row, entry)) = row else { return Ok(Standing::Claimable(known)) };
        let repeated = known.max(row.attempts.saturating_add(1));
        match row.state {
            RowState::Spent => self.open(hosts, grant, row, entry).map(|one| Standing::Spent(Box::new(one))),
            RowState::Free => self.standing_of_free(candidate, hosts, grant, (row, entry)),
            RowState::Sent | RowState::Lost => match self.own_claim_in(candidate, row)? {
                OwnRow::Unsent => Ok(Standing::Claimable(row.attempts)),
                OwnRow::Ended => {
                    // The kernel says that its owner is gone.
                    let unsure = row.clone().ended(RowState::Unsure, repeated, 0.0);
                    hosts.coordinator.compare_and_swap(grant.row(), Some(&entry.version), &unsure.to_json())?;
                    Ok(Standing::Noted)
                }
                OwnRow::Sibling(sending) => Ok(Standing::Sibling(sending)),
                OwnRow::No if row.state == RowState::Sent => self.await_host(candidate, hosts, grant, (row, entry)),
                OwnRow::No => match (&row.claim, hosts.lost_host) {
                    (Some(claim), LostHost::Wait) => Ok(Standing::Lost(claim.clone())),
                    _ => self.note(candidate, grant, (row, entry), Outcome::Uncertain, repeated),
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
        {
            return Ok(Standing::Spent(Box::new(successor)));
        }
        if row.pause_ms > 0.0 {
            return self.note(candidate, grant, (row, entry), Outcome::Unspent, row.attempts);
        }
        Ok(Standing::Claimable(row.attempts))
    }

    /// Puts on record here what another host has found out, for as long as it is in the way; once it is not, the row may be claimed.
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
        let left_ms = (row.pause_ms - age_ms).max(0.0);
        let known = candidate.journal.record().failure_before(generation);
        let is_known = known.is_some_and(|known| known.outcome == outcome && known.attempts >= attempts);
        if left_ms <= 0.0 && (is_known || outcome == Outcome::Unspent) {
            return Ok(Standing::Claimable(attempts));
        }
        let pause = (left_ms > 0.0).then(|| PauseUntil::lasting(&*self.clock, left_ms));
        let claim = row.claim.as_ref();
        let failure = FailureRecord {
            generation,
            outcome,
            pid: claim.map_or(0, |claim| claim.pid),
            host: claim.map(|claim| claim.host.clone()),
            at: self.clock.now_ms() - age_ms,
            attempts,
            pause,
        };
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
        let Some(claim) = &row.claim else { return Ok(Standing::Claimable(row.attempts.saturating_add(1))) };
        if left_ms > 0.0 {
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
        let lost = row.clone().in_state(RowState::Lost);
        // If it has changed meanwhile, the next look tells.
        hosts.coordinator.compare_and_swap(grant.row(), Some(&entry.version), &lost.to_json())?;
        Ok(Standing::Noted)
    }

    /// Whose claim a row has, if not another host's.
    fn own_claim_in(&self, candidate: &Candidate, row: &Row) -> Result<OwnRow> {
        let generation = candidate.held.generation();
        let own = candidate.journal.record().own_claim(generation).filter(|own| row.is_claimed_by(&own.id));
        let mut siblings = Siblings::read(&candidate.lock)?;
        let others: Vec<_> =
            siblings.own_claims(generation).filter(|claim| row.is_claimed_by(&claim.id)).cloned().collect();
        if own.is_none() && others.is_empty() {
            return Ok(OwnRow::No);
        }
        if let Some(sending) = siblings.sending(generation, &*self.clock)? {
            return Ok(OwnRow::Sibling(sending));
        }
        let is_sent = own.into_iter().chain(&others).any(|claim| claim.sent);
        Ok(if is_sent { OwnRow::Ended } else { OwnRow::Unsent })
    }

    /// How old a version of a row is: as its engine says, or since it was first seen here, which is kept in the journal.
    fn age_ms(&self, candidate: &mut Candidate, grant: &Grant, entry: &Entry) -> Result<f64> {
        if let Some(age_ms) = entry.age_ms {
            return Ok(age_ms.max(0.0));
        }
        let record = candidate.journal.record();
        let seen = record.seen.as_ref().and_then(|seen| seen.age_ms(grant.row(), &entry.version, &*self.clock));
        if let Some(age_ms) = seen {
            return Ok(age_ms);
        }
        let mut record = record.clone();
        record.seen = Some(Seen::now(grant.row(), &entry.version, &*self.clock));
        candidate.journal.write(record)?;
        Ok(0.0)
    }

    fn is_lost(&self, claim: &HostClaim) -> Error {
        let message = format!(
            "{} was about to refresh profile \"{}\" and has been silent since; it may have the new token: bring it back, log in again, or \
             call with `lostHost: \"probe\"`",
            claimant(claim),
            self.key.profile_id().escape_debug()
        );
        Error::new(Code::RefreshUncertain, message)
    }
}

/// The id to claim with, which is on record before the coordinator hears it: whatever becomes of the question, this host knows
/// that it is its own, and that nothing was sent.
fn own_id(candidate: &mut Candidate) -> Result<String> {
    let generation = candidate.held.generation();
    if let Some(own) = candidate.journal.record().own_claim(generation).filter(|own| !own.sent) {
        return Ok(own.id.clone());
    }
    let mut noise = [0; 12];
    getrandom::fill(&mut noise)
        .map_err(|error| Error::new(Code::Internal, format!("no random numbers ({error}); call again")))?;
    let id = hex(&noise);
    let mut record = candidate.journal.record().clone();
    record.note_claim(OwnClaim { generation, id: id.clone(), sent: false });
    candidate.journal.write(record)?;
    Ok(id)
}

/// Whose claim it is.
enum OwnRow {
    /// Another host's.
    No,
    /// This host's, and nothing was sent.
    Unsent,
    /// This host's, whose owner may have sent it, and is gone.
    Ended,
    /// Another key's of this host, which is at it.
    Sibling(Sending),
}

fn claimant(claim: &HostClaim) -> String {
    process(claim.pid, Some(&claim.host))
}

fn unavailable(hosts: &Hosts, Unavailable(why): &Unavailable) -> Error {
    let message = format!(
        "the coordinator ({}) can't be used, so the provider was not asked: {why}",
        hosts.coordinator.name().escape_debug()
    );
    Error::new(Code::CoordinatorUnavailable, message)
}

/// What to tell a caller whose token is served all the same.
fn unavailable_after(hosts: &Hosts, Unavailable(why): &Unavailable) -> Error {
    let message = format!(
        "the coordinator ({}) has not been told of the new token yet, so other hosts can't use it; this host goes on trying: {why}",
        hosts.coordinator.name().escape_debug()
    );
    Error::new(Code::CoordinatorUnavailable, message)
}

impl Hosts {
    /// A row, and how the engine holds it.
    fn load(&self, row: &str) -> Result<Option<(Row, Entry)>, Unavailable> {
        match self.coordinator.load(row)? {
            Some(entry) => Ok(Some((Row::parse(&entry.value)?, entry))),
            None => Ok(None),
        }
    }
}
