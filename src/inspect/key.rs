//! A key as it looks from outside.

use crate::credential::Generation;
use crate::digest::Digest;
use crate::disk::{self, Sharing};
use crate::error::{Code, Error, Result};
use crate::journal::Journal;
use crate::journal::record::{FailureRecord, Outcome, Progress, Record};
use crate::lock::holder::Holder;
use crate::lock::observe::Locks;
use crate::lock::sidecar::Foreign;
use crate::lock::{self, term};
use crate::process;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A key as it looks now.
#[derive(Debug)]
pub struct KeyReport {
    /// Its lock base.
    pub lock_base: PathBuf,
    /// Its provider and profile, as far as the lock's name or the journal tells; see [`crate::key::digest`].
    pub key: Option<Digest>,
    /// Its term: how often a peer has taken over from a stuck owner.
    pub term: u32,
    /// Whether a process holds its lock.
    pub is_held: bool,
    /// That process.
    pub holder: Option<Holder>,
    /// The holder's command, if it is a process of our PID namespace.
    pub command: Option<String>,
    /// How many processes and threads wait for its lock; `None` where that can't be told.
    pub waiters: Option<usize>,
    /// Another program's lock file in our way, and whether its process lives: a sidecar that neither the holder has published
    /// nor, dying, the one before it.
    pub foreign: Option<(Foreign, bool)>,
    /// What its journal says; `None` if it has none, or `problem` says why it can't be read.
    pub record: Option<Record>,
    /// What the journals of earlier terms say.
    pub earlier: Vec<Record>,
    /// The failures that bind the next caller; see [`super::Survey`].
    pub failures: Vec<FailureRecord>,
    /// Why it can't be used or looked at.
    pub problem: Option<Error>,
    /// Files that a dead process left, which the next owner removes.
    pub debris: Vec<PathBuf>,
}

/// What became of the last refresh of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastRefresh {
    /// None is on record.
    None,
    /// Its lock or journal can't be used.
    Unreadable,
    /// The provider is being asked.
    Asking,
    /// The provider has refused the refresh token for good.
    Dead,
    /// The provider has answered, and some store does not have it yet.
    Unsaved,
    /// Its owner died while it asked.
    CutOff,
    /// It is not known whether the provider used the refresh token.
    Uncertain,
    /// It failed, and left the refresh token unused.
    Failed,
    /// The stores have what the provider answered.
    Done,
}

impl LastRefresh {
    /// The outcome as JavaScript knows it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Unreadable => "unreadable",
            Self::Asking => "asking",
            Self::Dead => "dead",
            Self::Unsaved => "unsaved",
            Self::CutOff => "cut_off",
            Self::Uncertain => "uncertain",
            Self::Failed => "failed",
            Self::Done => "done",
        }
    }
}

impl KeyReport {
    /// Looks at one key.
    #[must_use]
    pub fn of(lock_base: &Path, sharing: Sharing, locks: &Locks) -> Self {
        let mut report = Self::empty(lock_base);
        report.problem = report.look(sharing, locks).err();
        let claim = report.record.as_ref().and_then(|record| record.claim.as_ref());
        report.key = named_key(lock_base).or_else(|| claim.map(|claim| claim.key));
        report
    }

    fn empty(lock_base: &Path) -> Self {
        Self {
            lock_base: lock_base.to_owned(),
            key: None,
            term: 0,
            is_held: false,
            holder: None,
            command: None,
            waiters: None,
            foreign: None,
            record: None,
            earlier: Vec::new(),
            failures: Vec::new(),
            problem: None,
            debris: Vec::new(),
        }
    }

    /// Fills in what can be seen, up to what can't.
    fn look(&mut self, sharing: Sharing, locks: &Locks) -> Result<()> {
        self.term = term::current(&self.lock_base)?;
        let seen = locks.look(&term::lock_file(&self.lock_base, self.term), sharing);
        let journals = self.read_journals();
        let sight = seen?;
        self.is_held = sight.is_held;
        self.waiters = sight.waiters;
        self.look_beside(sight.signed.as_ref());
        self.holder = sight.signed.filter(|_| sight.is_held);
        let here = self.holder.as_ref().filter(|holder| holder.pid_namespace == process::own_pid_namespace());
        self.command = here.and_then(|holder| process::command(holder.pid));
        journals
    }

