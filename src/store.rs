//! Where credentials are kept: OpenClaw's files, or whatever a host keeps them in.

use crate::clock::Clock;
use crate::credential::fields::Fields;
use crate::credential::{Credential, mistake};
use crate::error::{Code, Error, Result};
use crate::lock::file_system;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod agents;
pub mod document;
mod file;
mod guard;
mod host;
mod place;
mod recent;
pub use agents::in_state_dir;
pub use file::{FileStore, Loaded, MAX_STORE_BYTES, STORE_FILE};
pub use guard::StoreGuard;
pub use host::{HostStore, Hosted, NoAnswer, is_path as is_hosted_path};
pub use place::Unsynced;
pub use recent::{Glance, Recent};

/// How long a writer waits for another that is writing the same file. A write takes milliseconds; this is longer than it
/// takes to take over from a writer that is stuck.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);
/// How long a caller waits to take over what another store holds already, and can be served without.
pub const ADOPTION_PATIENCE: Duration = Duration::from_secs(5);

/// One store.
#[derive(Debug, Clone)]
pub enum Store {
    /// An `auth-profiles.json`.
    File(FileStore),
    /// A host's own.
    Host(Hosted),
    /// A host's own, that this caller was not given: to it, it has vanished.
    Elsewhere(PathBuf),
}

/// What a store holds for one profile.
#[derive(Debug, Clone, PartialEq)]
pub enum Profile {
    /// No store.
    NoStore,
    /// No such profile in it.
    Missing,
    /// An API key or a token: not ours to touch.
    NotOauth,
    /// A login written wrongly, and why. We leave it as it is.
    Mistaken(&'static str),
    /// Another program is refreshing it, and says so: to be waited for. What is stored meanwhile.
    Claimed(Option<Credential>),
    /// A credential.
    Oauth(Credential),
}

impl Profile {
    /// Whether the store holds nothing for it.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::NoStore | Self::Missing)
    }

    /// The credential, if it is one that is not being refreshed by another program.
    #[must_use]
    pub fn oauth(self) -> Option<Credential> {
        match self {
            Self::Oauth(credential) => Some(credential),
            _ => None,
        }
    }

    /// See [`Self::oauth`].
    #[must_use]
    pub fn as_oauth(&self) -> Option<&Credential> {
        match self {
            Self::Oauth(credential) => Some(credential),
            _ => None,
        }
    }

    fn of(fields: Option<Fields>) -> Self {
        let Some(fields) = fields else { return Self::Missing };
        let instead = mistake(fields.values()).map_or(Self::NotOauth, Self::Mistaken);
        Credential::from_profile(fields).map_or(instead, Self::Oauth)
    }
}

impl From<FileStore> for Store {
    fn from(store: FileStore) -> Self {
        Self::File(store)
    }
}

impl From<Hosted> for Store {
    fn from(store: Hosted) -> Self {
        Self::Host(store)
    }
}

impl Store {
    /// The store that goes by this path in a journal, for one that the caller was not given.
    #[must_use]
    pub fn at(path: &Path, state_dir: &Path, clock: &Arc<dyn Clock>) -> Self {
        if host::is_path(path) {
            return Self::Elsewhere(path.to_owned());
        }
        FileStore::at(path, state_dir, clock).into()
    }

