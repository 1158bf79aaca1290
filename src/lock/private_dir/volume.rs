//! Directories that everyone may write to, and that a container's user can't change: volumes.
//!
//! Another user can put a directory or a link of theirs in the place of ours, in such a directory. We check what we open, and see
//! whose it is; but theirs could be there between the check and the opening only. So we use such a directory only where no
//! other user is there to do that.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What the operator says no other user can get to.
static TRUSTED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Lets everyone write to this directory and to those below it, in this process from now on: the operator says that no other
/// user can get there.
pub fn trust(volume: &Path) {
    let mut trusted = TRUSTED.lock().unwrap_or_else(PoisonError::into_inner);
    if !trusted.iter().any(|known| known == volume) {
        trusted.push(volume.to_owned());
    }
}

/// Whether a real path is that of a trusted volume, or lies below it.
pub(super) fn is_trusted(directory: &Path) -> bool {
    let trusted = TRUSTED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    trusted.iter().any(|volume| volume.canonicalize().is_ok_and(|volume| directory.starts_with(volume)))
}

/// Whether every process that is at work here is this user's or root's. `false` where that can't be told: elsewhere than on
/// Linux, without `/proc`, or where it hides other users' processes.
pub(super) fn is_alone(user: u32) -> bool {
    let Some(processes) = processes() else { return false };
    // One that is always there and that only a hidden `/proc` lacks.
    processes.contains(&1) && processes.into_iter().all(|pid| belongs_to(pid, user))
}

fn processes() -> Option<Vec<u32>> {
    let listed = std::fs::read_dir("/proc").ok()?;
    let names = listed.map(|entry| Some(entry.ok()?.file_name())).collect::<Option<Vec<_>>>()?;
    Some(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
}

/// By its real, effective, saved and file system user. A process that has ended meanwhile counts for none.
fn belongs_to(pid: u32, user: u32) -> bool {
    let status = match std::fs::read(format!("/proc/{pid}/status")) {
        Ok(status) => status,
        Err(error) => return has_ended(&error),
    };
    let status = String::from_utf8_lossy(&status);
    let Some(users) = status.lines().find_map(|line| line.strip_prefix("Uid:")) else { return false };
    users.split_whitespace().all(|number| number.parse() == Ok(user) || number == "0")
}

fn has_ended(error: &std::io::Error) -> bool {
    let gone = rustix::io::Errno::SRCH.raw_os_error();
    error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(gone)
}
