//! The decision under the key's lock: serve, wait, or ask the provider.

use super::{Call, InFlight, Place, Served, Uncertain, may_replace};
use crate::credential::{Credential, Generation};
use crate::error::{Code, Error, Result};
use crate::grant::{self, Siblings};
use crate::journal::{ClaimRecord, FailureRecord, Journal, LostWith, MAX_CREDENTIAL_BYTES, State};
use crate::ledger::Ledger;
use crate::lock::{self, Guard};
use crate::store::{Profile, Store};
use std::path::{Path, PathBuf};

/// A pause that a provider asked for is honoured up to this long: one hour.
pub(super) const MAX_BACK_OFF_MS: f64 = 3_600_000.0;

/// What the owner of the lock is to do.
#[derive(Debug)]
pub enum Decision {
    /// Nothing: somebody else has refreshed. The locks are released.
    Served(Served),
    /// Ask the provider. It is on record that it is being asked.
    Dispatched(Box<InFlight>),
    /// The provider asked for a pause of this many milliseconds more. The locks are released.
    BackOff(f64),
    /// The same refresh token is being sent under another name: wait for that lock too, then decide again with both.
    Busy {
        /// The key's lock.
        lock: Guard,
        /// The lock to wait for.
        generation_lock: PathBuf,
    },
}

impl Call {
    /// Decides under the key's lock, with the generation's lock if [`Decision::Busy`] asked for it.
    ///
    /// What a previous owner left unfinished is finished first. An adopter releases the locks before it writes its own
    /// store, so that adoptions run side by side.
    pub fn decide(&self, lock: Guard, generation_lock: Option<Guard>) -> Result<Decision> {
        let mut journal = Journal::open(&self.lock_base).and_then(|journal| self.refuse_shared(journal));
        let recovered = journal.as_mut().ok().and_then(|journal| self.finish(journal));
        let Some((place, held)) = self.held()? else { return Ok(Decision::Served(Served::Absent)) };
        if self.is_usable(&held) {
            return Ok(Decision::Served(match recovered {
                Some((credential, not_saved)) if credential.generation() == held.generation() => {
                    Served::Recovered { credential: held, not_saved }
                }
                _ => Served::Fresh(held),
            }));
        }
        let unspent = Ledger::default();
        let ledger = journal.as_ref().map_or(&unspent, |journal| &journal.record().ledger).clone();
        if let Some((credential, not_saved)) = recovered {
            let descends = ledger.descends(credential.generation(), held.generation());
            if self.is_usable(&credential) && may_replace(&held, &credential, descends) {
                return Ok(Decision::Served(match (place, not_saved) {
                    (Place::Own, None) => self.adopt(&credential, &ledger)?,
                    (_, not_saved) => Served::Recovered { credential, not_saved },
                }));
            }
        }
        // A main store that can't be read can't be mirrored to either; its other readers would then replay the token
        // that we spend. So this error stops us before the provider is asked.
        let mains = match self.main.as_ref().filter(|_| place == Place::Own) {
            Some(main) => Some(main.read(self.key.profile_id())?),
            None => None,
        };
        if let Some(Profile::Oauth(mains)) = &mains
            && self.is_adoptable(&held, mains, &ledger)
        {
            drop((journal, generation_lock, lock));
            return self.adopt(mains, &ledger).map(Decision::Served);
        }
        // From here on the journal is needed. If it can't be used, the provider is not asked.
        let in_main = !matches!(mains, Some(Profile::Missing));
        self.claim(Owner { lock, journal: journal?, place, held, in_main }, generation_lock)
    }

    /// Sees to it that nobody sends or has sent this generation under any name, and puts on record that it is being sent.
    fn claim(&self, owner: Owner, generation_lock: Option<Guard>) -> Result<Decision> {
        let generation = owner.held.generation();
        let wanted = grant::lock_path(&self.state_dir, generation);
        let given = generation_lock.filter(|lock| lock.base() == wanted);
        let Some(generation_lock) = given.map_or_else(|| lock::try_acquire(&wanted), |lock| Ok(Some(lock)))? else {
            return Ok(Decision::Busy { lock: owner.lock, generation_lock: wanted });
        };
        let siblings = Siblings::read(&self.lock_base)?;
        let lineage = siblings.lineage(&owner.journal.record().ledger);
        let own_failure = owner.journal.record().failure_of(generation);
        // One key may know that a call was cut off, and another that its repetition was refused: the worst counts.
        let failure = own_failure.into_iter().chain(siblings.failures(generation)).max_by_key(FailureRecord::severity);
        if lineage.is_spent(generation) && !matches!(failure, Some(FailureRecord::Dead { .. })) {
            return self.resurrected(owner, generation_lock, &siblings, &lineage);
        }
        let probed_for = match failure {
            None => None,
            Some(FailureRecord::BackOff { until, boot, .. }) => {
                let left = until - self.clock.boot_ms();
                if boot == self.clock.boot_id() && left > 0.0 && left <= MAX_BACK_OFF_MS {
                    return Ok(Decision::BackOff(left));
                }
                None
            }
            Some(FailureRecord::Dead { pid, at, lost_with, .. }) => return Err(self.grant_is_dead(pid, at, lost_with)),
            Some(FailureRecord::Uncertain { pid, at, probed, .. }) => {
                if owner.held.is_unexpired(self.clock.now_ms()) && !self.is_rejected(&owner.held) {
                    return Ok(Decision::Served(Served::Fresh(owner.held)));
                }
                if probed || self.uncertain == Uncertain::Fail {
                    return Err(self.outcome_is_unknown(pid, at, probed));
                }
                Some(LostWith { pid, at })
            }
        };
        self.dispatch(owner, generation_lock, probed_for.as_ref())
    }

