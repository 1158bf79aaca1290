//! What the locks of a directory's file system are worth, found out at its first use.
//!
//! [`probe`] opens one file twice and locks both: the second must be refused. We do not judge a file system
//! by its name; the name is for messages, and for one case that no single host can test.
//!
//! | file system | what happens |
//! |---|---|
//! | ext, xfs, btrfs, f2fs, zfs, overlay; APFS, HFS+ | this host's kernel alone keeps the locks: nothing to tell |
//! | tmpfs | the same; what a journal there remembers ends with the boot |
//! | NFS, SMB, 9p, virtiofs and other FUSE, unknown | locks that pass the probe are used; a warning, since other hosts are excluded only as far as a server does it |
//! | any that grants two owners ([`Trust::Lies`]) or refuses the lock call ([`Trust::Refused`]) | a warning; the sidecar and the journal keep owners apart |
//! | read-only, or no right to write | refused: `lock_unavailable` |
//!
//! The probe does not find a file system that keeps two descriptors of one process apart and grants one lock to two virtual
//! machines.

use crate::disk;
use crate::error::Result;
use crate::lock::private_dir::{self, LockDirectory};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

mod file_system_type;
mod local;
pub use file_system_type::FileSystemType;
pub use local::{is_known_local, learn};

/// The file in a lock directory that is locked twice. It stays, as lock files do.
pub const PROBE_FILE: &str = "probe";

/// The lock calls of the operating system, or something in their place.
pub trait LockLayer {
    /// Takes the exclusive lock on an open file if it is free; `false` if another holder has it. Closing the file releases it.
    fn try_lock(&self, file: &File) -> io::Result<bool>;
}

/// What locks are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// They exclude other processes.
    Kernel,
    /// They are granted to two at a time.
    Lies,
    /// They are refused, with this errno if it has one: `ENOLCK`, `ENOTSUP`, `ENOSYS`, `EINVAL`, `EIO`, …
    Refused(Option<i32>),
}

/// What [`probe`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What locks in this directory are worth.
    pub trust: Trust,
    /// Where it lies; `None` where the operating system is not asked.
    pub file_system: Option<FileSystemType>,
    /// What to tell the user; each process is told once for each directory.
    pub warning: Option<Warning>,
}

/// What turned out since this was asked last: directories that can't be synced.
#[must_use]
pub fn take_warnings() -> Vec<Warning> {
    let warning = |path: PathBuf| {
        let message = format!(
            "a directory can't be synced (its file system can't, or this user may not read it), so a power cut may undo the last \
             write there; a directory of this user's on a local disk is safer: {}",
            path.display()
        );
        Warning { code: "directory_not_synced", message, path }
    };
    disk::take_unsynced().into_iter().map(warning).collect()
}

/// Something that people should know, although calls go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Its stable name: `lock_granted_twice`, `lock_refused`, `file_system_not_local` or `directory_not_synced`.
    pub code: &'static str,
    /// What was found, where, and what to do.
    pub message: String,
    /// The directory.
    pub path: PathBuf,
}

type Verdict = (Trust, Option<FileSystemType>);

/// Verdicts by directory and device, so that another file system that is mounted there is probed too.
static REMEMBERED: LazyLock<Mutex<HashMap<PathBuf, (u64, Verdict)>>> = LazyLock::new(Mutex::default);

/// Finds out what the locks of a checked directory are worth; at later calls in this process it knows.
///
/// The first call takes about ten file operations, and on a network file system it can hang as long as they can. An
/// error (`lock_unavailable`) is not remembered.
pub fn probe(path: &Path, directory: LockDirectory, layer: &dyn LockLayer) -> Result<Probe> {
    let known = remembered().get(path).copied();
    if let Some((device, (trust, file_system))) = known
        && device == directory.device
    {
        return Ok(Probe { trust, file_system, warning: None });
    }
    let file = path.join(PROBE_FILE);
    let first = private_dir::open(&file, directory)?;
    let second = private_dir::open(&file, directory)?;
    let verdict @ (trust, file_system) = (try_both(&first, &second, layer), FileSystemType::of(&first));
    // Other threads may have been probing at the same time; the first to know tells.
    let earlier = remembered().insert(path.to_owned(), (directory.device, verdict));
    let is_first = earlier.is_none_or(|(device, _)| device != directory.device);
    let warning = if is_first { warning(path, trust, file_system) } else { None };
    Ok(Probe { trust, file_system, warning })
}

