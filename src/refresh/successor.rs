//! What to send or serve in the place of a credential that is spent, or may be.

use super::claim::Candidate;
use super::decision::Try;
use super::relation::{is_same_login, replacement};
use super::{Refresh, Served, Uncertain, access_digest};
use crate::credential::{self, Credential, Generation};
use crate::error::Result;
use crate::journal::MAX_CREDENTIAL_BYTES;
use crate::journal::ledger::Ledger;
use crate::journal::record::{Outcome, Sealed};
use crate::journal::siblings::Siblings;
use crate::store::{self, Profile};
use std::path::Path;

impl Refresh {
    /// What may take the place of a credential that can't be sent any more: see [`replacement`]. Looks into every known store and
    /// journal. Reads files and asks no host, as we hold the lock that all keys share: the caller's hosts were asked before.
    pub(super) fn newer(
        &self,
        candidate: &Candidate,
        held: &Credential,
        siblings: &Siblings,
        lineage: &Ledger,
    ) -> Option<Credential> {
        let record = candidate.journal.record();
        let elsewhere = |path: &Path| self.store_of(path).credentials_in_file();
        // A store that can't be read holds nothing for us.
        let stored = [self.own.credentials_in_file(), self.main_store().credentials_in_file()]
            .into_iter()
            .chain(record.stores().chain(siblings.stores()).map(elsewhere))
            .filter_map(Result::ok)
            .flatten();
        let main_credential = candidate.main_profile.as_ref().and_then(Profile::as_oauth);
        let recovered = candidate.recovered.iter().map(|one| one.credential.clone());
        let hosted = candidate.others.iter().flatten().cloned();
        let known = recovered.chain(siblings.received()).chain(main_credential.cloned()).chain(hosted);
        replacement(held, lineage, self.is_dead(candidate, siblings), known.chain(stored), main_credential)
    }

    /// What may take the place of a spent credential, from the stores of all agents: one that only ever adopted is in no journal. There
    /// may be many, so nobody but this key may wait for us.
    pub(super) fn newer_beside(
        &self,
        candidate: &Candidate,
        siblings: &Siblings,
        lineage: &Ledger,
    ) -> Option<Credential> {
        let paths = store::in_state_dir(&self.state_dir).unwrap_or_default().into_iter();
        let stored = paths.filter_map(|path| self.store_of(&path).credentials_in_file().ok()).flatten();
        replacement(&candidate.held, lineage, self.is_dead(candidate, siblings), stored, None)
    }

    fn is_dead<'a>(&'a self, candidate: &'a Candidate, siblings: &'a Siblings) -> impl Fn(Generation) -> bool + 'a {
        |generation| {
            let failure = siblings.failure_of(generation, candidate.journal.record(), &*self.clock);
            failure.is_some_and(|failure| failure.is_dead())
        }
    }

    /// The main store's credential, if it is to be refreshed instead of the agent's own, and adopted afterwards as if it had not
    /// expired: it is newer, and names the same account. The agent's own may have been spent before this package kept a record,
    /// or before that record begins; of one that was received here we know more. The own one stays where it is if the provider
    /// refuses the other.
    pub(super) fn main_instead(&self, candidate: &Candidate, siblings: &Siblings) -> Option<Credential> {
        let main_credential = candidate.main_profile.as_ref().and_then(Profile::as_oauth)?;
        let (generation, record) = (main_credential.generation(), candidate.journal.record());
        let lineage = siblings.lineage(&record.ledger);
        if lineage.is_successor(candidate.held.generation()) && !lineage.is_spent(candidate.held.generation()) {
            return None;
        }
        let is_newer = main_credential.access().is_some()
            && main_credential.expires().is_some()
            && main_credential.outlives(&candidate.held);
        let is_small = || Sealed::new(main_credential).journaled_bytes() <= MAX_CREDENTIAL_BYTES;
        if !is_newer
            || main_credential.refresh().is_none()
            || generation == candidate.held.generation()
            || !is_same_login(&candidate.held, main_credential)
            || !is_small()
        {
            return None;
        }
        let leads_on = if lineage.is_spent(generation) {
            self.newer(candidate, main_credential, siblings, &lineage).is_some()
        } else {
            match siblings.failure_of(generation, record, &*self.clock).map(|failure| failure.outcome) {
                None | Some(Outcome::Unspent) => true,
                Some(Outcome::Uncertain) => self.uncertain == Uncertain::Probe,
                Some(Outcome::NotOurs | Outcome::Dead { .. }) => false,
            }
        };
        // It was read before the lock that all keys share was held, like the agent's own.
        let is_there = || match self.main_store().read(self.key.profile_id()) {
            Ok(Profile::Oauth(now)) => now.generation() == generation,
            _ => false,
        };
        (leads_on && (self.has_host_stores() || is_there())).then(|| main_credential.clone())
    }

    /// If the held credential is spent: what the caller's hosts hold of the profiles whose keys have spent a token, in whichever of
    /// their stores it was mirrored to. We ask them before we take the lock that all keys share.
    pub(super) fn hosted_under_other_names(&self, candidate: &Candidate) -> Result<Option<Vec<Credential>>> {
        if !self.has_host_stores() {
            return Ok(None);
        }
        let siblings = Siblings::read(&candidate.lock)?;
        if !siblings.lineage(&candidate.journal.record().ledger).is_spent(candidate.held.generation()) {
            return Ok(None);
        }
        let stores = || std::iter::once(&self.own).chain(&self.main).filter(|store| store.is_hosted());
        // One that can't be read holds nothing for us.
        let read = |profile| stores().filter_map(move |store| store.read(profile).ok());
        Ok(Some(siblings.profiles().flat_map(read).filter_map(Profile::oauth).collect()))
    }

    /// Puts a newer credential in the place of the one that can't be sent, and serves it or decides on it in turn.
    pub(super) fn replace(&self, candidate: Candidate, newer: &Credential, siblings: &Siblings) -> Result<Try> {
        let Candidate { lock, mut journal, role, held, .. } = candidate;
        let store = self.store_at(role);
        let (replaced, unsynced) = store.update(self.key.profile_id(), |now| match now {
            Profile::Oauth(now) if now.generation() == held.generation() => (Some(adopt_tokens(&now, newer)), true),
            _ => (None, false),
        })?;
        // What it was taken from may be given up.
        unsynced.map_or(Ok(()), |unsynced| unsynced.sync())?;
        if let Some(access) = access_digest(newer)
            && journal.record().lifetime_ms(access).is_none()
            && let Some(lifetime_ms) = siblings.lifetime_ms(access)
        {
            let mut record = journal.record().clone();
            record.note_lifetime(access, lifetime_ms);
            journal.write(record)?;
        }
        drop(journal);
        if !replaced {
            return Err(super::superseded(store));
        }
        if self.is_usable(newer) {
            let credential = adopt_tokens(&held, newer);
            return Ok(Served::Adopted { credential, not_saved: None, from_host: None }.into());
        }
        Ok(Try::Again(lock))
    }
}

/// Tokens and identity of another profile's credential; what else a profile has is its own.
fn adopt_tokens(held: &Credential, newer: &Credential) -> Credential {
    let taken = ["access", "refresh", "expires", "accountId", "email", "enterpriseUrl", "projectId"];
    let taken: Vec<_> = taken.into_iter().chain(credential::OF_TOKENS).map(str::to_owned).collect();
    held.updated_by(newer, &taken).without_others(newer)
}