    fn dispatch(&self, owner: Owner, generation_lock: Guard, probed_for: Option<&LostWith>) -> Result<Decision> {
        let Owner { lock, mut journal, place, held, in_main } = owner;
        let store = self.store_at(place);
        store.refuse_read_only()?;
        if let Some(main) = self.main.as_ref().filter(|_| place == Place::Own) {
            main.refuse_read_only()?;
        }
        if held.to_json().len() > MAX_CREDENTIAL_BYTES {
            let message = format_args!("the credential is larger than {} KiB", MAX_CREDENTIAL_BYTES >> 10);
            return Err(Error::at(Code::StoreInvalid, store.path(), message));
        }
        let spent = held.generation();
        let mut record = journal.record().clone();
        record.end_claim();
        record.state = State::Claimed;
        record.epoch += 1;
        record.claim = Some(ClaimRecord {
            key: self.key.digest(),
            generation: spent,
            pid: std::process::id(),
            at: self.clock.now_ms(),
            store: store.path().to_owned(),
            in_main,
            probe: probed_for.is_some(),
        });
        if let Some(&LostWith { pid, at }) = probed_for {
            // Should the probe be cut off as well, it still counts as made.
            let failure = FailureRecord::Uncertain { generation: spent, pid, at, probed: true };
            record.set_failure(spent, Some(failure));
        }
        journal.write(record.clone(), false)?;
        record.state = State::Dispatched;
        if let Err(error) = journal.write(record.clone(), true) {
            // It may have been written and only not synced; nothing was sent.
            record.state = State::Idle;
            let _ = journal.write(record, true);
            return Err(error);
        }
        let flight = InFlight { journal, credential: held, spent, generation_lock, lock };
        Ok(Decision::Dispatched(Box::new(flight)))
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

    /// A spent generation is back, as from a backup: its successor takes its place if any store or journal holds it.
    fn resurrected(
        &self,
        owner: Owner,
        generation_lock: Guard,
        siblings: &Siblings,
        lineage: &Ledger,
    ) -> Result<Decision> {
        let Owner { lock, journal, place, held, .. } = owner;
        let store = self.store_at(place);
        let Some(successor) = self.successor(
            &held,
            journal.record().received.iter().filter_map(super::super::journal::Sealed::open),
            siblings,
            lineage,
        ) else {
            let message = "the stored refresh token was used before and its successor is nowhere to be found (was a backup restored?); log in again";
            return Err(Error::at(Code::RefreshTokenSpent, store.path(), message));
        };
        let spent = held.generation();
        let restored = store.lock()?.update(self.key.profile_id(), |now| match now {
            Profile::Oauth(now) if now.generation() == spent => (Some(now.replaced_by(&successor)), true),
            _ => (None, false),
        })?;
        drop((journal, generation_lock));
        if !restored {
            return Err(super::superseded(store));
        }
        if self.is_usable(&successor) {
            let credential = held.replaced_by(&successor);
            return Ok(Decision::Served(Served::Adopted { credential, not_saved: None }));
        }
        // Expired too, but its own refresh token was never sent.
        self.decide(lock, None)
    }

    /// The newest descendant of `spent` that any store or journal holds.
    fn successor(
        &self,
        spent: &Credential,
        received: impl Iterator<Item = Credential>,
        siblings: &Siblings,
        lineage: &Ledger,
    ) -> Option<Credential> {
        let elsewhere = |path: &Path| Store::at(path, &self.state_dir).credentials();
        // A store that can't be read holds nothing for us.
        let stored = [self.own.credentials(), self.main_store().credentials()]
            .into_iter()
            .chain(siblings.stores().map(elsewhere))
            .filter_map(Result::ok)
            .flatten();
        let is_newest = |credential: &Credential| {
            let generation: Generation = credential.generation();
            lineage.descends(generation, spent.generation())
                && !lineage.is_spent(generation)
                && may_replace(spent, credential, true)
        };
        received.chain(siblings.received()).chain(stored).find(is_newest)
    }

    pub(super) fn grant_is_dead(&self, pid: u32, at: f64, lost_with: Option<LostWith>) -> Error {
        let (told, now) = (ago(at, self.clock.now_ms()), self.clock.now_ms());
        let why = lost_with.map_or_else(String::new, |lost| {
            format!(
                "; the provider had already rotated it for process {}, which was cut off while it waited for the answer {}",
                lost.pid,
                ago(lost.at, now)
            )
        });
        let message = format!(
            "the provider refuses the refresh token of profile \"{}\" for good, as it told process {pid} {told}{why}; log in again",
            self.key.profile_id().escape_debug()
        );
        Error::new(Code::GrantDead, message)
    }

    fn outcome_is_unknown(&self, pid: u32, at: f64, probed: bool) -> Error {
        let asked = ago(at, self.clock.now_ms());
        let then =
            if probed { "and asking once more brought no answer either" } else { "and asking again is switched off" };
        let message = format!(
            "whether the provider has rotated the refresh token of profile \"{}\" is unknown: process {pid} asked {asked} and got no answer, {then}; log in again",
            self.key.profile_id().escape_debug()
        );
        Error::new(Code::RefreshUncertain, message)
    }
}

/// The holder of a key's lock, about to claim.
struct Owner {
    lock: Guard,
    journal: Journal,
    place: Place,
    held: Credential,
    in_main: bool,
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
