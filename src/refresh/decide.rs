//! The decision under the key's lock: serve, wait, or ask the provider.

use super::commit::Recovered;
use super::known::Known;
use super::relation::Relation;
use super::verdict::Verdict;
use super::{Claimed, Found, Place, Refresh, Sent, Served, Uncertain, access_digest};
use crate::credential::{self, Credential, Generation};
use crate::error::{Code, Error, Result};
use crate::failure;
use crate::journal::record::{ClaimRecord, FailureRecord, Origin, Outcome, Pause, Progress, Sealed};
use crate::journal::siblings::{self, ClaimsLock, Sending, Siblings};
use crate::journal::{Journal, MAX_CREDENTIAL_BYTES};
use crate::lock::{Guard, Recheck};
use crate::store::Profile;
use std::path::PathBuf;

/// How long to leave alone an owner that is not stuck, although a peer has just taken over from it.
const OUT_OF_TERM_PAUSE_MS: f64 = 500.0;

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
    /// We were stuck, and a peer has taken over; or another program has taken what our sidecar should have kept it from.
    /// Nothing was sent. Take the lock again, then decide again.
    TakenOver,
}

/// How often a decision begins anew because a store held something else by then. Profiles are written some times an hour.
const MAX_STARTS: u32 = 16;

/// What a try to decide came to.
enum Try {
    Decided(Decision),
    /// A store has changed meanwhile: decide again, on what it holds now.
    Again(Guard),
}

/// Why the provider is not asked.
struct Obstacle {
    refresh_error: Error,
    /// After how many milliseconds it may be asked; `None`: not before another refresh token is stored.
    wait_ms: Option<f64>,
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

/// The holder of a key's lock, about to claim.
pub(super) struct Candidate {
    pub(super) lock: Guard,
    pub(super) journal: Journal,
    place: Place,
    pub(super) held: Credential,
    /// What main holds of the profile, if the agent has one of its own.
    pub(super) main_profile: Option<Profile>,
    pub(super) recovered: Vec<Recovered>,
    /// What the caller's hosts hold under other profile ids, if they were asked.
    pub(super) others: Option<Vec<Credential>>,
}

impl Refresh {
    /// Decides under the key's lock.
    ///
    /// What a previous owner left unfinished is finished first. An adopter releases the lock before it writes its own
    /// store, so that adoptions run side by side.
    pub fn decide(&self, mut lock: Guard) -> Result<Decision> {
        for _ in 0..MAX_STARTS {
            match self.try_to_decide(lock)? {
                Try::Decided(decision) => return Ok(decision),
                Try::Again(held) => lock = held,
            }
        }
        let message = "the credential store held another refresh token each time it was read; the provider was not asked; see what writes it";
        Err(Error::at(Code::StoreUnreadable, self.own.path(), message))
    }

    fn try_to_decide(&self, lock: Guard) -> Result<Try> {
        if !lock.is_current() {
            return Ok(Decision::TakenOver.into());
        }
        let mut journal = Journal::open(&lock).and_then(|journal| self.refuse_shared(journal));
        let mut recovered = journal.as_mut().map_or_else(|_| Vec::new(), |journal| self.finish(journal));
        let (place, held, is_claimed) = match self.found()? {
            Found::Absent => {
                journal.as_mut().map_or(Ok(()), |journal| self.forget_kept(journal))?;
                return Ok(Served::Absent.into());
            }
            Found::Claimed(place, None) => return Ok(self.wait_for_claim(place, None).into()),
            Found::Claimed(place, Some(held)) => (place, held, true),
            Found::Held(place, held) => (place, held, false),
        };
        if self.is_usable(&held) {
            let found = recovered.into_iter().find(|one| one.credential.generation() == held.generation());
            return Ok(match found {
                Some(Recovered { not_saved, .. }) => Served::Recovered { credential: held, not_saved }.into(),
                None => Served::Fresh(held).into(),
            });
        }
        if let Some(one) = journal.as_mut().ok().and_then(|journal| self.restore(journal, &held)) {
            if self.is_usable(&one.credential) {
                return self.serve_restored(place, one).map(Try::from);
            }
            if self.held()?.is_none_or(|(_, now)| now.generation() != held.generation()) {
                drop(journal);
                return Ok(Try::Again(lock));
            }
            recovered.push(one);
        }
        self.take_over_or_claim(lock, journal, (place, held, is_claimed), recovered)
    }

