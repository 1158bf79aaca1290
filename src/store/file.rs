//! An agent's `auth-profiles.json`: read by anyone, written one profile at a time by whoever holds its lock.

use crate::clock::Clock;
use crate::credential::Credential;
use crate::digest::Digest;
use crate::disk::{self, Folder, OpenFile};
use crate::error::{Code, Error, Result};
use crate::lock::private_dir;
use crate::lock::{self, Guard, Target};
use crate::state_dir::canonical;
use crate::store::document::{Document, MISPLACED, Malformed};
use crate::store::place::{Place, Unsynced};
use crate::store::recent::{self, Glance, Stamp};
use crate::store::{Profile, StoreGuard, WRITE_PATIENCE};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The file's name in an agent's directory.
pub const STORE_FILE: &str = "auth-profiles.json";
/// Where OpenClaw 2026.6 and later keeps an agent's credentials instead.
const AGENT_DATABASE: &str = "openclaw-agent.sqlite";
/// And a state directory's.
const STATE_DATABASE: [&str; 2] = ["state", "openclaw.sqlite"];

/// A larger store is refused: 64 MiB. A thousand profiles take about one.
pub const MAX_STORE_BYTES: u64 = 64 << 20;

/// Older builds write in place, so a reader can meet a torn file: how often to look again, and how long to wait for it.
const TORN_READS: u32 = 4;
const TORN_PAUSE: Duration = Duration::from_millis(10);

/// One agent's store, as a file.
#[derive(Debug, Clone)]
pub struct FileStore {
    path: PathBuf,
    state_dir: PathBuf,
    clock: Arc<dyn Clock>,
    /// The lock that this store, or a clone of it, waits for now.
    awaited: Arc<Mutex<Option<Target>>>,
}

impl FileStore {
    /// The store in `agent_dir`. Its lock lies in the state directory, so that agents' directories stay clean.
    #[must_use]
    pub fn new(agent_dir: &Path, state_dir: &Path, clock: &Arc<dyn Clock>) -> Self {
        Self::at(&agent_dir.join(STORE_FILE), state_dir, clock)
    }

    /// The store whose file is `path`.
    #[must_use]
    pub fn at(path: &Path, state_dir: &Path, clock: &Arc<dyn Clock>) -> Self {
        let (path, state_dir, clock) = (path.to_owned(), state_dir.to_owned(), Arc::clone(clock));
        Self { path, state_dir, clock, awaited: Arc::default() }
    }

    /// The path of its file, symbolic links not followed.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses where OpenClaw keeps credentials in SQLite: a JSON store would block them. `looks_at_state` tells whether the state
    /// directory's database counts, or has been looked for.
    pub fn refuse_sqlite_era(&self, looks_at_state: bool) -> Result<()> {
        let refuse = |database: PathBuf| {
            let message = "OpenClaw keeps its credentials in SQLite here; pass the host's store as `store`, or use withOAuthProfileLock with OpenClaw's lock path as lockPath";
            Err(Error::at(Code::SqliteStore, &database, message))
        };
        let found = if looks_at_state { self.databases().next() } else { Some(self.database()).filter(is_there) };
        found.map_or(Ok(()), refuse)
    }

    /// The databases beside it, or of its state directory, that OpenClaw keeps credentials in.
    pub fn databases(&self) -> impl Iterator<Item = PathBuf> {
        let state = STATE_DATABASE.iter().fold(self.state_dir.clone(), |path, part| path.join(part));
        [self.database(), state].into_iter().filter(is_there)
    }

    fn database(&self) -> PathBuf {
        self.path.with_file_name(AGENT_DATABASE)
    }

    /// Reads one profile. A hint, unless the lock that matters is held.
    pub fn read(&self, profile_id: &str) -> Result<Profile> {
        let loaded = self.load()?;
        let profile = self.profile_in(loaded.as_ref().map(Loaded::document), profile_id)?;
        if let Some(stamp) = loaded.and_then(|loaded| loaded.stamp) {
            recent::remember(&self.path, profile_id, stamp, &profile);
        }
        Ok(profile)
    }

    /// What can be told of a profile without reading the file. Costs one `stat`.
    #[must_use]
    pub fn glance(&self, profile_id: &str) -> Glance {
        recent::glance(&self.path, profile_id)
    }

    /// All OAuth credentials in it, whatever their profile ids.
    pub fn credentials(&self) -> Result<Vec<Credential>> {
        let loaded = self.load()?;
        let profiles = loaded.iter().flat_map(|loaded| loaded.document.profiles());
        Ok(profiles.filter_map(Credential::from_profile).collect())
    }

