//! The claim: the owner of a key's lock makes sure that nobody sends or has sent a refresh token, and puts on record that it will.

use super::commit::Recovered;
use super::decision::{Decision, Try};
use super::hosts::{Among, ClaimedRow};
use super::obstacle::Obstacle;
use super::stored::StoreRole;
use super::verdict::Verdict;
use super::{Claimed, Refresh, Sent, Served};
use crate::credential::Credential;
use crate::error::{Code, Error, Result};
use crate::failure;
use crate::journal::record::{ClaimRecord, FailureRecord, Origin, Outcome, PauseUntil, Progress, Record, Sealed};
use crate::journal::siblings::{self, ClaimsLock, Sending, Siblings};
use crate::journal::{Journal, MAX_CREDENTIAL_BYTES};
use crate::lock::{Guard, Recheck};
use crate::process::Myself;
use crate::store::Profile;

/// How long to leave alone an owner that is not stuck, although a peer has just taken over from it.
const OUT_OF_TERM_PAUSE_MS: f64 = 500.0;

/// The holder of a key's lock, about to claim.
pub(super) struct Candidate {
    pub(super) lock: Guard,
    pub(super) journal: Journal,
    pub(super) role: StoreRole,
    pub(super) held: Credential,
    /// What main holds of the profile, if the agent has one of its own.
    pub(super) main_profile: Option<Profile>,
    pub(super) recovered: Vec<Recovered>,
    /// What the caller's hosts hold under other profile ids, if they were asked.
    pub(super) others: Option<Vec<Credential>>,
    /// Whether it is the main store's credential although the agent has one of its own.
    pub(super) instead_of_own: bool,
    pub(super) row: RowClaim,
}

/// Whether other hosts know that a refresh token is about to be sent.
#[derive(Debug)]
pub(super) enum RowClaim {
    /// They have not been told yet, if there are any.
    NotMade,
    Made(Box<ClaimedRow>),
    /// There are none, or they can't be told, and this host goes on alone.
    NotWanted,
}

/// What a look into all journals came to.
enum Judged {
    Try(Box<Try>),
    /// This host may send it. Whether another one has is still to be asked.
    AskHosts(Box<Candidate>),
}

impl From<Try> for Judged {
    fn from(tried: Try) -> Self {
        Self::Try(Box::new(tried))
    }
}

impl Refresh {
    /// Makes sure that no owner sends or has sent this generation under any name or on any host, and records that it is being sent.
    pub(super) fn claim(&self, candidate: Candidate) -> Result<Try> {
        let candidate = match self.claim_here(candidate)? {
            Judged::Try(tried) => return Ok(*tried),
            Judged::AskHosts(candidate) => match self.claim_among_hosts(*candidate)? {
                Among::Decided(tried) => return Ok(*tried),
                Among::Claimed(candidate) => candidate,
            },
        };
        let row = match &candidate.row {
            RowClaim::Made(row) => Some(row.clone()),
            _ => None,
        };
        // Asking took its time, and the lock that all keys share was free.
        let judged = self.claim_here(*candidate);
        // By us, or by an owner under another name.
        let is_sending =
            |tried: &Try| matches!(tried, Try::Decided(Decision::Send(_) | Decision::Busy { .. } | Decision::Later(_)));
        let is_sent = matches!(&judged, Ok(Judged::Try(tried)) if is_sending(tried));
        if let Some(row) = row.filter(|_| !is_sent) {
            row.give_back();
        }
        match judged? {
            Judged::Try(tried) => Ok(*tried),
            Judged::AskHosts(candidate) => Ok(Try::Again(candidate.lock)),
        }
    }

    fn claim_here(&self, mut candidate: Candidate) -> Result<Judged> {
        if !candidate.lock.has_sidecar() {
            // The disk was full. As long as it is, the provider is not asked.
            let recheck = candidate.lock.recheck_sidecar()?;
            drop(candidate.journal);
            let tried = if recheck == Recheck::Lost { Decision::TakenOver.into() } else { Try::Again(candidate.lock) };
            return Ok(tried.into());
        }
        self.prepare(&mut candidate)?;
        let claims = siblings::lock_claims(&self.lock_base, &self.clock)?;
        if self.is_replaced(&candidate)? {
            // Others were claiming while a login or another program replaced it.
            drop((claims, candidate.journal));
            return Ok(Try::Again(candidate.lock).into());
        }
        candidate.journal.end_earlier_terms(&candidate.lock, &claims)?;
        let mut siblings = Siblings::read(&candidate.lock)?;
        if !candidate.lock.is_current() {
            // We can't judge by what a later term's owner is doing.
            return Ok(Try::from(Decision::TakenOver).into());
        }
        if let Some(main_credential) = self.main_instead(&candidate, &siblings) {
            candidate.instead_of_own = true;
            (candidate.role, candidate.held, candidate.main_profile) = (StoreRole::Main, main_credential, None);
        }
        match siblings.sending(candidate.held.generation(), &*self.clock)? {
            None => self.judge(candidate, claims, &siblings),
            Some(Sending::Under(other)) => Ok(Try::from(Decision::Busy { lock: candidate.lock, other }).into()),
            Some(Sending::OutOfTerm) => Ok(Try::from(Decision::Later(OUT_OF_TERM_PAUSE_MS)).into()),
        }
    }

