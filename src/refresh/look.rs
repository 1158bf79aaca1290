//! What a caller is served without the key's lock.

use super::stored::{StoreRole, StoredState};
use super::{Refresh, Served, access_digest, margin_ms, may_take, superseded};
use crate::credential::Credential;
use crate::error::Result;
use crate::store::{ADOPTION_PATIENCE, Glance, Profile, Recent, Store};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use zeroize::Zeroizing;

impl Refresh {
    /// What [`Self::look`] would find, if nothing needs to be read for it: a usable credential, in a store that shows no change
    /// since this process read it.
    #[must_use]
    pub fn glance(&self) -> Option<Arc<Recent>> {
        if self.force || self.own.refuse_sqlite_era(true).is_err() {
            return None;
        }
        self.is_own_of_file_era.store(true, Ordering::Relaxed);
        let profile_id = self.key.profile_id();
        let own = self.own.glance(profile_id);
        self.is_own_unknown.store(matches!(own, Glance::Unknown), Ordering::Relaxed);
        let in_main = |main: &Store| match self.refuse_mains_sqlite_era() {
            Ok(()) => main.glance(profile_id),
            Err(_) => Glance::Unknown,
        };
        let found = match (own, &self.main) {
            (Glance::Unchanged(own), Some(main)) if own.profile.is_absent() => in_main(main),
            (Glance::NoStore, Some(main)) => in_main(main),
            (own, _) => own,
        };
        let Glance::Unchanged(recent) = found else { return None };
        let held = recent.profile.as_oauth()?;
        let now_ms = self.clock.now_ms();
        let is_usable =
            held.is_usable(now_ms, self.margin_ms) || held.is_usable(now_ms, margin_ms(held, None, self.margin_ms));
        (is_usable && self.is_of_provider(held) && !self.is_rejected(held)).then_some(recent)
    }

    /// Tries without the lock: the stored credential, then what a peer in this process just got, then the main store's. Refuses where
    /// the stores are of OpenClaw's SQLite era.
    ///
    /// `None` means that the lock is needed.
    pub fn look(&self, peers: Option<&Credential>) -> Result<Option<Served>> {
        if !self.is_own_of_file_era.swap(false, Ordering::Relaxed) {
            self.own.refuse_sqlite_era(true)?;
        }
        self.refuse_mains_sqlite_era()?;
        self.note_last_commit();
        // A hint: what this process has read will do, if the file shows no change. It may just have been looked at.
        let is_own_unknown = self.is_own_unknown.swap(false, Ordering::Relaxed);
        let read = |store: &Store| {
            let is_unknown = is_own_unknown && store.path() == self.own.path();
            if is_unknown { store.read(self.key.profile_id()) } else { store.read_unless_known(self.key.profile_id()) }
        };
        let (role, held, is_claimed) = match self.found_by(read)? {
            // A logout: receipts that wait or are kept for this store are removed under the lock.
            StoredState::Absent if self.has_receipt_for_own() => return Ok(None),
            StoredState::Absent => return Ok(Some(Served::Absent)),
            StoredState::Claimed(_, None) => return Ok(None),
            StoredState::Claimed(role, Some(held)) => (role, held, true),
            StoredState::Held(role, held) => (role, held, false),
        };
        if self.force {
            self.rejected.get_or_init(|| Zeroizing::new(held.access().unwrap_or_default().to_owned()));
        }
        let may_adopt = role == StoreRole::Own && !is_claimed && !self.own.is_held();
        // Most have nothing to adopt, and need no journal to know.
        let is_adoptable =
            |offered: &Credential| self.is_usable(offered) && self.is_adoptable(&held, offered, &self.known());
        let is_first = self.initial_access_digests.get().is_none();
        if may_adopt
            && !is_first
            && let Some(offered) = peers.filter(|offered| !self.is_usable(&held) && is_adoptable(offered))
        {
            return self.adopt(offered, Some(&held)).map(Some);
        }
        // If main can't be read, the decision under the lock says so.
        let needs_main = role == StoreRole::Own && !is_claimed && !self.is_usable(&held);
        let main_credential = match self.main.as_ref().filter(|_| needs_main) {
            Some(main) => main.read_unless_known(self.key.profile_id()).ok().and_then(Profile::oauth),
            None => None,
        };
        self.initial_access_digests
            .get_or_init(|| [access_digest(&held), main_credential.as_ref().and_then(access_digest)]);
        if self.is_usable(&held) {
            return Ok(Some(Served::Fresh(held)));
        }
        let mut offered = peers.filter(|_| is_first).into_iter().chain(&main_credential);
        match offered.find(|offered| may_adopt && is_adoptable(offered)) {
            Some(offered) => self.adopt(offered, Some(&held)).map(Some),
            None => Ok(None),
        }
    }

