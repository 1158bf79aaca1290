//! The right to write an `auth-profiles.json`, one profile at a time.

use super::Profile;
use super::file::{FileStore, Loaded, MAX_STORE_BYTES};
use super::place::Place;
use crate::credential::Credential;
use crate::credential::fields::Fields;
use crate::disk::{self, Readers, Replaced};
use crate::error::{Code, Error, Result};
use crate::journal::MAX_CREDENTIAL_BYTES;
use crate::lock::{Guard, Recheck};
use crate::store::document::Document;

/// A store grows by no more than this when one of its credentials is replaced: each member stands on a line of its own.
const MAX_GROWTH_BYTES: u64 = 3 * MAX_CREDENTIAL_BYTES as u64;

/// The right to write a store.
#[derive(Debug)]
pub struct StoreGuard<'a> {
    pub(super) store: &'a FileStore,
    pub(super) place: Place,
    pub(super) lock: Guard,
}

impl StoreGuard<'_> {
    /// Reads one profile, decides with `change` what becomes of it, and writes that, leaving every other byte of the file as it was;
    /// then makes sure that it is there. `None` from `change` writes nothing.
    pub fn update<T>(
        &mut self,
        profile_id: &str,
        change: impl FnOnce(Profile) -> (Option<Credential>, T),
    ) -> Result<T> {
        let loaded = self.load()?;
        let profile = self.store.profile_in(loaded.as_ref().map(Loaded::document), profile_id)?;
        let (new, answer) = change(profile);
        if let Some(new) = new {
            let written = self.write(loaded, profile_id, Some(new.members()))?;
            if !written.is_at(self.store.path()) && self.store.read(profile_id)? != Profile::Oauth(new) {
                return Err(self.not_kept());
            }
        }
        Ok(answer)
    }

    /// Takes a profile out, if it is what is meant, leaving every other byte of the file as it was. Says whether it was there.
    pub fn remove(&mut self, profile_id: &str, is_meant: impl FnOnce(&Profile) -> bool) -> Result<bool> {
        let loaded = self.load()?;
        let profile = self.store.profile_in(loaded.as_ref().map(Loaded::document), profile_id)?;
        if !is_meant(&profile) {
            return Ok(false);
        }
        let written = self.write(loaded, profile_id, None)?;
        if !written.is_at(self.store.path()) && !self.store.read(profile_id)?.is_absent() {
            return Err(self.not_kept());
        }
        Ok(true)
    }

    fn not_kept(&self) -> Error {
        let message = "the credential store did not keep what was written; is another program writing it?";
        Error::at(Code::StoreUnwritable, self.store.path(), message)
    }

    /// What there is to replace.
    fn load(&self) -> Result<Option<Loaded>> {
        self.store.load_from(self.place.folder.as_ref(), &self.place.named.target)
    }

    /// Whether the directory of the file is another one by now.
    pub(super) fn has_moved(&self) -> bool {
        self.place.folder.as_ref().is_some_and(|folder| !folder.is_in_place())
    }

    /// Tries what [`Self::write`] will do, as far as that leaves no trace.
    pub(super) fn try_write(&self) -> Result<()> {
        let Place { named, folder } = &self.place;
        let needed = named.length() + MAX_GROWTH_BYTES;
        if needed > MAX_STORE_BYTES {
            return Err(self.too_large());
        }
        let tried = disk::try_replace(folder.as_ref(), &named.target, self.lock.term(), needed);
        tried.map_err(|error| self.store.unwritable(&error))
    }

    fn too_large(&self) -> Error {
        let message = format_args!(
            "with another credential the credential store could be larger than {} MiB; see what has grown in it",
            MAX_STORE_BYTES >> 20
        );
        Error::at(Code::StoreTooLarge, self.store.path(), message)
    }

    /// `None` takes the profile out.
    fn write(&mut self, loaded: Option<Loaded>, profile_id: &str, profile: Option<&Fields>) -> Result<Replaced> {
        if loaded.is_none()
            && let Some(parent) = self.place.named.target.parent()
        {
            disk::create_private_dirs(parent).map_err(|error| self.store.unwritable(&error))?;
        }
        let loaded = match self.lock.recheck_sidecar().map_err(|error| self.store.told(error))? {
            Recheck::Kept => Some(loaded),
            Recheck::Renewed => Some(self.load()?).filter(|now| document(now.as_ref()) == document(loaded.as_ref())),
            Recheck::Lost => None,
        };
        let Some(loaded) = loaded else {
            let message = "another program is writing the credential store";
            return Err(Error::at(Code::StoreUnwritable, self.store.path(), message));
        };
        let (document, replaced) = loaded.map(|loaded| (loaded.document, loaded.file)).unzip();
        // On Windows a file that is open can't be replaced everywhere.
        let replaced = replaced.filter(|_| cfg!(unix));
        let document = document.unwrap_or_else(Document::empty);
        // The file's maker decided which users may read its old contents, not a profile that is new in it.
        let readers = if document.has_profile(profile_id) { Readers::Kept } else { Readers::OwnerAlone };
        let text = match profile {
            Some(profile) => document.with_profile(profile_id, profile),
            None => document.without_profile(profile_id),
        };
        if text.len() as u64 > MAX_STORE_BYTES {
            // It could never be read again.
            return Err(self.too_large());
        }
        let may_go_on = || self.lock.is_current();
        let Place { named, folder } = &self.place;
        let (folder, term) = (folder.as_ref(), self.lock.term());
        disk::replace_in(folder, &named.target, replaced, term, text.as_bytes(), readers, may_go_on)
            .map_err(|error| self.store.unwritable(&error))
    }
}

fn document(loaded: Option<&Loaded>) -> Option<&Document> {
    loaded.map(Loaded::document)
}
