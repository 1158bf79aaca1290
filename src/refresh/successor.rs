//! What to send or serve in the place of a credential that is spent, or may be.

use super::decide::Owner;
use super::relation::{is_same_login, replacement};
use super::{Call, Uncertain};
use crate::credential::Credential;
use crate::error::Result;
use crate::grant::Siblings;
use crate::journal::MAX_CREDENTIAL_BYTES;
use crate::ledger::Ledger;
use crate::record::{Outcome, Sealed};
use crate::store::Profile;
use std::path::Path;

impl Call {
    /// What may take the place of a credential that can't be sent any more: see [`replacement`]. Looks into every known store and
    /// journal. Reads files and asks no host, as we hold the lock that all keys share: the caller's hosts were asked before.
    pub(super) fn newer(
        &self,
        owner: &Owner,
        held: &Credential,
        siblings: &Siblings,
        lineage: &Ledger,
    ) -> Option<Credential> {
        let record = owner.journal.record();
        let elsewhere = |path: &Path| self.store_of(path).credentials_in_file();
        // A store that can't be read holds nothing for us.
        let stored = [self.own.credentials_in_file(), self.main_store().credentials_in_file()]
            .into_iter()
            .chain(record.stores().chain(siblings.stores()).map(elsewhere))
            .filter_map(Result::ok)
            .flatten();
        let mains = match &owner.mains {
            Some(Profile::Oauth(mains)) => Some(mains),
            _ => None,
        };
        let recovered = owner.recovered.iter().map(|one| one.credential.clone());
        let hosted = owner.others.iter().flatten().cloned();
        let known = recovered.chain(siblings.received()).chain(mains.cloned()).chain(hosted);
        let is_dead = |generation| {
            let failure = siblings.failure_of(generation, record, &*self.clock);
            failure.is_some_and(|failure| failure.is_dead())
        };
        replacement(held, lineage, is_dead, known.chain(stored), mains)
    }

    /// The main store's credential, if it is to be refreshed instead of the agent's own, and adopted afterwards as if it had not
    /// expired: it is newer, and names the same account. The agent's own may have been spent before this package kept a record,
    /// or before that record begins; of one that was received here we know more. The own one stays where it is if the provider
    /// refuses the other.
    pub(super) fn mains_instead(&self, owner: &Owner, siblings: &Siblings) -> Option<Credential> {
        let Some(Profile::Oauth(mains)) = &owner.mains else { return None };
        let (generation, record) = (mains.generation(), owner.journal.record());
        let lineage = siblings.lineage(&record.ledger);
        if lineage.is_successor(owner.held.generation()) && !lineage.is_spent(owner.held.generation()) {
            return None;
        }
        let is_newer = mains.access().is_some() && mains.expires().is_some() && mains.outlives(&owner.held);
        let is_small = || Sealed::new(mains).journaled_bytes() <= MAX_CREDENTIAL_BYTES;
        if !is_newer
            || mains.refresh().is_none()
            || generation == owner.held.generation()
            || !is_same_login(&owner.held, mains)
            || !is_small()
        {
            return None;
        }
        let leads_on = if lineage.is_spent(generation) {
            self.newer(owner, mains, siblings, &lineage).is_some()
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
        (leads_on && (self.has_hosts() || is_there())).then(|| mains.clone())
    }

    /// If the held credential is spent: what the caller's hosts hold of the profiles whose keys have spent a token. We ask them
    /// before we take the lock that all keys share.
    pub(super) fn hosted_under_other_names(&self, owner: &Owner) -> Result<Option<Vec<Credential>>> {
        if !self.has_hosts() {
            return Ok(None);
        }
        let siblings = Siblings::read(&self.lock_base, owner.lock.term())?;
        if !siblings.lineage(&owner.journal.record().ledger).is_spent(owner.held.generation()) {
            return Ok(None);
        }
        let hosted = siblings.stores_and_profiles().filter_map(|(path, profile)| {
            match self.store_of(path) {
                store if !store.is_hosted() => None,
                // One that can't be read holds nothing for us.
                store => store.read(profile).ok(),
            }
        });
        let oauth = hosted.filter_map(|profile| match profile {
            Profile::Oauth(credential) => Some(credential),
            _ => None,
        });
        Ok(Some(oauth.collect()))
    }
}