    /// Takes over what previous owners or agents of the same main store have got, or sets out to ask the provider.
    fn take_over_or_claim(
        &self,
        lock: Guard,
        journal: Result<Journal>,
        (place, held, is_claimed): (Place, Credential, bool),
        mut recovered: Vec<Recovered>,
    ) -> Result<Try> {
        let known = Known::of(journal.iter().map(|journal| journal.record().clone()).collect());
        let serves = |one: &Recovered| {
            // Nothing else: a login that landed meanwhile is not an ancestor, and wins.
            Relation::of(&held, &one.credential, &known.ledger) == Relation::Successor
                && self.is_usable(&one.credential)
        };
        if let Some(at) = recovered.iter().rposition(serves) {
            let Recovered { credential, not_saved } = recovered.swap_remove(at);
            return Ok(match (place, not_saved) {
                (Place::Own, None) => self.adopt(&credential)?.into(),
                (_, not_saved) => Served::Recovered { credential, not_saved }.into(),
            });
        }
        if is_claimed {
            return Ok(self.wait_for_claim(place, Some(held)).into());
        }
        // A main store that can't be read can't be mirrored to either; its other readers would then replay the token
        // that we spend. So this error stops us before the provider is asked.
        let main_profile = match self.main.as_ref().filter(|_| place == Place::Own) {
            Some(main) => Some(main.read(self.key.profile_id())?),
            None => None,
        };
        if let Some(Profile::Oauth(main_credential)) = &main_profile
            && self.is_adoptable(&held, main_credential, &known)
        {
            drop((journal, lock));
            return self.adopt(main_credential).map(Try::from);
        }
        if let Some(Profile::Claimed(_)) = &main_profile {
            return Ok(self.wait_for_claim(Place::Main, Some(held)).into());
        }
        // From here on the journal is needed. If it can't be used, the provider is not asked.
        self.claim(Candidate { lock, journal: journal?, place, held, main_profile, recovered, others: None })
    }

    /// Serves what has been brought back into the stores; an agent whose own is not among those adopts it.
    fn serve_restored(&self, place: Place, Recovered { credential, not_saved }: Recovered) -> Result<Served> {
        if place == Place::Main || not_saved.is_some() {
            return Ok(Served::Recovered { credential, not_saved });
        }
        Ok(match self.adopt(&credential)? {
            Served::Fresh(credential) => Served::Recovered { credential, not_saved: None },
            served => served,
        })
    }

