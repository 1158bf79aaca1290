//! What the provider gave, from host to host: told to the coordinator by the host that asked, taken over by the others.

use super::row::ClaimedRow;
use super::{MAX_SWAPS, Trouble};
use crate::clock::Clock;
use crate::coordinator::{Answer, CoordinatorDown, Entry, Grant, Hosts, Row, RowState, Unavailable};
use crate::credential::{Credential, Generation};
use crate::error::{Code, Error, Result};
use crate::journal::Journal;
use crate::journal::record::{Answered, Progress, Receipt, Record, Sealed};
use crate::refresh::claim::Candidate;
use crate::refresh::commit::{Placed, Swap};
use crate::refresh::decision::Try;
use crate::refresh::relation::may_succeed;
use crate::refresh::{Refresh, Sent, Served, access_digest};
use std::collections::HashSet;

/// How many rotations a host may be behind.
const MAX_WALK: u32 = 100_000;

/// What another host has received for a refresh token, or for the last of several in a row.
#[derive(Clone)]
pub(super) struct Successor {
    credential: Credential,
    /// Which of its fields are new.
    answered: Vec<String>,
    /// Which generations were spent on the way, and for which.
    steps: Vec<(Generation, Generation)>,
    /// The last row, for the case that the coordinator forgets it.
    last: Answered,
    host: String,
}

impl Successor {
    pub(super) fn credential(&self) -> &Credential {
        &self.credential
    }
}

impl Refresh {
    /// Opens what a row holds, and if that was spent as well what the next row holds, and so on: the newest that can be served, or if
    /// none can the newest. A token that has not expired is no end, as a provider may end it when it gives the next one. A row that
    /// can't be read is one: what is known by then counts, and the spent token is not sent.
    pub(super) fn open(&self, hosts: &Hosts, grant: &Grant, row: &Row, entry: &Entry) -> Result<Successor, Trouble> {
        let mut successor = self.open_one(hosts, grant, row, entry)?;
        let (mut steps, mut usable) = (Vec::new(), None);
        let mut walked = HashSet::from([grant.row().to_owned()]);
        for _ in 0..MAX_WALK {
            if self.is_usable(&successor.credential) {
                usable = Some((successor.clone(), steps.len()));
            }
            let Some(next) = successor.credential.refresh().and_then(Grant::of) else { break };
            if next.row() == successor.last.row {
                break;
            }
            if !walked.insert(next.row().to_owned()) {
                if usable.is_some() {
                    break;
                }
                let why = "its rows lead from one to the next and back: the provider gives old tokens again";
                return Err(Trouble::Row(Unavailable(why.to_owned())));
            }
            let further = match hosts.load(next.row()) {
                Ok(Some((row, entry))) if row.state == RowState::Spent => self.open_one(hosts, &next, &row, &entry),
                Ok(_) | Err(Trouble::Engine(_) | Trouble::Row(_)) => break,
                Err(error) => return Err(error),
            };
            let Ok(further) = further else { break };
            steps.push((successor.credential.generation(), further.credential.generation()));
            successor = successor.followed_by(further);
        }
        let (successor, walked) = usable.unwrap_or((successor, steps.len()));
        steps.truncate(walked);
        Ok(Successor { steps, ..successor })
    }

    fn open_one(&self, hosts: &Hosts, grant: &Grant, row: &Row, entry: &Entry) -> Result<Successor, Trouble> {
        let sealed = row.answer.as_deref().unwrap_or_default();
        let cannot = || {
            let why = "its row can't be opened: was it changed by hand, or sealed with another `coordinatorKey`?";
            Trouble::Row(Unavailable(why.to_owned()))
        };
        let answer = grant.open(sealed, &hosts.keys).ok_or_else(cannot)?;
        // Both come from outside.
        let age_ms = entry.age_ms.map(|age_ms| age_ms.max(0.0) + row.answer_age_ms.max(0.0));
        let now_ms = self.clock.now_ms();
        let credential = answer.credential(now_ms, age_ms).ok_or_else(cannot)?;
        let last = Answered {
            row: grant.row().to_owned(),
            successor: credential.generation(),
            sealed: sealed.to_owned(),
            sealed_at: now_ms - age_ms.unwrap_or(0.0),
            only_for: None,
            is_told: true,
        };
        Ok(Successor { credential, answered: answer.answered, steps: Vec::new(), last, host: answer.host })
    }