    /// Refuses a store that can't be written, or not with a larger credential in it, before anything depends on it: what a
    /// write will do is tried.
    pub fn refuse_unwritable(&self) -> Result<()> {
        let place = self.place()?;
        self.refuse_closed_at(&place)?;
        self.lock_at(place, WRITE_PATIENCE)?.try_write()
    }

    /// The same, as far as that can be told without taking its lock.
    pub fn refuse_closed(&self) -> Result<()> {
        self.refuse_closed_at(&self.place()?)
    }

    fn refuse_closed_at(&self, Place { named, folder }: &Place) -> Result<()> {
        disk::refuse_closed(folder.as_ref(), &named.target).map_err(|error| self.unwritable(&error))
    }

    /// The file that a write replaces, unless it can't, or another user could change where that is.
    fn place(&self) -> Result<Place> {
        let named = disk::links(&self.path).map_err(|error| self.unreadable(&error))?;
        named.links.iter().try_for_each(|link| private_dir::check_link(link))?;
        let opened = named.target.parent().map(Folder::open).transpose();
        private_dir::check_store(&named.target, opened.as_ref().ok().and_then(Option::as_ref))?;
        let folder = match opened {
            Ok(folder) => folder,
            // It is missing, or may not be listed: then it is found by its path.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => None,
            Err(error) => return Err(self.unwritable(&error)),
        };
        named.refuse_pinned(folder.as_ref()).map_err(|error| self.unwritable(&error))?;
        Ok(Place { named, folder })
    }