    fn read_journals(&mut self) -> Result<()> {
        for term in 0..=self.term {
            let record = peek(&term::journal(&self.lock_base, term))?;
            if term == self.term {
                self.record = record;
            } else {
                self.earlier.extend(record);
            }
        }
        Ok(())
    }

    /// Looks at the sidecar and what is left of others. `signed`: the last process that had the lock.
    fn look_beside(&mut self, signed: Option<&Holder>) {
        let sidecar = lock::sidecar_path(&self.lock_base);
        let beside = [".reclaim", ".tmp"].map(|suffix| disk::with_suffix(&sidecar, suffix));
        let found = Foreign::at(&sidecar).map(|found| {
            let is_alive = found.is_alive();
            let is_ours = signed.is_some_and(|signed| found.is_of(signed)) && (self.is_held || !is_alive);
            (found, is_alive, is_ours)
        });
        if !self.is_held {
            let is_left = found.as_ref().is_some_and(|(_, is_alive, _)| !is_alive);
            self.debris.extend(is_left.then_some(sidecar));
            self.debris.extend(beside.into_iter().filter(|path| fs::symlink_metadata(path).is_ok()));
        }
        self.foreign = found.filter(|(.., is_ours)| !is_ours).map(|(found, is_alive, _)| (found, is_alive));
    }

    /// What may be gone in a moment: with what tells it from another of that name.
    fn passing(&self) -> Vec<(PathBuf, Option<disk::Identity>)> {
        let sidecar = self.foreign.is_some().then(|| lock::sidecar_path(&self.lock_base));
        let paths: BTreeSet<_> = self.debris.iter().cloned().chain(sidecar).collect();
        paths.into_iter().map(|path| (path.clone(), disk::identity_of(&path))).collect()
    }

    /// What of `passing` is still there, by another look.
    fn lasting(mut self, passing: &[(PathBuf, Option<disk::Identity>)]) -> Self {
        let has_stayed = |path: &Path| {
            let seen = passing.iter().find(|(seen, _)| seen == path);
            seen.is_some_and(|(_, seen)| seen.is_some() && *seen == disk::identity_of(path))
        };
        self.debris.retain(|path| has_stayed(path));
        self.foreign = self.foreign.filter(|_| has_stayed(&lock::sidecar_path(&self.lock_base)));
        self
    }

    /// All records, the current one last.
    pub fn records(&self) -> impl Iterator<Item = &Record> + Clone {
        self.earlier.iter().chain(&self.record)
    }

    /// All records, without the call that is under way.
    pub(super) fn settled_records(&self) -> impl Iterator<Item = Record> {
        let current = self.record.clone().map(|record| if self.is_held { record.idle() } else { record });
        self.earlier.iter().cloned().chain(current)
    }

    /// The refresh tokens that its journals have failures of, or that a call was under way with.
    pub(super) fn generations(&self) -> Vec<Generation> {
        let claimed = self.records().filter_map(|record| record.claim.as_ref()).map(|claim| claim.origin.generation);
        let failed = self.records().flat_map(Record::failures).map(|failure| failure.generation);
        failed.chain(claimed).collect()
    }

    /// What became of the last refresh.
    #[must_use]
    pub fn last_refresh(&self) -> LastRefresh {
        let state = state(self.record.as_ref());
        let has = |is: fn(&Outcome) -> bool| self.failures.iter().any(|failure| is(&failure.outcome));
        match state {
            _ if self.problem.is_some() => LastRefresh::Unreadable,
            Progress::Dispatched if self.is_held => LastRefresh::Asking,
            _ if has(|outcome| matches!(outcome, Outcome::Dead { .. })) => LastRefresh::Dead,
            _ if !self.waiting_stores().is_empty() => LastRefresh::Unsaved,
            Progress::Dispatched if has(|outcome| *outcome == Outcome::Uncertain) => LastRefresh::CutOff,
            _ if has(|outcome| *outcome == Outcome::Uncertain) => LastRefresh::Uncertain,
            _ if !self.failures.is_empty() => LastRefresh::Failed,
            Progress::Committed => LastRefresh::Done,
            _ => LastRefresh::None,
        }
    }