    /// Takes a successor over as if the provider had given it to this host: into the journal, the stores, and to the caller. An expired
    /// one is decided on in turn.
    pub(super) fn take_over(&self, candidate: Candidate, successor: Successor) -> Result<Try> {
        let held = &candidate.held;
        let (spent, next) = (held.generation(), successor.credential.generation());
        if !may_succeed(held, &successor.credential) {
            let message = format!(
                "another host's new token belongs to another account than profile \"{}\"; no store was changed; log in again",
                self.key.profile_id().escape_debug()
            );
            return Err(Error::new(Code::IdentityMismatch, message));
        }
        let names: Vec<_> = successor.answered.iter().cloned().chain(["refresh".to_owned()]).collect();
        let received = held.updated_by(&successor.credential, &names);
        let mut record = self.claim_record(&candidate, None);
        let Some(claim) = &record.claim else { return Err(Error::defect()) };
        let (credential, origin) = (Sealed::new(&received), claim.origin.clone());
        let receipt = Receipt { credential, answered: names, origin, superseded: false, kept: false };
        record.state = Progress::Received;
        record.set_failure(spent, None);
        for (from, to) in successor.steps.iter().copied().chain([(spent, next)]) {
            record.ledger.record(from, to);
        }
        record.receive(spent, receipt.clone());
        record.note_shared(next);
        if next != spent {
            record.note_answered(successor.last);
            record.end_claims(spent);
        }
        if let (Some(access), Some(expires)) = (access_digest(&received), received.expires()) {
            record.note_lifetime(access, expires - self.clock.now_ms());
        }
        let Candidate { lock, mut journal, instead_of_own, .. } = candidate;
        journal.write(record.clone())?;
        let Placed { own, main: _, commit } = self.place(&record, &receipt, &received, None);
        let unsynced = commit.run(&mut journal).err();
        let (credential, not_saved) = match own {
            Ok(Swap::Done(credential)) => (credential, unsynced),
            Err(error) => (received, Some(error)),
            Ok(Swap::Superseded(_) | Swap::LoggedOut) => return Ok(Try::Again(lock)),
        };
        if !self.is_usable(&credential) {
            return Ok(Try::Again(lock));
        }
        drop((journal, lock));
        if instead_of_own {
            // As it will at its next call, if it can't now.
            let _ = self.adopt(&credential, None);
        }
        Ok(Served::Adopted { credential, not_saved, from_host: Some(successor.host) }.into())
    }

    /// Seals what the provider gave, to be told to the coordinator once it is durable here.
    pub(in crate::refresh) fn seal(&self, record: &mut Record, sent: &Sent, answered: &Credential, names: &[String]) {
        let (Some(hosts), Some(grant)) = (&self.hosts, sent.credential.refresh().and_then(Grant::of)) else { return };
        let sealed_at = self.clock.now_ms();
        let left_ms = answered.expires().map(|expires| expires - sealed_at);
        let answer = Answer::new(answered, names.to_vec(), left_ms, hosts.name.clone());
        let Some(sealed) = grant.seal(&answer, &hosts.keys) else { return };
        let successor = answered.generation();
        let is_rotated = successor != sent.spent;
        let only_for = sent.row.as_ref().filter(|_| !is_rotated).map(|row| row.id().to_owned());
        if !is_rotated && only_for.is_none() {
            // Without a claim nobody waits for it, and the refresh token is as good as before.
            return;
        }
        let row = grant.row().to_owned();
        record.note_answered(Answered { row, successor, sealed, sealed_at, only_for, is_told: false });
    }

    /// Tells the coordinator what was just received, before the record that says so is written. Why not, if the engine is down.
    pub(in crate::refresh) fn tell_answer(&self, record: &mut Record, row: Option<&ClaimedRow>) -> Option<Error> {
        let hosts = self.hosts.as_ref()?;
        let mut claimed = row;
        loop {
            // Until none is left.
            let answered = record.owed().next().cloned()?;
            match hosts.tell(&answered, claimed, &*self.clock) {
                Ok(heard) => {
                    if matches!(heard, Heard::HadForgotten) {
                        // It was set back during the call: what it was told before is told again, too.
                        claimed = None;
                        record.note_forgotten();
                    }
                    record.note_told(&answered.row);
                }
                Err(Trouble::Engine(why) | Trouble::Row(why)) => return Some(super::unavailable_after(hosts, &why)),
                Err(Trouble::Error(error)) => return Some(error),
            }
        }
    }

    /// Makes room in a journal that is full of what the coordinator has not been told: by telling it; else, if this host goes on alone,
    /// by giving up the oldest.
    pub(in crate::refresh) fn tell_for_room(&self, journal: &mut Journal, words: &[&str], error: Error) -> Result<()> {
        let Some(hosts) = self.hosts.as_ref().filter(|_| journal.record().owed().next().is_some()) else {
            return Err(error);
        };
        match self.tell_answers(journal, hosts, None) {
            Ok(()) => return journal.make_room(words, true),
            Err(Trouble::Error(error)) => return Err(error),
            Err(Trouble::Engine(_)) if self.coordinator_down == CoordinatorDown::Alone => {}
            Err(Trouble::Engine(why) | Trouble::Row(why)) => return Err(super::unavailable(hosts, &why)),
        }
        loop {
            let mut record = journal.record().clone();
            if !record.give_up_owed() {
                return Err(error);
            }
            journal.write(record)?;
            if journal.make_room(words, true).is_ok() {
                return Ok(());
            }
        }
    }