/// Locks a file through two of its descriptors.
fn try_both(first: &File, second: &File, layer: &dyn LockLayer) -> Trust {
    for file in [first, second] {
        match try_lock(file, layer) {
            Ok(true) => {}
            // At the first try: another is probing, so this lock excludes.
            Ok(false) => return Trust::Kernel,
            Err(error) => return Trust::Refused(error.raw_os_error()),
        }
    }
    Trust::Lies
}

fn try_lock(file: &File, layer: &dyn LockLayer) -> io::Result<bool> {
    loop {
        match layer.try_lock(file) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            answer => return answer,
        }
    }
}

fn warning(path: &Path, trust: Trust, file_system: Option<FileSystemType>) -> Option<Warning> {
    const INSTEAD: &str = "lock files like those of OpenClaw's own lock, and the journal, keep owners apart instead; \
                           a state directory on a local disk is safer";
    let name = file_system.map_or(FileSystemType::UNKNOWN.name, |file_system| file_system.name);
    let name = if name == FileSystemType::UNKNOWN.name { "this file system" } else { name };
    let (code, finding) = match (trust, file_system) {
        (Trust::Lies, _) => ("lock_granted_twice", format!("{name} grants one lock to two owners: {INSTEAD}")),
        (Trust::Refused(errno), _) => {
            let why =
                errno.map_or_else(|| "no reason".to_owned(), |errno| io::Error::from_raw_os_error(errno).to_string());
            ("lock_refused", format!("{name} refuses locks ({why}): {INSTEAD}"))
        }
        (Trust::Kernel, Some(FileSystemType { is_local: false, .. })) => (
            "file_system_not_local",
            format!(
                "locks on {name} exclude this host's processes, but those of other hosts or virtual machines only as far as \
                 its server does; a state directory on a local disk, for one host alone, is safer"
            ),
        ),
        (Trust::Kernel, _) => return None,
    };
    Some(Warning { code, message: format!("{finding}: {}", path.display()), path: path.to_owned() })
}

fn remembered() -> std::sync::MutexGuard<'static, HashMap<PathBuf, (u64, Verdict)>> {
    REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: FileSystemType = FileSystemType { name: "xfs", is_local: true };
    const NFS: FileSystemType = FileSystemType { name: "nfs", is_local: false };

    fn code(trust: Trust, file_system: Option<FileSystemType>) -> Option<&'static str> {
        let warning = warning(Path::new("/locks"), trust, file_system)?;
        assert!(warning.message.contains("/locks"), "{warning:?}");
        assert!(file_system.is_none_or(|file_system| warning.message.contains(file_system.name)), "{warning:?}");
        Some(warning.code)
    }

    #[test]
    fn what_locks_are_worth_is_told_before_where_they_are_kept() {
        for file_system in [None, Some(DISK), Some(NFS)] {
            assert_eq!(code(Trust::Lies, file_system), Some("lock_granted_twice"));
            assert_eq!(code(Trust::Refused(Some(37)), file_system), Some("lock_refused"));
            assert_eq!(code(Trust::Refused(None), file_system), Some("lock_refused"));
        }
        assert_eq!(code(Trust::Kernel, Some(NFS)), Some("file_system_not_local"));
        assert_eq!(code(Trust::Kernel, Some(DISK)), None);
        assert_eq!(code(Trust::Kernel, None), None);
        let unknown = warning(Path::new("/locks"), Trust::Kernel, Some(FileSystemType::UNKNOWN)).expect("a warning");
        assert!(unknown.message.starts_with("locks on this file system"), "{unknown:?}");
    }
}