    /// All that takes its time, before the lock is taken that all keys share.
    fn prepare(&self, candidate: &mut Candidate) -> Result<()> {
        let journal = &mut candidate.journal;
        if journal.record().state == Progress::Dispatched {
            // We hold the lock, so that owner is dead. A peer that finds our lock taken must not take us for the one that sends.
            let mut record = journal.record().clone();
            record.end_claim();
            journal.write(record)?;
        }
        self.refuse_unsavable(candidate.role, &candidate.held)?;
        let paths = [self.store_at(candidate.role), self.main_store()].map(|store| store.path().to_string_lossy());
        let is_sealed_too = self.hosts.is_some();
        let words = [self.key.profile_id(), &paths[0], &paths[1]];
        if let Err(error) = journal.make_room(&words, is_sealed_too) {
            self.tell_for_room(journal, &words, error)?;
        }
        candidate.others = self.hosted_under_other_names(candidate)?;
        Ok(())
    }

    /// Goes by what all journals say of the generation: to replace it, to wait, or to ask the provider.
    fn judge(&self, candidate: Candidate, claims: ClaimsLock, siblings: &Siblings) -> Result<Judged> {
        let generation = candidate.held.generation();
        let lineage = siblings.lineage(&candidate.journal.record().ledger);
        let failure = siblings.failure_of(generation, candidate.journal.record(), &*self.clock);
        let is_spent = lineage.is_spent(generation);
        let verdict = Verdict::of(is_spent, failure.as_ref(), &*self.clock);
        let may_be_sent = matches!(verdict, Verdict::Free | Verdict::BackOff(_));
        if !may_be_sent && let Some(newer) = self.newer(&candidate, &candidate.held, siblings, &lineage) {
            drop(claims);
            return self.replace(candidate, &newer, siblings).map(Judged::from);
        }
        if is_spent && self.has_host_stores() && candidate.others.is_none() {
            // It has been spent under another name since the hosts would have been asked.
            drop((claims, candidate.journal));
            return Ok(Try::Again(candidate.lock).into());
        }
        if let Some(obstacle) = self.obstacle(candidate.role, &candidate.held, verdict, failure.as_ref()) {
            drop(claims);
            if is_spent && let Some(newer) = self.newer_beside(&candidate, siblings, &lineage) {
                return self.replace(candidate, &newer, siblings).map(Judged::from);
            }
            return self.stop_at(candidate, obstacle).map(Judged::from);
        }
        if let Some(obstacle) = self.is_shared(&candidate, siblings) {
            drop(claims);
            return self.tell_obstacle(&candidate.held, obstacle).map(Try::from).map(Judged::from);
        }
        match &candidate.row {
            RowClaim::NotMade if self.hosts.is_some() => Ok(Judged::AskHosts(Box::new(candidate))),
            RowClaim::Made(row) if row.generation() != generation => Ok(Try::Again(candidate.lock).into()),
            _ => self.dispatch(candidate, &claims, failure.as_ref()).map(|decision| Try::from(decision).into()),
        }
    }

    /// Does not ask the provider. Another host may have got past what is in the way here.
    fn stop_at(&self, candidate: Candidate, obstacle: Obstacle) -> Result<Try> {
        match self.look_among_hosts(candidate)? {
            Among::Decided(tried) => Ok(*tried),
            Among::Claimed(candidate) => self.tell_obstacle(&candidate.held, obstacle).map(Try::from),
        }
    }

    /// Serves the stored token while it is good, in the place of what keeps this call from asking the provider.
    pub(super) fn tell_obstacle(&self, held: &Credential, obstacle: Obstacle) -> Result<Decision> {
        match obstacle {
            Obstacle { refresh_error, .. } if self.may_serve(held) => {
                Ok(Decision::Served(Served::Unexpired { credential: held.clone(), refresh_error }))
            }
            Obstacle { refresh_error, wait_ms: None } => Err(refresh_error),
            Obstacle { refresh_error: error, wait_ms: Some(wait_ms) } => Ok(Decision::BackOff { wait_ms, error }),
        }
    }