    /// Makes sure that no owner sends or has sent this generation under any name, and records that it is being sent.
    #[allow(clippy::too_many_lines, reason = "one step after the other")]
    fn claim(&self, mut candidate: Candidate) -> Result<Try> {
        if !candidate.lock.has_sidecar() {
            // The disk was full. As long as it is, the provider is not asked.
            let recheck = candidate.lock.recheck_sidecar()?;
            drop(candidate.journal);
            return Ok(if recheck == Recheck::Lost { Decision::TakenOver.into() } else { Try::Again(candidate.lock) });
        }
        if candidate.journal.record().state == Progress::Dispatched {
            // We hold the lock, so that owner is dead. A peer that finds our lock taken must not take us for the one that sends.
            let mut record = candidate.journal.record().clone();
            record.end_claim();
            candidate.journal.write(record, true)?;
        }
        self.refuse_unsavable(&candidate)?;
        let paths =
            [self.store_at(candidate.place).path(), self.main_store().path()].map(|path| path.to_string_lossy());
        candidate.journal.make_room(&[self.key.profile_id(), &paths[0], &paths[1]])?;
        candidate.others = self.hosted_under_other_names(&candidate)?;
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
        let instead = self.main_instead(&candidate, &siblings);
        let instead_of_own = instead.is_some();
        if let Some(main_credential) = instead {
            (candidate.place, candidate.held, candidate.main_profile) = (Place::Main, main_credential, None);
        }
        let generation = candidate.held.generation();
        match siblings.sending(generation, &*self.clock)? {
            None => {}
            Some(Sending::Under(other)) => return Ok(Decision::Busy { lock: candidate.lock, other }.into()),
            Some(Sending::OutOfTerm) => return Ok(Decision::Later(OUT_OF_TERM_PAUSE_MS).into()),
        }
        let lineage = siblings.lineage(&candidate.journal.record().ledger);
        let failure = siblings.failure_of(generation, candidate.journal.record(), &*self.clock);
        let is_spent = lineage.is_spent(generation);
        let verdict = Verdict::of(is_spent, failure.as_ref(), &*self.clock);
        let may_be_sent = matches!(verdict, Verdict::Free | Verdict::BackOff(_));
        if !may_be_sent && let Some(newer) = self.newer(&candidate, &candidate.held, &siblings, &lineage) {
            drop(claims);
            return self.replace(candidate, &newer, &siblings);
        }
        if is_spent && self.has_hosts() && candidate.others.is_none() {
            // It has been spent under another name since the hosts would have been asked.
            drop((claims, candidate.journal));
            return Ok(Try::Again(candidate.lock));
        }
        match self.obstacle(&candidate, verdict, failure.as_ref()) {
            Some(Obstacle { refresh_error, .. }) if self.may_serve(&candidate.held) => {
                Ok(Served::Unexpired { credential: candidate.held, refresh_error }.into())
            }
            Some(Obstacle { refresh_error, wait_ms: None }) => Err(refresh_error),
            Some(Obstacle { refresh_error: error, wait_ms: Some(wait_ms) }) => {
                Ok(Decision::BackOff { wait_ms, error }.into())
            }
            None => self.dispatch(candidate, instead_of_own, &claims, failure.as_ref()).map(Try::from),
        }
    }

