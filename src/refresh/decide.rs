//! The decision under the key's lock: serve, wait, or ask the provider.

use super::claim::{Candidate, RowClaim};
use super::commit::Recovered;
use super::decision::{Decision, Try};
use super::known::Known;
use super::relation::Relation;
use super::stored::{StoreRole, StoredState};
use super::{Refresh, Served};
use crate::credential::Credential;
use crate::error::{Code, Error, Result};
use crate::journal::Journal;
use crate::lock::Guard;
use crate::store::Profile;

/// How often a decision begins anew because a store held something else by then. Profiles are written some times an hour.
const MAX_STARTS: u32 = 16;

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
        let message = "the stored refresh token was another one at each of 16 reads, so the provider was not asked; find the program that keeps writing this store";
        Err(Error::at(Code::StoreUnreadable, self.own.path(), message))
    }

    fn try_to_decide(&self, lock: Guard) -> Result<Try> {
        if !lock.is_current() {
            return Ok(Decision::TakenOver.into());
        }
        let mut journal = Journal::open(&lock).and_then(|journal| self.refuse_shared(journal));
        let mut recovered = journal.as_mut().map_or_else(|_| Vec::new(), |journal| self.finish(journal));
        if let Ok(journal) = &mut journal {
            self.tell_owed(journal);
        }
        let (role, held, is_claimed) = match self.found()? {
            StoredState::Absent => {
                journal.as_mut().map_or(Ok(()), |journal| self.forget_kept(journal))?;
                return Ok(Served::Absent.into());
            }
            StoredState::Claimed(role, None) => return Ok(self.wait_for_claim(role, None).into()),
            StoredState::Claimed(role, Some(held)) => (role, held, true),
            StoredState::Held(role, held) => (role, held, false),
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
                return self.serve_restored(role, one).map(Try::from);
            }
            if self.held()?.is_none_or(|(_, now)| now.generation() != held.generation()) {
                drop(journal);
                return Ok(Try::Again(lock));
            }
            recovered.push(one);
        }
        self.adopt_or_claim(lock, journal, (role, held, is_claimed), recovered)
    }

    /// Takes over what previous owners or agents of the same main store have got, or sets out to ask the provider.
    fn adopt_or_claim(
        &self,
        lock: Guard,
        journal: Result<Journal>,
        (role, held, is_claimed): (StoreRole, Credential, bool),
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
            return Ok(match (role, not_saved) {
                (StoreRole::Own, None) => self.adopt(&credential, None)?.into(),
                (_, not_saved) => Served::Recovered { credential, not_saved }.into(),
            });
        }
        if is_claimed {
            return Ok(self.wait_for_claim(role, Some(held)).into());
        }
        // A main store that can't be read can't be mirrored to either; its other readers would then replay the token
        // that we spend. So this error stops us before the provider is asked.
        let main_profile = match self.main.as_ref().filter(|_| role == StoreRole::Own) {
            Some(main) => Some(main.read(self.key.profile_id())?),
            None => None,
        };
        if let Some(Profile::Oauth(main_credential)) = &main_profile
            && self.is_adoptable(&held, main_credential, &known)
        {
            drop((journal, lock));
            return self.adopt(main_credential, Some(&held)).map(Try::from);
        }
        if let Some(Profile::Claimed(_)) = &main_profile {
            return Ok(self.wait_for_claim(StoreRole::Main, Some(held)).into());
        }
        // From here on the journal is needed. If it can't be used, the provider is not asked.
        self.claim(Candidate {
            lock,
            journal: journal?,
            role,
            held,
            main_profile,
            recovered,
            others: None,
            instead_of_own: false,
            row: RowClaim::NotMade,
        })
    }

    /// Serves what has been brought back into the stores; an agent whose own is not among those adopts it.
    fn serve_restored(&self, role: StoreRole, Recovered { credential, not_saved }: Recovered) -> Result<Served> {
        if role == StoreRole::Main || not_saved.is_some() {
            return Ok(Served::Recovered { credential, not_saved });
        }
        Ok(match self.adopt(&credential, None)? {
            Served::Fresh(credential) => Served::Recovered { credential, not_saved: None },
            served => served,
        })
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
}
