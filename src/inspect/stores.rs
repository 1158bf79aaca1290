//! An agent's store as its calls would find it: the verdicts are those of [`FileStore`] itself.

use crate::clock::Clock;
use crate::credential::{Credential, mistake};
use crate::digest::Digest;
use crate::disk::{self, Identity};
use crate::error::Error;
use crate::key;
use crate::lock::sidecar::Foreign;
use crate::state_dir::canonical;
use crate::store::{FileStore, Loaded, Profile};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// A store.
#[derive(Debug)]
pub struct StoreReport {
    /// Where it is, or would be.
    pub path: PathBuf,
    /// Whether it is the main agent's.
    pub is_main: bool,
    /// Its OAuth logins.
    pub logins: Vec<Login>,
    /// Logins that are written wrongly, by id, and why: calls for these are refused.
    pub malformed: Vec<(String, String)>,
    /// Why no call can read it.
    pub unreadable: Option<Error>,
    /// Why nothing can be written to it.
    pub unwritable: Option<Error>,
    /// Databases that OpenClaw keeps credentials in instead.
    pub databases: Vec<PathBuf>,
    /// Files that a dead process left beside it.
    pub debris: Vec<PathBuf>,
    /// Whether it is a symbolic link to nothing: no call finds a login there.
    pub is_dangling: bool,
    /// How many names its file has (hard links): a refresh gives the new contents to this one alone.
    pub names: u64,
    /// When it was changed last, in milliseconds since the epoch, by a clock that copying does not set back.
    pub changed: Option<f64>,
}

/// An OAuth login in a store.
#[derive(Debug)]
pub struct Login {
    /// The profile's id.
    pub profile_id: String,
    /// Its provider.
    pub provider: String,
    /// What the store holds.
    pub credential: Credential,
    /// From when on a call refreshes it, in milliseconds since the epoch; `None` if its expiry is not an instant.
    pub refresh_at: Option<f64>,
    /// What is known of its refresh token, if that was sent before.
    pub spent: Option<SuccessorState>,
}

/// A refresh token that was used before, and is not sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuccessorState {
    /// What came after it is not to be found: a call would be refused.
    Lost,
    /// What came after it takes its place at the next call.
    Replaced,
}

impl StoreReport {
    /// Looks at a store.
    #[must_use]
    pub fn of(path: &Path, state_dir: &Path, is_main: bool, clock: &Arc<dyn Clock>) -> Self {
        let store = FileStore::at(path, state_dir, clock);
        let (mut logins, mut malformed) = (Vec::new(), Vec::new());
        let loaded = store.load();
        if let Ok(Some(document)) = loaded.as_ref().map(|file| file.as_ref().map(Loaded::document)) {
            for id in document.profile_ids().into_iter().chain(document.misplaced_ids()) {
                match store.profile_in(Some(document), id) {
                    Ok(Profile::Oauth(credential)) => match mistake(credential.fields()) {
                        Some(why) => malformed.push((id.to_owned(), why.to_owned())),
                        None => logins.extend(Login::of(id, credential)),
                    },
                    Ok(Profile::Mistaken(why)) => malformed.push((id.to_owned(), why.to_owned())),
                    Ok(_) => {}
                    Err(_) => malformed.push((id.to_owned(), "is not an object".to_owned())),
                }
            }
        }
        let is_there = matches!(&loaded, Ok(Some(_)));
        Self {
            path: path.to_owned(),
            is_main,
            unwritable: store.refuse_closed().err().filter(|_| is_there),
            unreadable: loaded.err(),
            logins,
            malformed,
            databases: store.databases().collect(),
            debris: debris(path),
            is_dangling: fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) && !path.exists(),
            names: names(path),
            changed: changed(path),
        }
    }

    /// All credentials in it.
    pub fn credentials(&self) -> impl Iterator<Item = &Credential> {
        self.logins.iter().map(|login| &login.credential)
    }
}

impl Login {
    fn of(profile_id: &str, credential: Credential) -> Option<Self> {
        let provider = credential.provider()?.to_owned();
        Some(Self { profile_id: profile_id.to_owned(), provider, credential, refresh_at: None, spent: None })
    }

    /// See [`crate::key::digest`].
    #[must_use]
    pub fn key(&self) -> Digest {
        key::digest(&self.provider, &self.profile_id)
    }
}

/// Looks at these stores, each once by whatever names it goes; at what a living writer may just be making, twice.
#[must_use]
pub fn look(paths: Vec<(PathBuf, bool)>, state_dir: &Path, clock: &Arc<dyn Clock>) -> Vec<StoreReport> {
    let mut known = BTreeSet::new();
    let mut reports: Vec<_> = paths
        .into_iter()
        .filter(|(path, _)| known.insert(canonical(path)))
        .map(|(path, is_main)| StoreReport::of(&path, state_dir, is_main, clock))
        .collect();
    let seen: Vec<Vec<Option<Identity>>> =
        reports.iter().map(|report| report.debris.iter().map(|path| disk::identity_of(path)).collect()).collect();
    if seen.iter().any(|seen| !seen.is_empty()) {
        std::thread::sleep(super::PASSING);
        for (report, seen) in reports.iter_mut().zip(seen) {
            let mut seen = seen.into_iter();
            report
                .debris
                .retain(|path| seen.next().flatten().is_some_and(|seen| disk::identity_of(path) == Some(seen)));
        }
    }
    reports
}

fn debris(path: &Path) -> Vec<PathBuf> {
    let target = disk::follow_links(path).unwrap_or_else(|_| path.to_owned());
    let sidecar = crate::lock::sidecar_path(&canonical(path));
    let is_left = Foreign::at(&sidecar).is_some_and(|found| found.pid.is_some() && !found.is_alive());
    let temporary = disk::temporary_beside(&target, 0);
    let has_temporary = disk::exists(&temporary).unwrap_or(false);
    is_left.then_some(sidecar).into_iter().chain(has_temporary.then_some(temporary)).collect()
}

fn names(path: &Path) -> u64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).ok().filter(fs::Metadata::is_file).map_or(1, |found| found.nlink())
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        1
    }
}

fn changed(path: &Path) -> Option<f64> {
    let found = fs::metadata(path).ok()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        #[allow(clippy::cast_precision_loss, reason = "an instant has fewer digits")]
        Some(found.ctime() as f64 * 1000.0 + found.ctime_nsec() as f64 / 1_000_000.0)
    }
    #[cfg(not(unix))]
    since_epoch_ms(found.modified().ok()?)
}

/// In milliseconds since the epoch.
pub(super) fn since_epoch_ms(at: SystemTime) -> Option<f64> {
    Some(at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64() * 1000.0)
}
