//! Where a store is written, and what a power cut may undo there.

use super::file::FileStore;
use crate::disk::{self, Folder, Named};
use crate::error::Result;
use crate::state_dir::canonical;
use std::path::PathBuf;

/// Where a store is written.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) named: Named,
    /// The directory of the file, held open; `None` if it is not there yet.
    pub(super) folder: Option<Folder>,
}

/// A store's file that may have taken the place of another, which a power cut may bring back.
#[derive(Debug)]
pub struct Unsynced {
    store: FileStore,
    place: Place,
}

impl Unsynced {
    pub(super) fn new(store: &FileStore, place: Place) -> Self {
        Self { store: store.clone(), place }
    }

    /// Makes it durable. A directory that is gone needs nothing.
    pub fn sync(&self) -> Result<()> {
        let Place { named, folder } = &self.place;
        match folder.as_ref().map_or_else(|| disk::sync_parent(&named.target), Folder::sync) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(|error| self.store.unwritable(&error)),
        }
    }
}

impl Place {
    /// The path of the file, without symbolic links: by the directory that is held, which a write goes to.
    pub(super) fn canonical(&self) -> PathBuf {
        let target = &self.named.target;
        let real = self.folder.as_ref().and_then(|folder| folder.real_path().ok());
        real.zip(target.file_name()).map_or_else(|| canonical(target), |(real, name)| real.join(name))
    }
}