    /// Whether the journal holds something for the agent's store, which is a host's.
    fn has_receipt_for_own(&self) -> bool {
        self.own.is_hosted() && self.known().has_receipt_for(self.own.path())
    }

    /// The stored credential although it is about to expire, for a caller that can't wait; else the main store's, if the agent
    /// may adopt that. `None` if they have expired, or were rejected.
    pub fn unexpired(&self) -> Result<Option<Credential>> {
        let (role, held) = match self.found()? {
            StoredState::Absent | StoredState::Claimed(_, None) => return Ok(None),
            StoredState::Held(role, held) | StoredState::Claimed(role, Some(held)) => (role, held),
        };
        if self.is_good(&held) {
            return Ok(Some(held));
        }
        let main_credential = match self.main.as_ref().filter(|_| role == StoreRole::Own) {
            Some(main) => main.read(self.key.profile_id())?,
            None => return Ok(None),
        };
        let Some(main_credential) = main_credential.oauth() else { return Ok(None) };
        let may_have = self.is_good(&main_credential) && may_take(&held, &main_credential, &self.known());
        Ok(may_have.then_some(main_credential))
    }

    /// The same, where the stores can't be read: what this call saw there, else what this process saw in a host's store.
    #[must_use]
    pub fn last_seen(&self) -> Option<Credential> {
        let seen = self.last_read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        seen.or_else(|| self.last_seen_by_process()).filter(|seen| self.is_of_provider(seen) && self.is_good(seen))
    }

    /// The main store's only if the agent's own store was seen to lack the profile: it may be another account's.
    fn last_seen_by_process(&self) -> Option<Credential> {
        let profile_id = self.key.profile_id();
        match (self.own.last_seen(profile_id)?, &self.main) {
            (seen, Some(main)) if seen.is_absent() => main.last_seen(profile_id)?.oauth(),
            (seen, _) => seen.oauth(),
        }
    }

    /// Takes a credential over into the agent's own store, which it reads again under the store's lock; that it may replace `held` is
    /// known. It waits only briefly for that lock: the credential is durable where it comes from.
    pub(super) fn adopt(&self, offered: &Credential, held: Option<&Credential>) -> Result<Served> {
        let is_adoptable = |now: &Credential| held == Some(now) || self.is_adoptable(now, offered, &self.known());
        let adopted = |not_saved| Served::Adopted { credential: offered.clone(), not_saved, from_host: None };
        let saved = self.own.update_within(ADOPTION_PATIENCE, self.key.profile_id(), |now| match now {
            Profile::Oauth(now) if self.is_usable(&now) && self.is_of_provider(&now) => {
                (None, Some(Served::Fresh(now)))
            }
            Profile::Oauth(now) if is_adoptable(&now) => (Some(now.replaced_by(offered)), Some(adopted(None))),
            Profile::Claimed(_) => (None, Some(adopted(Some(self.own.is_claimed())))),
            Profile::Oauth(_) | Profile::NotOauth | Profile::Mistaken(_) => (None, None),
            Profile::NoStore | Profile::Missing => (None, Some(Served::Absent)),
        });
        match saved {
            Ok(Some(served)) => Ok(served),
            Ok(None) => Err(superseded(&self.own)),
            Err(error) => Ok(adopted(Some(error))),
        }
    }
}
