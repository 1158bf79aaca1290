//! What can be seen of a state directory's keys from outside: who holds which, how far it is, what is in the way. For
//! people; nothing is changed and no secret is read.

use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::holder::Holder;
use crate::journal::Journal;
use crate::lock::{self, term};
use crate::process::{self, Process};
use crate::record::{FailureRecord, Record};
use crate::sidecar::Foreign;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A key as it looks now.
#[derive(Debug)]
pub struct KeyReport {
    /// Its lock base.
    pub lock_base: PathBuf,
    /// Its term: how often a peer has taken over from a stuck owner.
    pub term: u32,
    /// Who holds its lock; `None` if nobody does.
    pub holder: Option<Holder>,
    /// The holder's command, if it is a process of our PID namespace.
    pub command: Option<String>,
    /// How many processes and threads wait for its lock; `None` where that can't be told.
    pub waiters: Option<usize>,
    /// Who is in the way of our lock, or has left a lock file behind: the sidecar, if its process is not the holder.
    pub foreign: Option<(Foreign, bool)>,
    /// What its journal says; `None` if it has none, or `problem` says why it can't be read.
    pub record: Option<Record>,
    /// Why its journal can't be read.
    pub problem: Option<Error>,
    /// What a death has left that the next owner will clear away.
    pub debris: Vec<PathBuf>,
}

impl KeyReport {
    /// The failures that bind the next caller, with how many milliseconds are left of a pause.
    pub fn failures(&self, clock: &dyn Clock) -> impl Iterator<Item = (&FailureRecord, Option<f64>)> {
        let left = |failure: &FailureRecord| {
            let pause = failure.pause.as_ref().filter(|pause| pause.boot == clock.boot_id())?;
            Some(pause.until - clock.boot_ms()).filter(|left| *left > 0.0)
        };
        self.record.iter().flat_map(Record::failures).map(move |failure| (failure, left(failure)))
    }
}

/// Looks at every key in a lock directory. None if there is no such directory.
pub fn keys(directory: &Path) -> Result<Vec<KeyReport>> {
    let unreadable = |error: &io::Error| Error::io(Code::LockUnavailable, "list the locks", directory, error);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&error)),
    };
    let mut bases = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(&error))?;
        let name = entry.file_name();
        let is_key = name
            .to_str()
            .and_then(|name| name.strip_prefix("sha256-"))
            .is_some_and(|digest| digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if is_key {
            bases.push(entry.path());
        }
    }
    bases.sort();
    bases.iter().map(|base| key(base)).collect()
}

/// Looks at one key.
pub fn key(lock_base: &Path) -> Result<KeyReport> {
    let term = term::current(lock_base)?;
    let lock_file = term::lock_file(lock_base, term);
    let is_held = !lock::is_free(&lock_file)?;
    let holder = Holder::read(&lock_file).filter(|_| is_held);
    let is_ours = |holder: &&Holder| holder.pid_namespace == process::own_pid_namespace();
    let command = holder.as_ref().filter(is_ours).and_then(|holder| process::command(holder.pid));
    let sidecar = lock::sidecar_path(lock_base);
    let foreign = Foreign::at(&sidecar).filter(|found| !holder.as_ref().is_some_and(|holder| found.is_of(holder)));
    let foreign = foreign.map(|found| {
        let is_alive = found.pid.is_some_and(|pid| Process::of(pid) != Process::Dead);
        (found, is_alive)
    });
    let mut debris = Vec::new();
    if !is_held {
        let of_a_dead_one = foreign.as_ref().is_some_and(|(_, is_alive)| !is_alive);
        debris.extend(of_a_dead_one.then(|| sidecar.clone()));
        let beside = [".reclaim", ".tmp"].map(|suffix| with_suffix(&sidecar, suffix));
        debris.extend(beside.into_iter().filter(|path| fs::symlink_metadata(path).is_ok()));
    }
    let (record, problem) = match Journal::peek(&term::journal(lock_base, term)) {
        Ok(record) => (record, None),
        Err(error) => (None, Some(error)),
    };
    let waiters = waiters(&lock_file);
    Ok(KeyReport { lock_base: lock_base.to_owned(), term, holder, command, waiters, foreign, record, problem, debris })
}

/// How many wait for the kernel's lock on a file, as `/proc/locks` tells.
#[cfg(target_os = "linux")]
fn waiters(lock_file: &Path) -> Option<usize> {
    use std::os::unix::fs::MetadataExt;
    let inode = fs::metadata(lock_file).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // `1: -> FLOCK ADVISORY WRITE 4711 08:01:123456 0 EOF`; file systems may show another device than `stat` does.
    let waits = |line: &&str| {
        line.contains("-> FLOCK") && line.split_ascii_whitespace().any(|field| field.ends_with(&format!(":{inode}")))
    };
    Some(locks.lines().filter(waits).count())
}

#[cfg(not(target_os = "linux"))]
fn waiters(_lock_file: &Path) -> Option<usize> {
    None
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