    /// Takes the store's lock, for one read-modify-write. Never held across a provider call.
    pub fn lock(&self) -> Result<StoreGuard<'_>> {
        self.lock_within(WRITE_PATIENCE)
    }

    fn lock_within(&self, patience: Duration) -> Result<StoreGuard<'_>> {
        self.lock_at(self.place()?, patience)
    }

    fn lock_at(&self, mut place: Place, patience: Duration) -> Result<StoreGuard<'_>> {
        let (canonical_target, name) = self.names_of(&place);
        let lock = Target::file_operation(&self.lock_base(&canonical_target), &self.clock).beside(&name);
        let (lock, has_waited) = self.acquire(&lock, patience)?;
        if has_waited {
            // Another directory may have taken its place meanwhile, or another link, or the file has grown: that counts.
            place = self.place()?;
            if self.names_of(&place) != (canonical_target, name) {
                drop(lock);
                return self.lock_at(place, patience);
            }
        }
        // A file that a stuck writer has not put in place by now must never get there.
        for term in 0..lock.term() {
            disk::abandon_replacement(&place.named.target, term).map_err(|error| self.unwritable(&error))?;
        }
        Ok(StoreGuard { store: self, place, lock })
    }

    /// The paths of the file and of the store's name for it, without symbolic links: by these other programs know its lock.
    fn names_of(&self, place: &Place) -> (PathBuf, PathBuf) {
        let target = place.canonical();
        let name = if place.named.target == self.path { target.clone() } else { canonical(&self.path) };
        (target, name)
    }

    /// The lock, and whether it was taken.
    fn acquire(&self, lock: &Target, patience: Duration) -> Result<(Guard, bool)> {
        *self.awaited() = Some(lock.clone());
        let acquired = match lock::try_acquire(lock) {
            Ok(Some(lock)) => Ok((lock, false)),
            Ok(None) => lock::acquire_blocking(lock, patience).map(|lock| (lock, true)),
            Err(error) => Err(error),
        };
        *self.awaited() = None;
        acquired.map_err(|error| self.told(error))
    }

    fn awaited(&self) -> MutexGuard<'_, Option<Target>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to tell a caller that has waited in vain, if it waits for this store's lock.
    #[must_use]
    pub fn delay(&self) -> Option<Error> {
        let awaited = self.awaited().clone()?;
        Some(awaited.timed_out())
    }

    /// Takes the store's lock, with this patience, for one [`StoreGuard::update`], which [`Unsynced::sync`] makes durable; begins anew if
    /// this process was stuck and a peer has taken over, or another directory has taken this one's place.
    pub fn update_within<T>(
        &self,
        patience: Duration,
        profile_id: &str,
        change: impl Fn(Profile) -> (Option<Credential>, T),
    ) -> Result<(T, Unsynced)> {
        loop {
            let mut guard = self.lock_within(patience)?;
            match guard.update(profile_id, &change) {
                Err(_) if !guard.lock.is_current() || guard.has_moved() => {}
                done => return done.map(|answer| (answer, Unsynced::new(self, guard.place))),
            }
        }
    }

    /// Takes its lock, and takes a profile out: see [`StoreGuard::remove`].
    pub fn remove(&self, profile_id: &str, is_meant: impl Fn(&Profile) -> bool) -> Result<(bool, Unsynced)> {
        loop {
            let mut guard = self.lock()?;
            match guard.remove(profile_id, &is_meant) {
                Err(_) if !guard.lock.is_current() || guard.has_moved() => {}
                done => return done.map(|is_gone| (is_gone, Unsynced::new(self, guard.place))),
            }
        }
    }

    fn lock_base(&self, canonical: &Path) -> PathBuf {
        // Two names of one directory must come to one lock.
        let digest = Digest::of(&[canonical.as_os_str().as_encoded_bytes()]);
        self.state_dir.join("locks").join("auth-store").join(format!("sha256-{}", digest.to_hex()))
    }

    /// Reads all of it. `None` if there is no file.
    pub fn load(&self) -> Result<Option<Loaded>> {
        self.load_from(None, &self.path)
    }

    /// The same by another path to it.
    pub(super) fn load_from(&self, folder: Option<&Folder>, path: &Path) -> Result<Option<Loaded>> {
        let mut reads = 1;
        loop {
            let Some((file, found)) = self.open(folder, path)? else { return Ok(None) };
            // Both before it is read: a change since then shows.
            let stamp = Stamp::of(&found, SystemTime::now());
            match Document::parse(self.bytes(&file, found.len())?) {
                Ok(document) => return Ok(Some(Loaded { document, file: (file, found), stamp })),
                Err(_) if reads < TORN_READS => {
                    reads += 1;
                    std::thread::sleep(TORN_PAUSE);
                }
                Err(malformed) => return Err(self.invalid(&malformed)),
            }
        }
    }

    fn open(&self, folder: Option<&Folder>, path: &Path) -> Result<Option<OpenFile>> {
        let (file, found) = match disk::open_regular_in(folder, path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unreadable(&error)),
        };
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let (owner, user) = (found.uid(), crate::process::user());
            if owner != user {
                let message = format_args!(
                    "the credential store belongs to another user (uid {owner}, and this process has uid {user}); run as that \
                     user, or give it to this one"
                );
                return Err(Error::at(Code::StoreUnreadable, &self.path, message));
            }
        }
        Ok(Some((file, found)))
    }

    fn bytes(&self, file: &File, expected: u64) -> Result<Vec<u8>> {
        let bytes = disk::read(file, &self.path, expected, MAX_STORE_BYTES).map_err(|error| self.unreadable(&error))?;
        bytes.ok_or_else(|| {
            let limit = MAX_STORE_BYTES >> 20;
            Error::at(Code::StoreTooLarge, &self.path, format_args!("the credential store is larger than {limit} MiB"))
        })
    }

    /// What it holds for a profile, as [`Self::read`] would say.
    pub fn profile_in(&self, document: Option<&Document>, profile_id: &str) -> Result<Profile> {
        let Some(document) = document else { return Ok(Profile::NoStore) };
        match document.profile(profile_id).map_err(|malformed| self.invalid(&malformed))? {
            None if document.has_misplaced(profile_id) => Ok(Profile::Mistaken(MISPLACED)),
            profile => Ok(Profile::of(profile)),
        }
    }

    /// A lock file that can't be made beside the store means that the store can't be written.
    pub(super) fn told(&self, error: Error) -> Error {
        let is_beside = |path: &PathBuf| canonical(path).parent() == canonical(&self.path).parent();
        match error.code {
            Code::LockUnavailable if error.path.as_ref().is_some_and(is_beside) => {
                Error { code: Code::StoreUnwritable, ..error }
            }
            _ => error,
        }
    }

    fn unreadable(&self, error: &std::io::Error) -> Error {
        const ACTION: &str = "read the credential store";
        if self.path.is_dir() {
            let message = format_args!(
                "cannot {ACTION} (it is a directory; remove it: Docker makes one if the file to mount is missing)"
            );
            return Error::at(Code::StoreUnreadable, &self.path, message);
        }
        Error::io(Code::StoreUnreadable, ACTION, &self.path, error)
    }

    pub(super) fn unwritable(&self, error: &std::io::Error) -> Error {
        Error::io(Code::StoreUnwritable, "write the credential store", &self.path, error)
    }

    fn invalid(&self, Malformed(why): &Malformed) -> Error {
        let message = format_args!("the credential store is damaged ({why}); repair it or log in again");
        Error::at(Code::StoreInvalid, &self.path, message)
    }
}

/// A store's file as it was read.
#[derive(Debug)]
pub struct Loaded {
    pub(super) document: Document,
    pub(super) file: OpenFile,
    /// `None` if a change since might not show.
    stamp: Option<Stamp>,
}

impl Loaded {
    /// Its text.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }
}

fn is_there(path: &PathBuf) -> bool {
    fs::symlink_metadata(path).is_ok()
}