    /// Whether the credential to claim has been replaced since it was read. A host is not asked again: it may take its time,
    /// and the lock that all keys share is held. A login that has landed there meanwhile wins when the answer is saved.
    fn is_replaced(&self, candidate: &Candidate) -> Result<bool> {
        let generation = candidate.held.generation();
        if self.has_host_stores() {
            return Ok(false);
        }
        if candidate.instead_of_own {
            let main = self.main_store().read(self.key.profile_id())?.oauth();
            return Ok(main.is_none_or(|main| main.generation() != generation));
        }
        Ok(self.held()?.is_none_or(|(_, held)| held.generation() != generation))
    }

    /// Refuses what could not be saved, before the provider is asked.
    fn refuse_unsavable(&self, role: StoreRole, held: &Credential) -> Result<()> {
        let store = self.store_at(role);
        store.refuse_unwritable()?;
        if let Some(main) = self.main.as_ref().filter(|_| role == StoreRole::Own) {
            main.refuse_unwritable()?;
        }
        if Sealed::new(held).journaled_bytes() > MAX_CREDENTIAL_BYTES {
            let message = format_args!(
                "the stored credential is larger than {} KiB; see what has grown in it, or log in again",
                MAX_CREDENTIAL_BYTES >> 10
            );
            return Err(Error::at(Code::StoreInvalid, store.path(), message));
        }
        Ok(())
    }

    /// `earlier`: what is known of earlier calls with the same refresh token.
    fn dispatch(&self, candidate: Candidate, claims: &ClaimsLock, earlier: Option<&FailureRecord>) -> Result<Decision> {
        let mut record = self.claim_record(&candidate, earlier);
        let Candidate { mut lock, mut journal, held, instead_of_own, row, .. } = candidate;
        if matches!(row, RowClaim::Made(_)) {
            // Whether it is sent or not.
            record.note_shared(held.generation());
        }
        let unsent = record.clone().idle();
        let row = if let RowClaim::Made(row) = row { Some(*row) } else { None };
        if self.hosts.is_none() {
            // Should other hosts have had it, its caller knows that they do no more.
            record.note_alone(held.generation());
        }
        record.note_sent(held.generation(), row.as_ref().map(ClaimedRow::id), true);
        if let Err(error) = journal.write(record) {
            // It may have been written and only not synced; nothing was sent.
            let _ = journal.write(unsent);
            return Err(error);
        }
        // On record before we look whether a peer has taken over; a peer that takes over looks at the records afterwards.
        let is_ours = lock.recheck_sidecar();
        if !(matches!(is_ours, Ok(Recheck::Kept)) && lock.is_current() && claims.is_current()) {
            journal.write(unsent)?;
            return is_ours.map(|_| Decision::TakenOver);
        }
        let spent = held.generation();
        let attempt = Sent { journal, credential: held, spent, instead_of_own, answer: None, row, lock };
        Ok(Decision::Send(Box::new(Claimed::new(attempt, unsent))))
    }

    /// The journal's record with the claim in it.
    pub(super) fn claim_record(&self, candidate: &Candidate, earlier: Option<&FailureRecord>) -> Record {
        let &Candidate { role, ref held, ref main_profile, .. } = candidate;
        let spent = held.generation();
        let mut record = candidate.journal.record().clone();
        record.end_claim();
        // Another login has taken its place.
        if role == StoreRole::Own && !record.kept().any(|kept| kept.is_of(spent)) {
            record.forget_kept(self.own.path());
        }
        let attempts = earlier.map_or(0, |earlier| earlier.attempts);
        // From now on this journal knows what another name or an earlier term has lost.
        if let Some(in_doubt) = earlier.filter(|earlier| earlier.outcome == Outcome::Uncertain) {
            record.set_failure(spent, Some(in_doubt.clone()));
        }
        let main = self.main_store().path();
        let last = record.claim.take().map(|last| last.origin);
        let was_in_main = last.is_some_and(|last| last.main_has_profile && last.main == main);
        record.state = Progress::Dispatched;
        record.epoch += 1;
        record.claim = Some(ClaimRecord {
            key: self.key.digest(),
            profile: self.key.profile_id().to_owned(),
            pid: Myself::now().pid,
            at: self.clock.now_ms(),
            origin: Origin {
                generation: spent,
                store: self.store_at(role).path().to_owned(),
                main: main.to_owned(),
                main_has_profile: match main_profile {
                    // Logged out there, and not for this call to log in again.
                    Some(Profile::Missing) => was_in_main,
                    profile => profile.as_ref().is_none_or(|profile| !profile.is_absent()),
                },
                main_generation: main_profile.as_ref().and_then(Profile::as_oauth).map(Credential::generation),
            },
            attempts,
            // The provider did not ask for a pause: after the first death we go on at once.
            pause: match attempts {
                0 => None,
                _ => PauseUntil::begin(&*self.clock, spent, attempts, failure::Backoff::Growing),
            },
        });
        record
    }
}