    /// Tells the coordinator what a dead owner was answered: whoever is served by that may end right after it. In vain while the engine
    /// is down.
    pub(in crate::refresh) fn tell_owed(&self, journal: &mut Journal) {
        if let Some(hosts) = self.hosts.as_ref().filter(|_| journal.record().owed().next().is_some()) {
            let _ = self.tell_answers(journal, hosts, None);
        }
    }

    /// Whether the coordinator has not heard of an answer yet.
    #[must_use]
    pub fn is_owing(&self) -> bool {
        self.hosts.is_some() && self.known().is_owing()
    }

    /// Tells the coordinator what it has not heard, if no owner is at it. Says whether nothing is left to tell.
    pub fn settle_debts(&self) -> Result<bool> {
        use crate::lock::{Target, try_acquire};
        let Some(hosts) = &self.hosts else { return Ok(true) };
        let Some(lock) = try_acquire(&Target::refresh(&self.lock_base, &self.clock))? else { return Ok(false) };
        let mut journal = Journal::open(&lock)?;
        match self.tell_answers(&mut journal, hosts, None) {
            Ok(()) => Ok(true),
            Err(Trouble::Engine(_) | Trouble::Row(_)) => Ok(false),
            Err(Trouble::Error(error)) => Err(error),
        }
    }

    /// Tells the coordinator what it has not heard. Before `next` is claimed, looks whether it still knows what led to that; if it was set
    /// back to a backup, tells it all again, the oldest first.
    pub(super) fn tell_answers(
        &self,
        journal: &mut Journal,
        hosts: &Hosts,
        next: Option<Generation>,
    ) -> Result<(), Trouble> {
        let mut record = journal.record().clone();
        let mut told = record.answered.iter().filter(|one| one.is_told && one.only_for.is_none()).rev();
        let last = told.find(|one| Some(one.successor) == next);
        // And the one before that: the last may have been told anew since.
        for one in last.into_iter().chain(told.next()) {
            if hosts.load(&one.row)?.is_none_or(|(row, _)| row.state != RowState::Spent) {
                record.note_forgotten();
                break;
            }
        }
        if record.owed().next().is_none() {
            return Ok(());
        }
        // On record first: whoever goes on after us has to know.
        journal.write(record.clone())?;
        let owed: Vec<_> = record.owed().cloned().collect();
        for answered in owed {
            hosts.tell(&answered, None, &*self.clock)?;
            record.note_told(&answered.row);
        }
        journal.write(record)?;
        Ok(())
    }
}

impl Successor {
    fn followed_by(mut self, next: Self) -> Self {
        let more: Vec<_> = next.answered.into_iter().filter(|name| !self.answered.contains(name)).collect();
        self.answered.extend(more);
        let credential = self.credential.updated_by(&next.credential, &self.answered);
        Self { credential, last: next.last, host: next.host, ..self }
    }
}

impl Hosts {
    /// Puts an answer into its row. Whatever stands there says less, unless it is an answer itself.
    fn tell(&self, answered: &Answered, claimed: Option<&ClaimedRow>, clock: &dyn Clock) -> Result<Heard, Trouble> {
        let state = match answered.only_for {
            Some(_) => RowState::Free,
            None if answered.sealed.is_empty() => RowState::Dead,
            None => RowState::Spent,
        };
        let mut value = Row::new(state, None);
        value.answer = Some(answered.sealed.clone()).filter(|sealed| !sealed.is_empty());
        value.answer_age_ms = (clock.now_ms() - answered.sealed_at).max(0.0);
        let claimed = claimed.filter(|claimed| claimed.is_of(&answered.row));
        let mut expected = claimed.map(|claimed| claimed.version().to_owned());
        let mut is_known = claimed.is_some();
        let mut heard = Heard::AsExpected;
        for _ in 0..MAX_SWAPS {
            if !is_known {
                let row = self.load(&answered.row)?;
                let is_claim =
                    |claimed: &ClaimedRow| row.as_ref().is_some_and(|(row, _)| row.is_claimed_by(claimed.id()));
                if claimed.is_some_and(|claimed| !is_claim(claimed)) {
                    heard = Heard::HadForgotten;
                }
                let is_needed = row.as_ref().is_none_or(|(row, _)| match &answered.only_for {
                    None => row.state != RowState::Spent,
                    Some(id) => row.is_claimed_by(id),
                });
                if !is_needed || (row.is_none() && answered.only_for.is_some()) {
                    return Ok(heard);
                }
                expected = row.map(|(_, entry)| entry.version);
            }
            let swapped = self.coordinator.compare_and_swap(&answered.row, expected.as_deref(), &value.to_json())?;
            if swapped.is_some() {
                return Ok(heard);
            }
            is_known = false;
        }
        Err(Trouble::Row(Unavailable("its row keeps changing".to_owned())))
    }
}

/// What an engine made of an answer.
enum Heard {
    AsExpected,
    /// It did not know of the claim any more.
    HadForgotten,
}