    /// The stores that received credentials wait for. While the lock is held they are on their way.
    #[must_use]
    pub fn waiting_stores(&self) -> Vec<&Path> {
        let receipts = self.record.iter().filter(|_| !self.is_held).flat_map(Record::waiting);
        receipts.filter(|receipt| !receipt.superseded).map(|receipt| receipt.origin.store.as_path()).collect()
    }

    /// Every store that its journals name.
    pub fn named_stores(&self) -> BTreeSet<&Path> {
        let claimed =
            self.records().filter_map(|record| record.claim.as_ref()).map(|claim| claim.origin.store.as_path());
        self.records().flat_map(Record::stores).chain(claimed).collect()
    }
}

/// Looks at every key in a lock directory; at what a living owner may just be making or removing, twice. None if there is no
/// such directory.
pub fn keys(directory: &Path, sharing: Sharing) -> Result<Vec<KeyReport>> {
    let bases = bases(directory)?;
    let locks = Locks::now();
    let mut reports: Vec<_> = bases.iter().map(|base| KeyReport::of(base, sharing, &locks)).collect();
    let passing: Vec<_> = reports.iter().map(KeyReport::passing).collect();
    if passing.iter().any(|passing| !passing.is_empty()) {
        std::thread::sleep(super::PASSING);
        let locks = Locks::now();
        for (report, passing) in reports.iter_mut().zip(&passing).filter(|(_, passing)| !passing.is_empty()) {
            *report = KeyReport::of(&report.lock_base, sharing, &locks).lasting(passing);
        }
    }
    Ok(reports)
}

fn bases(directory: &Path) -> Result<BTreeSet<PathBuf>> {
    let unreadable = |error: &io::Error| Error::io(Code::LockUnavailable, "list the locks", directory, error);
    let mut bases = BTreeSet::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(bases),
        // A fault in a directory above it is reported for that directory.
        Err(_) if matches!(disk::exists(directory), Ok(false)) => return Ok(bases),
        Err(error) => return Err(unreadable(&error)),
    };
    for entry in entries {
        let name = entry.map_err(|error| unreadable(&error))?.file_name();
        bases.extend(name.to_str().and_then(base_of).map(|base| directory.join(base)));
    }
    Ok(bases)
}

/// The name of the lock base that a file belongs to: ours, or from OpenClaw 2026.6.11 on the host's.
fn base_of(name: &str) -> Option<&str> {
    let base = name.split_once('.').map_or(name, |(base, _)| base);
    let is_hex = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_key = base.strip_prefix("sha256-").is_some_and(|digest| is_hex(digest, 64))
        || base.strip_prefix("lock-").is_some_and(|digest| is_hex(digest, 32));
    is_key.then_some(base)
}

fn named_key(lock_base: &Path) -> Option<Digest> {
    Digest::from_hex(lock_base.file_name()?.to_str()?.strip_prefix("sha256-")?)
}

/// Reads a journal, if it is one that its key's owner would use.
fn peek(journal: &Path) -> Result<Option<Record>> {
    let is_there =
        disk::exists(journal).map_err(|error| Error::io(Code::JournalUnusable, "use the journal", journal, &error))?;
    if is_there && !disk::is_own_file(journal) {
        return Err(Error::at(Code::JournalUnusable, journal, "the journal is not a file, or belongs to another user"));
    }
    Journal::peek(journal)
}

/// What the journal says of the last refresh; `None` if it says nothing.
#[must_use]
pub fn state(record: Option<&Record>) -> Progress {
    record.map_or(Progress::Idle, |record| record.state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_belong_to_the_keys_that_they_are_named_after() {
        let ours = format!("sha256-{}", "a".repeat(64));
        let hosts = format!("lock-{}", "b".repeat(32));
        for base in [&ours, &hosts] {
            for suffix in ["", ".lock", ".lock.tmp", ".lock.reclaim", ".journal", ".t1", ".t1.journal"] {
                assert_eq!(base_of(&format!("{base}{suffix}")), Some(base.as_str()), "{suffix}");
            }
        }
        for other in ["claims", "probe", "claims.lock", "sha256-abc", "lock-", &ours[..70], &format!("{hosts}0")] {
            assert_eq!(base_of(other), None, "{other}");
        }
    }
}
