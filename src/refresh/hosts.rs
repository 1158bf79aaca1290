//! Other hosts that share the grant: the coordinator's row of a refresh token is one more peer that may have claimed or spent it.

mod answers;
mod asking;
mod row;
mod standing;

pub(super) use asking::Asked;
pub(super) use row::ClaimedRow;

use super::Refresh;
use super::claim::{Candidate, RowClaim};
use super::decision::{Decision, Try};
use super::obstacle::{Obstacle, process};
use crate::coordinator::{CoordinatorDown, Entry, Grant, HostClaim, Hosts, Row, RowState, Unavailable};
use crate::digest::hex;
use crate::error::{Code, Error, Result};
use crate::journal::record::OwnClaim;
use crate::journal::siblings::{Sending, Siblings};
use crate::process::Myself;
use standing::Standing;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often a claim is tried again because the row was changed by then.
const MAX_SWAPS: u32 = 32;
/// How long to wait before an engine that could not be reached is asked again; doubled each time.
const FIRST_DOWN_PAUSE_MS: f64 = 500.0;
const LAST_DOWN_PAUSE_MS: f64 = 2_000.0;
/// How long to leave alone another key of this host that has claimed the row: it is about to send, or to give it back.
const CLAIMING_PAUSE_MS: f64 = 50.0;

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
    /// It does not answer, so nobody else may hear from it either.
    Engine(Unavailable),
    /// It answers, and what it holds says nothing to this host.
    Row(Unavailable),
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
            Err(Trouble::Engine(_)) if self.coordinator_down == CoordinatorDown::Alone => {
                candidate.row = RowClaim::NotWanted;
            }
            Err(Trouble::Engine(why) | Trouble::Row(why)) => {
                let obstacle =
                    Obstacle { refresh_error: unavailable(hosts, &why), wait_ms: Some(self.down_pause_ms()) };
                return self.tell_obstacle(&candidate.held, obstacle).map(|decision| Try::from(decision).into());
            }
        }
        Ok(Among::Claimed(Box::new(candidate)))
    }

    /// It grows: a server may lock out a user whose password it refuses twice a second.
    fn down_pause_ms(&self) -> f64 {
        let earlier = self.engine_refusals.fetch_add(1, Ordering::Relaxed);
        (FIRST_DOWN_PAUSE_MS * 2.0_f64.powi(earlier.min(10).cast_signed())).min(LAST_DOWN_PAUSE_MS)
    }

    /// Looks what other hosts have done, for a caller that may not ask the provider itself. In vain if the engine is down: then what is
    /// in the way here counts.
    pub(super) fn look_among_hosts(&self, mut candidate: Candidate) -> Result<Among> {
        let grant = candidate.held.refresh().and_then(Grant::of);
        let (Some(hosts), Some(grant), RowClaim::NotMade) = (&self.hosts, grant, &candidate.row) else {
            return Ok(Among::Claimed(Box::new(candidate)));
        };
        let row = hosts.load(grant.row());
        match row.and_then(|row| self.standing(&mut candidate, hosts, &grant, row.as_ref())) {
            Ok(standing @ (Standing::Spent(_) | Standing::Sending(_) | Standing::Sibling(_) | Standing::TakenOver)) => {
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
            Standing::Claiming => Ok(Decision::Later(CLAIMING_PAUSE_MS).into()),
            Standing::TakenOver => Ok(Decision::TakenOver.into()),
            Standing::Claimable(_) | Standing::Noted | Standing::Changed | Standing::Sibling(Sending::OutOfTerm) => {
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
        self.tell_answers(&mut candidate.journal, hosts, Some(generation))?;
        // Most often there is none: a claim finds that out by itself.
        let is_known = candidate.journal.record().own_claims(generation).next().is_some();
        let mut row = if is_known { hosts.load(grant.row())? } else { None };
        for _ in 0..MAX_SWAPS {
            let earlier = match self.standing(candidate, hosts, grant, row.as_ref())? {
                Standing::Claimable(earlier) => earlier,
                Standing::Changed => {
                    row = hosts.load(grant.row())?;
                    continue;
                }
                standing => return Ok(Err(standing)),
            };
            let (id, host, pid) = (own_id(candidate)?, hosts.name.clone(), Myself::now().pid);
            let claim = HostClaim { id, host, pid, at: self.clock.now_ms() };
            let since = row::Since::now(&*self.clock);
            let value = Row::new(RowState::Sent, Some(claim.clone())).after(earlier).to_json();
            let expected = row.as_ref().map(|(_, entry)| entry.version.as_str());
            if let Some(version) = hosts.coordinator.compare_and_swap(grant.row(), expected, &value)? {
                let claimed = ClaimedRow::new(hosts, grant, &self.clock, generation, version, claim, earlier, since);
                return Ok(Ok(claimed));
            }
            row = hosts.load(grant.row())?;
        }
        let why = "its row was another one at each of 32 reads; does it compare and swap in one step?";
        Err(Trouble::Row(Unavailable(why.to_owned())))
    }

    /// Shares its grant with other hosts.
    pub fn share_by(&mut self, hosts: Hosts) {
        let (lock_base, clock) = (self.lock_base.clone(), Arc::clone(&self.clock));
        let coordinator = Arc::new(Asked { engine: hosts.coordinator, lock_base, clock });
        self.hosts = Some(Hosts { coordinator, ..hosts });
    }

    /// What to tell a caller that has waited in vain, if this process waits for the engine's word on its key.
    #[must_use]
    pub fn engine_delay(&self) -> Option<Error> {
        let name = self.hosts.as_ref()?.coordinator.name();
        let seconds = asking::silence_ms(&self.lock_base, &*self.clock)? / 1000.0;
        let message = format!(
            "the coordinator ({}) has not answered for {seconds:.1} s, and this call waits for it: see that it runs and can be reached",
            name.escape_debug()
        );
        Some(Error::new(Code::CoordinatorUnavailable, message))
    }

    /// What keeps a call that names no coordinator from sending what this host has from one, or what one knows.
    pub(super) fn is_shared(&self, candidate: &Candidate, siblings: &Siblings) -> Option<Obstacle> {
        if self.hosts.is_some() || self.coordinator_down == CoordinatorDown::Alone {
            return None;
        }
        let generation = candidate.held.generation();
        let is_shared = candidate.journal.record().is_shared(generation) || siblings.is_shared(generation);
        is_shared.then(|| Obstacle { refresh_error: self.names_no_coordinator(), wait_ms: None })
    }

    fn names_no_coordinator(&self) -> Error {
        let message = format!(
            "profile \"{}\" is shared with other hosts by a coordinator, and this call names none, so the provider was not asked: name \
             it (`coordinator`, `--coordinator`). If no other host uses this login any more, and this one has its newest token, \
             call with `coordinatorDown: \"alone\"` (`--coordinator-down alone`)",
            self.key.profile_id().escape_debug()
        );
        Error::new(Code::CoordinatorUnavailable, message)
    }

    fn is_lost(&self, claim: &HostClaim) -> Error {
        let message = format!(
            "{} was about to refresh profile \"{}\" and has been silent since; it may have the new token: bring it back, log in again, or \
             call with `lostHost: \"probe\"` (`--lost-host probe`)",
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
    if let Some(own) = candidate.journal.record().own_claims(generation).find(|own| !own.sent) {
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
    fn load(&self, row: &str) -> Result<Option<(Row, Entry)>, Trouble> {
        match self.coordinator.load(row)? {
            Some(entry) => Ok(Some((Row::parse(&entry.value).map_err(Trouble::Row)?, entry))),
            None => Ok(None),
        }
    }
}
