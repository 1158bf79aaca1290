//! What this process last read of stores, for callers while a file is unchanged.
//!
//! A file that was replaced has another inode, one that was written in place another `ctime`. That has steps of some
//! milliseconds, so a file that had just been changed when it was read is not remembered: a second change in the same step
//! would not show.

use super::Profile;
use std::collections::HashMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
#[cfg(unix)]
use std::time::Duration;
use std::time::SystemTime;
use zeroize::Zeroizing;

/// So many profiles are remembered. Few processes serve more.
const MAX_REMEMBERED: usize = 256;
/// Longer than any step of a file system's timestamps that could hide a change.
#[cfg(unix)]
const STEP: Duration = Duration::from_millis(100);

/// A profile as it was read.
pub struct Recent {
    stamp: Stamp,
    /// What the store held.
    pub profile: Profile,
    /// The credential's text, if it is one.
    pub json: Option<Zeroizing<String>>,
}

type Remembered = HashMap<PathBuf, HashMap<String, Arc<Recent>>>;

static REMEMBERED: LazyLock<Mutex<Remembered>> = LazyLock::new(Mutex::default);

pub(super) fn remember(path: &Path, profile_id: &str, stamp: Stamp, profile: &Profile) {
    let json = match profile {
        Profile::Oauth(credential) => Some(Zeroizing::new(credential.to_json())),
        _ => None,
    };
    let recent = Arc::new(Recent { stamp, profile: profile.clone(), json });
    let mut remembered = remembered();
    if remembered.values().map(HashMap::len).sum::<usize>() >= MAX_REMEMBERED {
        remembered.clear();
    }
    remembered.entry(path.to_owned()).or_default().insert(profile_id.to_owned(), recent);
}

/// A host's store has no file to look at: this is what it held when it was asked last.
pub(super) fn remember_hosted(path: &Path, profile_id: &str, profile: &Profile) {
    remember(path, profile_id, Stamp::NONE, profile);
}

pub(super) fn recall_hosted(path: &Path, profile_id: &str) -> Option<Profile> {
    Some(remembered().get(path)?.get(profile_id)?.profile.clone())
}

/// Whether this process has read the profile, and may still know it.
pub(super) fn knows(path: &Path, profile_id: &str) -> bool {
    remembered().get(path).is_some_and(|profiles| profiles.contains_key(profile_id))
}

/// What can be told of a profile without reading its store.
pub enum Glance {
    /// There is no store.
    NoStore,
    /// The file shows no change since this process read it.
    Unchanged(Arc<Recent>),
    /// Nothing.
    Unknown,
}

pub(super) fn glance(path: &Path, profile_id: &str) -> Glance {
    let recent = remembered().get(path).and_then(|profiles| profiles.get(profile_id)).map(Arc::clone);
    match (std::fs::metadata(path), recent) {
        (Ok(found), Some(recent)) if Stamp::new(&found) == Some(recent.stamp) => Glance::Unchanged(recent),
        (Err(error), _) if error.kind() == std::io::ErrorKind::NotFound => Glance::NoStore,
        _ => Glance::Unknown,
    }
}

fn remembered() -> MutexGuard<'static, Remembered> {
    REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All of a file's metadata that tells of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64, u64),
    changed: (i64, i64),
    modified: (i64, i64),
}

impl Stamp {
    /// The stamp where there is no file.
    const NONE: Self = Self { file: (0, 0, 0), changed: (0, 0), modified: (0, 0) };

    /// `None` if a change after `now` might not show.
    #[cfg(unix)]
    pub(super) fn of(found: &Metadata, now: SystemTime) -> Option<Self> {
        let stamp = Self::new(found)?;
        let (seconds, nanoseconds) = stamp.changed;
        let since_epoch = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?);
        let age = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.checked_sub(since_epoch)?;
        (age >= STEP).then_some(stamp)
    }

    #[cfg(unix)]
    #[allow(clippy::unnecessary_wraps, reason = "there is none elsewhere")]
    fn new(found: &Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        Some(Self {
            file: (found.dev(), found.ino(), found.size()),
            changed: (found.ctime(), found.ctime_nsec()),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }

    #[cfg(not(unix))]
    pub(super) fn of(_found: &Metadata, _now: SystemTime) -> Option<Self> {
        None
    }

    #[cfg(not(unix))]
    fn new(_found: &Metadata) -> Option<Self> {
        None
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "files are made by hand")]

    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_file_that_may_change_without_a_trace_is_not_remembered() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store");
        fs::write(&path, "1").expect("written");
        let found = fs::metadata(&path).expect("there");
        let (seconds, nanoseconds) = (found.ctime().cast_unsigned(), found.ctime_nsec());
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, u32::try_from(nanoseconds).expect("a part"));
        let just_before = Duration::from_nanos(1);
        assert_eq!(Stamp::of(&found, changed), None);
        assert_eq!(Stamp::of(&found, changed - STEP), None);
        assert_eq!(Stamp::of(&found, changed + STEP - just_before), None);
        assert_eq!(Stamp::of(&found, changed + STEP), Stamp::new(&found));
        assert!(Stamp::new(&found).is_some());
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store");
        fs::write(&path, "{}").expect("written");
        let stamp = Stamp::new(&fs::metadata(&path).expect("there")).expect("a stamp");
        let is_remembered = |number: usize| matches!(glance(&path, &number.to_string()), Glance::Unchanged(_));
        for number in 0..=MAX_REMEMBERED {
            remember(&path, &number.to_string(), stamp, &Profile::Missing);
            assert!(is_remembered(number));
        }
        let left = (0..=MAX_REMEMBERED).filter(|number| is_remembered(*number)).count();
        assert!(left <= MAX_REMEMBERED);
        fs::write(&path, "{ }").expect("written");
        assert!(!is_remembered(MAX_REMEMBERED));
    }
}