    /// What keeps this caller from asking the provider, for now or for good.
    fn obstacle(&self, candidate: &Candidate, verdict: Verdict, failure: Option<&FailureRecord>) -> Option<Obstacle> {
        let (refresh_error, wait_ms) = match (verdict, failure) {
            (Verdict::Spent, _) => (self.is_spent(candidate), None),
            (Verdict::Free, _) | (_, None) => return None,
            (Verdict::Dead, Some(failure)) => (self.grant_is_dead(failure), None),
            (Verdict::InDoubt(_), Some(failure)) if self.uncertain == Uncertain::Fail => {
                (self.may_not_ask_again(failure), None)
            }
            (Verdict::InDoubt(left), Some(failure)) => {
                // The stored access token is used up first: to ask again may cost it.
                let wait_ms = left.or_else(|| self.may_serve(&candidate.held).then_some(0.0))?;
                (self.not_known_yet(failure, left), Some(wait_ms))
            }
            (Verdict::BackOff(left), Some(failure)) => (self.backs_off(failure, left), Some(left)),
        };
        Some(Obstacle { refresh_error, wait_ms })
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
    fn refuse_unsavable(&self, candidate: &Candidate) -> Result<()> {
        let store = self.store_at(candidate.place);
        store.refuse_unwritable()?;
        if let Some(main) = self.main.as_ref().filter(|_| candidate.place == Place::Own) {
            main.refuse_unwritable()?;
        }
        if Sealed::new(&candidate.held).journaled_bytes() > MAX_CREDENTIAL_BYTES {
            let message = format_args!(
                "the stored credential is larger than {} KiB; see what has grown in it, or log in again",
                MAX_CREDENTIAL_BYTES >> 10
            );
            return Err(Error::at(Code::StoreInvalid, store.path(), message));
        }
        Ok(())
    }

    /// `earlier`: what is known of earlier calls with the same refresh token.
    #[allow(clippy::too_many_lines, reason = "one step after the other")]
    fn dispatch(
        &self,
        candidate: Candidate,
        instead_of_own: bool,
        claims: &ClaimsLock,
        earlier: Option<&FailureRecord>,
    ) -> Result<Decision> {
        let Candidate { mut lock, mut journal, place, held, main_profile, .. } = candidate;
        let spent = held.generation();
        let mut record = journal.record().clone();
        record.end_claim();
        // Another login has taken its place.
        if place == Place::Own && !record.kept().any(|kept| kept.is_of(spent)) {
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
        record.state = Progress::Claimed;
        record.epoch += 1;
        record.claim = Some(ClaimRecord {
            key: self.key.digest(),
            profile: self.key.profile_id().to_owned(),
            pid: std::process::id(),
            at: self.clock.now_ms(),
            origin: Origin {
                generation: spent,
                store: self.store_at(place).path().to_owned(),
                main: main.to_owned(),
                main_has_profile: match &main_profile {
                    // Logged out there, and not for this call to log in again.
                    Some(Profile::Missing) => was_in_main,
                    main_profile => main_profile.as_ref().is_none_or(|profile| !profile.is_absent()),
                },
                main_generation: match &main_profile {
                    Some(Profile::Oauth(main_credential)) => Some(main_credential.generation()),
                    _ => None,
                },
            },
            attempts,
            // The provider did not ask for a pause: after the first death we go on at once.
            pause: match attempts {
                0 => None,
                _ => Pause::begin(&*self.clock, spent, attempts, failure::Pause::BackOff),
            },
        });
        // Each durable before the next: two slots that are on their way to the disk at once could both be torn.
        journal.write(record.clone(), true)?;
        let claimed = record.clone();
        record.state = Progress::Dispatched;
        if let Err(error) = journal.write(record, true) {
            // It may have been written and only not synced; nothing was sent.
            let _ = journal.write(claimed.idle(), true);
            return Err(error);
        }
        // On record before we look whether a peer has taken over; a peer that takes over looks at the records afterwards.
        let is_ours = lock.recheck_sidecar();
        if !(matches!(is_ours, Ok(Recheck::Kept)) && lock.is_current() && claims.is_current()) {
            journal.write(claimed.idle(), true)?;
            return is_ours.map(|_| Decision::TakenOver);
        }
        let attempt = Sent { journal, credential: held, spent, instead_of_own, answer: None, lock };
        Ok(Decision::Send(Box::new(Claimed::new(attempt, claimed.idle()))))
    }

    /// Puts a newer credential in the place of the one that can't be sent, and serves it or decides on it in turn.
    fn replace(&self, candidate: Candidate, newer: &Credential, siblings: &Siblings) -> Result<Try> {
        let Candidate { lock, mut journal, place, held, .. } = candidate;
        let store = self.store_at(place);
        let replaced = store.update(self.key.profile_id(), |now| match now {
            Profile::Oauth(now) if now.generation() == held.generation() => (Some(take_over(&now, newer)), true),
            _ => (None, false),
        })?;
        if let Some(access) = access_digest(newer)
            && journal.record().lifetime_ms(access).is_none()
            && let Some(lifetime_ms) = siblings.lifetime_ms(access)
        {
            let mut record = journal.record().clone();
            record.note_lifetime(access, lifetime_ms);
            journal.write(record, true)?;
        }
        drop(journal);
        if !replaced {
            return Err(super::superseded(store));
        }
        if self.is_usable(newer) {
            let credential = take_over(&held, newer);
            return Ok(Served::Adopted { credential, not_saved: None }.into());
        }
        Ok(Try::Again(lock))
    }

    /// A journal that another key has written to would have us take its credentials for ours.
    fn refuse_shared(&self, journal: Journal) -> Result<Journal> {
        match &journal.record().claim {
            Some(claim) if claim.key != self.key.digest() => {
                let message = "this lock path is in use for another provider or profile; give each its own";
                Err(Error::at(Code::JournalUnusable, &self.lock_base, message))
            }
            _ => Ok(journal),
        }
    }

    fn is_spent(&self, candidate: &Candidate) -> Error {
        let message = "the stored refresh token was used before and its successor is in no store and no journal (was a backup restored, or the same login stored again?); log in again";
        Error::at(Code::RefreshTokenSpent, self.store_at(candidate.place).path(), message)
    }

    fn grant_is_dead(&self, failure: &FailureRecord) -> Error {
        let now = self.clock.now_ms();
        let why = match &failure.outcome {
            Outcome::Dead { lost_with: Some(lost) } => format!(
                "; it may have given a new one to process {}, which asked {} and lost the answer",
                lost.pid,
                ago(lost.at, now)
            ),
            _ => String::new(),
        };
        let message = format!(
            "the provider refuses the refresh token of {} for good, as it told process {} {}{why}; log in again",
            self.profile(),
            failure.pid,
            ago(failure.at, now)
        );
        Error::new(Code::GrantDead, message)
    }

    fn not_known_yet(&self, failure: &FailureRecord, left: Option<f64>) -> Error {
        let next = left.map_or_else(
            || "once the stored access token has expired".to_owned(),
            |left| format!("in {} at the earliest", seconds(left)),
        );
        let message = format!("{}; the login is kept, and the provider is asked again {next}", self.in_doubt(failure));
        Error::new(Code::RefreshUncertain, message)
    }

    fn may_not_ask_again(&self, failure: &FailureRecord) -> Error {
        let message = format!(
            "{}; the login is kept, and this call forbids asking again (`uncertain: \"fail\"`): call without that option",
            self.in_doubt(failure)
        );
        Error::new(Code::RefreshUncertain, message)
    }

    fn in_doubt(&self, failure: &FailureRecord) -> String {
        format!(
            "the outcome of the last refresh of {} is not known yet (process {} asked first, {}; asked {} so far)",
            self.profile(),
            failure.pid,
            ago(failure.at, self.clock.now_ms()),
            times(failure.attempts)
        )
    }

    fn backs_off(&self, failure: &FailureRecord, wait_ms: f64) -> Error {
        let message = format!(
            "the last refresh of {} failed without using the refresh token (process {}, {}); the login is kept, and the provider is asked again in {} at the earliest",
            self.profile(),
            failure.pid,
            ago(failure.at, self.clock.now_ms()),
            seconds(wait_ms)
        );
        Error::new(Code::RefreshBackoff, message)
    }

    fn profile(&self) -> String {
        format!("profile \"{}\"", self.key.profile_id().escape_debug())
    }
}

fn times(number: u32) -> String {
    if number == 1 { "once".to_owned() } else { format!("{number} times") }
}

fn seconds(ms: f64) -> String {
    format!("{:.0} s", (ms / 1000.0).ceil())
}

/// Tokens and identity of another profile's credential; what else a profile has is its own.
fn take_over(held: &Credential, newer: &Credential) -> Credential {
    let taken = ["access", "refresh", "expires", "accountId", "email", "enterpriseUrl", "projectId"];
    let taken: Vec<_> = taken.into_iter().chain(credential::OF_TOKENS).map(str::to_owned).collect();
    held.updated_by(newer, &taken).without_others(newer)
}

/// How long ago, in words.
fn ago(at: f64, now: f64) -> String {
    let seconds = ((now - at) / 1000.0).max(0.0);
    match seconds {
        _ if seconds < 120.0 => format!("{seconds:.0} s ago"),
        _ if seconds < 7200.0 => format!("{:.0} min ago", seconds / 60.0),
        _ => format!("{:.0} h ago", seconds / 3600.0),
    }
}
