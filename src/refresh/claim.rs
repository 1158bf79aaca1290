//! The claim: the owner of a key's lock makes sure that nobody sends or has sent a refresh token, and puts on record that it will.

use super::commit::Recovered;
use super::decision::{Decision, Try};
use super::obstacle::Obstacle;
use super::verdict::Verdict;
use super::{Claimed, Refresh, Sent, Served, StoreRole};
use crate::credential::{Credential, Generation};
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
}

impl Refresh {
    /// Makes sure that no owner sends or has sent this generation under any name, and records that it is being sent.
    pub(super) fn claim(&self, mut candidate: Candidate) -> Result<Try> {
        if !candidate.lock.has_sidecar() {
            // The disk was full. As long as it is, the provider is not asked.
            let recheck = candidate.lock.recheck_sidecar()?;
            drop(candidate.journal);
            return Ok(if recheck == Recheck::Lost { Decision::TakenOver.into() } else { Try::Again(candidate.lock) });
        }
        self.prepare(&mut candidate)?;
        let claims = siblings::lock_claims(&self.lock_base, &self.clock)?;
        if self.is_replaced(candidate.held.generation())? {
            // Others were claiming while a login or another program replaced it.
            drop((claims, candidate.journal));
            return Ok(Try::Again(candidate.lock));
        }
        candidate.journal.end_earlier_terms(&candidate.lock, &claims)?;
        let mut siblings = Siblings::read(&candidate.lock)?;
        if !candidate.lock.is_current() {
            // We can't judge by what a later term's owner is doing.
            return Ok(Decision::TakenOver.into());
        }
        if let Some(main_credential) = self.main_instead(&candidate, &siblings) {
            candidate.instead_of_own = true;
            (candidate.role, candidate.held, candidate.main_profile) = (StoreRole::Main, main_credential, None);
        }
        match siblings.sending(candidate.held.generation(), &*self.clock)? {
            None => self.judge(candidate, claims, &siblings),
            Some(Sending::Under(other)) => Ok(Decision::Busy { lock: candidate.lock, other }.into()),
            Some(Sending::OutOfTerm) => Ok(Decision::Later(OUT_OF_TERM_PAUSE_MS).into()),
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
        candidate.journal.make_room(&[self.key.profile_id(), &paths[0], &paths[1]])?;
        candidate.others = self.hosted_under_other_names(candidate)?;
        Ok(())
    }

    /// Goes by what all journals say of the generation: to replace it, to wait, or to ask the provider.
    fn judge(&self, candidate: Candidate, claims: ClaimsLock, siblings: &Siblings) -> Result<Try> {
        let generation = candidate.held.generation();
        let lineage = siblings.lineage(&candidate.journal.record().ledger);
        let failure = siblings.failure_of(generation, candidate.journal.record(), &*self.clock);
        let is_spent = lineage.is_spent(generation);
        let verdict = Verdict::of(is_spent, failure.as_ref(), &*self.clock);
        let may_be_sent = matches!(verdict, Verdict::Free | Verdict::BackOff(_));
        if !may_be_sent && let Some(newer) = self.newer(&candidate, &candidate.held, siblings, &lineage) {
            drop(claims);
            return self.replace(candidate, &newer, siblings);
        }
        if is_spent && self.has_hosts() && candidate.others.is_none() {
            // It has been spent under another name since the hosts would have been asked.
            drop((claims, candidate.journal));
            return Ok(Try::Again(candidate.lock));
        }
        match self.obstacle(candidate.role, &candidate.held, verdict, failure.as_ref()) {
            Some(Obstacle { refresh_error, .. }) if self.may_serve(&candidate.held) => {
                Ok(Served::Unexpired { credential: candidate.held, refresh_error }.into())
            }
            Some(Obstacle { refresh_error, wait_ms: None }) => Err(refresh_error),
            Some(Obstacle { refresh_error: error, wait_ms: Some(wait_ms) }) => {
                Ok(Decision::BackOff { wait_ms, error }.into())
            }
            None => self.dispatch(candidate, &claims, failure.as_ref()).map(Try::from),
        }
    }

    /// Whether the credential to claim has been replaced since it was read. A host is not asked again: it may take its time,
    /// and the lock that all keys share is held. A login that has landed there meanwhile wins when the answer is saved.
    fn is_replaced(&self, generation: Generation) -> Result<bool> {
        if self.has_hosts() {
            return Ok(false);
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
        let record = self.claim_record(&candidate, earlier);
        let Candidate { mut lock, mut journal, held, instead_of_own, .. } = candidate;
        let unsent = record.clone().idle();
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
        let attempt = Sent { journal, credential: held, spent, instead_of_own, answer: None, lock };
        Ok(Decision::Send(Box::new(Claimed::new(attempt, unsent))))
    }

    /// The journal's record with the claim in it.
    fn claim_record(&self, candidate: &Candidate, earlier: Option<&FailureRecord>) -> Record {
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
