//! Terms of a lock: how a peer takes over from an owner that is alive but stuck.
//!
//! The kernel lock of a stopped process can't be taken from it. So the lock moves on to another file: term 0 is the lock
//! file itself, term n is `<base>.t<n>`. A term has begun when its journal exists, `<base>.t<n>.journal`; a process that finds its
//! predecessor's owner stuck creates it, and then stands in line for the new lock like any other. The highest term that has
//! begun is the current one. Each term has its own journal, so a stuck owner that wakes up writes where no other does.
//!
//! An owner that has written down that it will ask the provider looks here once more before it asks; a process that begins a term
//! reads what the earlier ones wrote down after it has begun. So at least one of the two sees the other.

use crate::disk;
use crate::error::{Code, Error, Result};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The lock file of a term.
#[must_use]
pub fn lock_file(base: &Path, term: u32) -> PathBuf {
    if term == 0 { base.to_owned() } else { disk::with_suffix(base, &format!(".t{term}")) }
}

/// The journal of a term. Its existence is the term's beginning; term 0 needs none.
#[must_use]
pub fn journal(base: &Path, term: u32) -> PathBuf {
    disk::with_suffix(&lock_file(base, term), ".journal")
}

/// So many locks are remembered: more than most processes use.
const MAX_REMEMBERED: usize = 1024;

/// The locks whose first term was the current one when this process looked last.
static IN_FIRST_TERM: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The term that a process may try first: the current one, or an earlier one. It looks before it goes on, as one does that has
/// slept since it looked.
pub(super) fn supposed(base: &Path) -> Result<u32> {
    if in_first_term().contains(base) {
        return Ok(0);
    }
    let term = current(base)?;
    if term == 0 {
        let mut known = in_first_term();
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(base.to_owned());
    }
    Ok(term)
}

/// The current term, if it is a later one than this, which was tried in vain.
pub(super) fn later(base: &Path, tried: u32) -> Result<Option<u32>> {
    let now = current(base)?;
    if now > 0 {
        in_first_term().remove(base);
    }
    Ok((now > tried).then_some(now))
}

fn in_first_term() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    IN_FIRST_TERM.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The current term.
pub fn current(base: &Path) -> Result<u32> {
    let mut term = 0;
    while has_begun(base, term + 1)? {
        term += 1;
    }
    Ok(term)
}

/// Whether a term has begun.
pub fn has_begun(base: &Path, term: u32) -> Result<bool> {
    if term == 0 {
        return Ok(true);
    }
    let journal = journal(base, term);
    disk::exists(&journal).map_err(|error| unusable(&journal, &error))
}

/// Begins a term, unless it has begun.
pub(super) fn begin(base: &Path, term: u32) -> Result<()> {
    let journal = journal(base, term);
    disk::create_once(&journal).map_err(|error| unusable(&journal, &error))
}

/// The lock base and term that a lock file belongs to.
#[must_use]
pub fn of_lock_file(lock_file: &Path) -> (PathBuf, u32) {
    let term = lock_file.extension().and_then(|extension| extension.to_str()?.strip_prefix('t')?.parse().ok());
    match term {
        Some(term) => (lock_file.with_extension(""), term),
        None => (lock_file.to_owned(), 0),
    }
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    Error::io(Code::LockUnavailable, "use the lock's directory", path, error)
}