    /// What it goes by: the path of its file, symbolic links not followed, or [`Hosted::path`].
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::File(file) => file.path(),
            Self::Host(host) => host.path(),
            Self::Elsewhere(path) => path,
        }
    }

    /// Refuses where OpenClaw keeps credentials in SQLite: see [`FileStore::refuse_sqlite_era`].
    pub fn refuse_sqlite_era(&self, looks_at_state: bool) -> Result<()> {
        match self {
            Self::File(file) => file.refuse_sqlite_era(looks_at_state),
            Self::Host(_) | Self::Elsewhere(_) => Ok(()),
        }
    }

    /// Reads one profile. A hint, unless the lock that matters is held.
    pub fn read(&self, profile_id: &str) -> Result<Profile> {
        match self {
            Self::File(file) => file.read(profile_id),
            Self::Host(host) => host.read(profile_id),
            Self::Elsewhere(_) => Ok(Profile::NoStore),
        }
    }

    /// The same, but a local file that shows no change since this process read it is not read again.
    pub fn read_unless_known(&self, profile_id: &str) -> Result<Profile> {
        let may_be_known = recent::knows(self.path(), profile_id) && file_system::is_known_local(self.path());
        match may_be_known.then(|| self.glance(profile_id)) {
            Some(Glance::Unchanged(recent)) => Ok(recent.profile.clone()),
            _ => self.read(profile_id),
        }
    }

    /// What can be told of a profile without reading the file. A host's store has to be asked.
    #[must_use]
    pub fn glance(&self, profile_id: &str) -> Glance {
        match self {
            Self::File(file) => file.glance(profile_id),
            Self::Host(_) | Self::Elsewhere(_) => Glance::Unknown,
        }
    }

    /// What to tell a caller that has waited in vain, if it waits for this file's lock.
    #[must_use]
    pub fn delay(&self) -> Option<Error> {
        match self {
            Self::File(file) => file.delay(),
            Self::Host(_) | Self::Elsewhere(_) => None,
        }
    }

    /// What a host's store was last seen to hold by this process, for when it does not answer.
    #[must_use]
    pub fn last_seen(&self, profile_id: &str) -> Option<Profile> {
        match self {
            Self::Host(host) => host.last_seen(profile_id),
            Self::File(_) | Self::Elsewhere(_) => None,
        }
    }

    /// Whether a host keeps it, and may take any time to answer.
    #[must_use]
    pub fn is_hosted(&self) -> bool {
        matches!(self, Self::Host(_))
    }

    /// Whether only a holder of its owner's own lock may write it: see [`HostStore::is_held`].
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Host(host) if host.is_held())
    }

    /// Whether what was written to it survives a power cut: see [`HostStore::is_durable`].
    #[must_use]
    pub fn is_durable(&self) -> bool {
        !matches!(self, Self::Host(host) if !host.is_durable())
    }

    /// That another program is refreshing what it holds: see [`Profile::Claimed`].
    #[must_use]
    pub fn is_claimed(&self) -> Error {
        let message = "another program is refreshing this login, as its store says; callers wait until it has finished";
        Error::at(Code::StoreBusy, self.path(), message)
    }

    /// The OAuth credentials in a file, whatever their profile ids. A host's store is not asked.
    pub fn credentials_in_file(&self) -> Result<Vec<Credential>> {
        match self {
            Self::File(file) => file.credentials(),
            Self::Host(_) | Self::Elsewhere(_) => Ok(Vec::new()),
        }
    }

    /// Refuses a store that can't be written, before anything depends on it, by trying. A host's can't be tried.
    pub fn refuse_unwritable(&self) -> Result<()> {
        match self {
            Self::File(file) => file.refuse_unwritable(),
            Self::Host(_) | Self::Elsewhere(_) => Ok(()),
        }
    }

    /// Reads one profile, decides with `change` what becomes of it, and writes that; then makes sure that it is there. `None`
    /// from `change` writes nothing. Asked again if another process writes meanwhile. Until [`Unsynced::sync`] a power cut may leave
    /// what was there before; a host's store is as durable as its host makes it.
    pub fn update<T>(
        &self,
        profile_id: &str,
        change: impl Fn(Profile) -> (Option<Credential>, T),
    ) -> Result<(T, Option<Unsynced>)> {
        match self {
            Self::File(file) => {
                let (answer, unsynced) = file.update_within(WRITE_PATIENCE, profile_id, change)?;
                Ok((answer, Some(unsynced)))
            }
            Self::Host(_) | Self::Elsewhere(_) => {
                self.update_within(WRITE_PATIENCE, profile_id, change).map(|answer| (answer, None))
            }
        }
    }

    /// The same, with this patience for a file's lock, and not to be made durable.
    pub fn update_within<T>(
        &self,
        patience: Duration,
        profile_id: &str,
        change: impl Fn(Profile) -> (Option<Credential>, T),
    ) -> Result<T> {
        match self {
            Self::File(file) => file.update_within(patience, profile_id, change).map(|(answer, _)| answer),
            Self::Host(host) => host.update(profile_id, change),
            // A write into it has to wait for a caller that has it.
            Self::Elsewhere(_) => match change(Profile::NoStore) {
                (None, answer) => Ok(answer),
                (Some(_), _) => Err(host::elsewhere(self.path())),
            },
        }
    }
}
