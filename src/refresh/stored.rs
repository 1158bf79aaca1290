//! What a call's stores hold of its profile, and which of them holds it.

use super::Refresh;
use crate::credential::{Credential, mistake};
use crate::error::{Code, Error, Result};
use crate::store::{Profile, Store};
use std::path::Path;
use std::sync::PoisonError;

/// What the stores hold of the profile that a call is about.
pub(super) enum StoredState {
    Absent,
    Held(StoreRole, Credential),
    /// Another program is refreshing it. What is stored meanwhile.
    Claimed(StoreRole, Option<Credential>),
}

/// Which store holds the credential that a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreRole {
    Own,
    /// The agent's own store lacks the profile and inherits the main store's.
    Main,
}

impl Refresh {
    /// The credential that this call is about, and which store holds it. An error while another program refreshes it.
    pub(super) fn held(&self) -> Result<Option<(StoreRole, Credential)>> {
        match self.found()? {
            StoredState::Absent => Ok(None),
            StoredState::Held(role, held) => Ok(Some((role, held))),
            StoredState::Claimed(role, _) => Err(self.store_at(role).is_claimed()),
        }
    }

    pub(super) fn found(&self) -> Result<StoredState> {
        self.found_by(|store| store.read(self.key.profile_id()))
    }

    pub(super) fn found_by(&self, read: impl Fn(&Store) -> Result<Profile>) -> Result<StoredState> {
        let (role, profile) = match (read(&self.own)?, &self.main) {
            (profile, Some(main)) if profile.is_absent() => (StoreRole::Main, read(main)?),
            (profile, _) => (StoreRole::Own, profile),
        };
        let credential = match profile {
            Profile::Oauth(credential) => credential,
            Profile::Claimed(stored) => {
                let stored = stored.filter(|stored| self.is_of_provider(stored));
                self.note_read(stored.as_ref());
                return Ok(StoredState::Claimed(role, stored));
            }
            Profile::Mistaken(why) => {
                self.note_read(None);
                return Err(self.mistaken(role, Code::StoreInvalid, why));
            }
            Profile::NoStore | Profile::Missing | Profile::NotOauth => {
                self.note_read(None);
                return Ok(StoredState::Absent);
            }
        };
        if let Some(why) = mistake(credential.fields()) {
            let code = credential.provider().map_or(Code::ProviderMismatch, |_| Code::StoreInvalid);
            return Err(self.mistaken(role, code, why));
        }
        if self.is_of_provider(&credential) {
            self.note_read(Some(&credential));
            return Ok(StoredState::Held(role, credential));
        }
        let message = "the stored profile belongs to another provider than the call names; call with the provider that the store names";
        Err(Error::at(Code::ProviderMismatch, self.store_at(role).path(), message))
    }

    fn note_read(&self, held: Option<&Credential>) {
        *self.last_read.lock().unwrap_or_else(PoisonError::into_inner) = held.cloned();
    }

    /// The profile is there, but can't be used as a login.
    fn mistaken(&self, role: StoreRole, code: Code, why: &str) -> Error {
        let profile_id = self.key.profile_id().escape_debug();
        Error::at(code, self.store_at(role).path(), format_args!("the profile \"{profile_id}\" {why}"))
    }

    pub(super) fn store_at(&self, role: StoreRole) -> &Store {
        match (role, &self.main) {
            (StoreRole::Main, Some(main)) => main,
            _ => &self.own,
        }
    }

    /// The store that goes by this path in a journal.
    pub(super) fn store_of(&self, path: &Path) -> Store {
        let given = std::iter::once(&self.own).chain(&self.main).find(|given| given.path() == path);
        given.cloned().unwrap_or_else(|| Store::at(path, &self.state_dir, &self.clock))
    }
}
