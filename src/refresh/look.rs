//! What a caller is served without the key's lock.

use super::{Refresh, Served, StoreRole, StoredState, access_digest, margin_ms, may_take, superseded};
use crate::credential::Credential;
use crate::error::Result;
use crate::store::{ADOPTION_PATIENCE, Profile, Recent};
use std::sync::{Arc, PoisonError};
use zeroize::Zeroizing;

impl Refresh {
    /// What [`Self::look`] would find, if nothing needs to be read for it: a usable credential, in a store that shows no change
    /// since this process read it.
    #[must_use]
    pub fn glance(&self) -> Option<Arc<Recent>> {
        if self.force || self.refuse_sqlite_era().is_err() {
            return None;
        }
        let profile_id = self.key.profile_id();
        let recent = match (self.own.recent(profile_id), &self.main) {
            (Some(own), Some(main)) if own.profile.is_absent() => main.recent(profile_id)?,
            (Some(own), _) => own,
            (None, Some(main)) if self.own.is_missing() => main.recent(profile_id)?,
            (None, _) => return None,
        };
        let held = recent.profile.as_oauth()?;
        let now_ms = self.clock.now_ms();
        let is_usable =
            held.is_usable(now_ms, self.margin_ms) || held.is_usable(now_ms, margin_ms(held, None, self.margin_ms));
        (is_usable && self.is_of_provider(held) && !self.is_rejected(held)).then_some(recent)
    }

    /// Tries without the lock: the stored credential, then what a peer in this process just got, then the main store's.
    ///
    /// `None` means that the lock is needed.
    pub fn look(&self, peers: Option<&Credential>) -> Result<Option<Served>> {
        self.note_last_commit();
        let (role, held, is_claimed) = match self.found()? {
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
        // Only a hint here: if main can't be read, the decision under the lock says so.
        let needs_main = role == StoreRole::Own && !is_claimed && !self.is_usable(&held);
        let main_credential = match self.main.as_ref().filter(|_| needs_main) {
            Some(main) => main.read(self.key.profile_id()).ok().and_then(Profile::oauth),
            None => None,
        };
        self.initial_access_digests
            .get_or_init(|| [access_digest(&held), main_credential.as_ref().and_then(access_digest)]);
        if self.is_usable(&held) {
            return Ok(Some(Served::Fresh(held)));
        }
        if role == StoreRole::Main || is_claimed || self.own.is_held() {
            return Ok(None);
        }
        // Most have nothing to adopt, and need no journal to know.
        let offered = peers.into_iter().chain(&main_credential).filter(|offered| self.is_usable(offered));
        for offered in offered {
            if self.is_adoptable(&held, offered, &self.known()) {
                return self.adopt(offered).map(Some);
            }
        }
        Ok(None)
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

    /// Takes a credential over into the agent's own store, which it reads again under the store's lock. It waits only
    /// briefly for that lock: the credential is durable where it comes from.
    pub(super) fn adopt(&self, offered: &Credential) -> Result<Served> {
        let adopted = |not_saved| Served::Adopted { credential: offered.clone(), not_saved };
        let saved = self.own.update_within(ADOPTION_PATIENCE, self.key.profile_id(), |now| match now {
            Profile::Oauth(now) if self.is_usable(&now) && self.is_of_provider(&now) => {
                (None, Some(Served::Fresh(now)))
            }
            Profile::Oauth(now) if self.is_adoptable(&now, offered, &self.known()) => {
                (Some(now.replaced_by(offered)), Some(adopted(None)))
            }
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
