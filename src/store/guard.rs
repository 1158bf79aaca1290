//! The right to write an `auth-profiles.json`, one profile at a time.

use super::Profile;
use super::file::{FileStore, Loaded, MAX_STORE_BYTES};
use crate::credential::Credential;
use crate::credential::fields::Fields;
use crate::disk::{self, Readers, Replaced};
use crate::error::{Code, Error, Result};
use crate::journal::MAX_CREDENTIAL_BYTES;
use crate::lock::{Guard, Recheck};
use crate::store::document::Document;
use std::fs;
use std::path::PathBuf;

/// A store grows by no more than this when one of its credentials is replaced: each member stands on a line of its own.
const MAX_GROWTH_BYTES: u64 = 3 * MAX_CREDENTIAL_BYTES as u64;

/// The right to write a store.
#[derive(Debug)]
pub struct StoreGuard<'a> {
    pub(super) store: &'a FileStore,
    pub(super) target: PathBuf,
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
        let loaded = self.store.load()?;
        let profile = self.store.profile_in(loaded.as_ref().map(Loaded::document), profile_id)?;
        let (new, answer) = change(profile);
        if let Some(new) = new {
            let written = self.write(loaded, profile_id, new.members())?;
            if !written.is_at(self.store.path()) && self.store.read(profile_id)? != Profile::Oauth(new) {
                let message = "the credential store did not keep what was written; is another program writing it?";
                return Err(Error::at(Code::StoreUnwritable, self.store.path(), message));
            }
        }
        Ok(answer)
    }

    /// Tries what [`Self::write`] will do, as far as that leaves no trace.
    pub(super) fn try_write(&self) -> Result<()> {
        let length = fs::metadata(&self.target).map_or(0, |found| found.len());
        let needed = length + MAX_GROWTH_BYTES;
        if needed > MAX_STORE_BYTES {
            return Err(self.too_large());
        }
        disk::try_replace(&self.target, self.lock.term(), needed).map_err(|error| self.store.unwritable(&error))
    }

    fn too_large(&self) -> Error {
        let message = format_args!(
            "with another credential the credential store could be larger than {} MiB; see what has grown in it",
            MAX_STORE_BYTES >> 20
        );
        Error::at(Code::StoreTooLarge, self.store.path(), message)
    }

    fn write(&mut self, loaded: Option<Loaded>, profile_id: &str, profile: &Fields) -> Result<Replaced> {
        if loaded.is_none()
            && let Some(parent) = self.target.parent()
        {
            disk::create_private_dirs(parent).map_err(|error| self.store.unwritable(&error))?;
        }
        let loaded = match self.lock.recheck_sidecar().map_err(|error| self.store.told(error))? {
            Recheck::Kept => Some(loaded),
            Recheck::Renewed => {
                Some(self.store.load()?).filter(|now| document(now.as_ref()) == document(loaded.as_ref()))
            }
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
        let text = document.with_profile(profile_id, profile);
        if text.len() as u64 > MAX_STORE_BYTES {
            // It could never be read again.
            return Err(self.too_large());
        }
        let may_go_on = || self.lock.is_current();
        disk::replace(&self.target, replaced.as_ref(), self.lock.term(), text.as_bytes(), readers, may_go_on)
            .map_err(|error| self.store.unwritable(&error))
    }
}

fn document(loaded: Option<&Loaded>) -> Option<&Document> {
    loaded.map(Loaded::document)
}
