//! What can be seen of a state directory from outside: each lock's holder, how far it is, what the stores hold, what is in
//! the way. For people; no exclusive lock is tried, nothing is made or changed, and no secret leaves the [`Survey`].
//!
//! Every verdict is that of the code that a call would run: of [`crate::lock::private_dir`] on directories, of
//! [`crate::store::FileStore`] on stores, of [`crate::refresh::verdict`] and [`crate::refresh::relation`] on refresh tokens.

pub mod key;
pub mod stores;

pub use key::KeyReport;
pub use stores::{Login, StoreReport, SuccessorState};

use crate::clock::Clock;
use crate::credential::Generation;
use crate::disk::permissions::{self, Exposed};
use crate::disk::{self, Sharing};
use crate::error::Error;
use crate::journal::ledger::Ledger;
use crate::journal::record::{FailureRecord, Record};
use crate::lock::file_system::FileSystemType;
use crate::lock::private_dir::{self, Passage};
use crate::refresh::relation::replacement;
use crate::refresh::verdict::Verdict;
use crate::refresh::{DEFAULT_REFRESH_MARGIN_MS, access_digest, margin_ms};
use crate::state_dir::canonical;
use crate::store::{self, STORE_FILE, is_hosted_path};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// No file that a living process makes and removes again is there for so long.
const PASSING: Duration = Duration::from_millis(50);

/// A state directory as it looks now.
///
/// Its stores are those of the agents under it, the main agent's, and those that journals name. An agent elsewhere whose store
/// no journal names, and a lock path in another directory, are not seen.
#[derive(Debug)]
pub struct Survey {
    /// Whether there is anything at its path.
    pub exists: bool,
    /// Where it lies; `None` if the operating system does not tell.
    pub file_system: Option<FileSystemType>,
    /// Why its lock directories can't be used.
    pub refused: Vec<Error>,
    /// Directories that everyone may write to and that are used all the same, by which rule: on the way to locks and stores.
    pub passed: BTreeMap<PathBuf, Passage>,
    /// Why its locks, or its agents, can't be listed.
    pub unlisted: Vec<Error>,
    /// Its stores.
    pub stores: Vec<StoreReport>,
    /// Its keys, each with the failures that bind the next caller: of generations that a store holds, or may hold because it
    /// can't be looked into.
    pub keys: Vec<KeyReport>,
    /// What other users may look at, and whether [`permissions::close`] would get to it.
    pub exposed: Vec<(PathBuf, Exposed, bool)>,
    /// When files were written last, by path: stores, and the files beside locks.
    pub written: Vec<(PathBuf, f64)>,
}

impl Survey {
    /// Looks around.
    #[must_use]
    pub fn of(state_dir: &Path, main_agent_dir: &Path, clock: &Arc<dyn Clock>) -> Self {
        let exists = fs::symlink_metadata(state_dir).is_ok();
        let locks = state_dir.join("locks");
        let directories = [locks.join("oauth-refresh"), locks.join("auth-store")];
        let verdicts = directories.each_ref().map(|directory| {
            // Where nothing is, nothing is wrong yet.
            if exists { private_dir::look(directory) } else { Ok(None) }
        });
        let sharing = verdicts[0].as_ref().ok().copied().flatten().map_or(Sharing::Private, |found| found.sharing);
        let mut unlisted = Vec::new();
        let keys = key::keys(&directories[0], sharing).map_err(|error| unlisted.push(error)).unwrap_or_default();
        let agents = store::in_state_dir(state_dir).map_err(|error| unlisted.push(error)).unwrap_or_default();
        let paths = store_paths(agents, &keys, state_dir, main_agent_dir);
        let mut survey = Self {
            exists,
            file_system: File::open(state_dir).ok().and_then(|directory| FileSystemType::of(&directory)),
            refused: verdicts.into_iter().filter_map(Result::err).collect(),
            passed: BTreeMap::new(),
            unlisted,
            stores: stores::look(paths, state_dir, clock),
            keys,
            exposed: Vec::new(),
            written: Vec::new(),
        };
        if exists {
            survey.note_passed(&directories);
        }
        survey.judge(&**clock);
        survey.look_at_files(state_dir, &directories[0], sharing);
        survey
    }

    fn note_passed(&mut self, directories: &[PathBuf]) {
        let stores = self.stores.iter().filter_map(|store| store.path.parent());
        let passed = stores.chain(directories.iter().map(PathBuf::as_path)).flat_map(private_dir::passed);
        let mut passed: BTreeMap<_, _> = passed.collect();
        let trusted: Vec<_> =
            passed.iter().filter(|(_, why)| **why == Passage::Trusted).map(|(path, _)| path.clone()).collect();
        let is_below = |path: &Path| trusted.iter().any(|volume| path != volume && path.starts_with(volume));
        // The operator's word for a directory goes for all below it.
        passed.retain(|path, _| !is_below(path));
        self.passed = passed;
    }

    /// Whether the operator says that no other user gets there.
    fn is_trusted(&self, path: &Path) -> bool {
        let path = canonical(path);
        self.passed.iter().any(|(volume, why)| *why == Passage::Trusted && path.starts_with(volume))
    }

    fn records(&self) -> impl Iterator<Item = &Record> + Clone {
        self.keys.iter().flat_map(KeyReport::records)
    }

    /// What the next call will meet, by that call's own rules: for every key the failures that bind it, for every login the time
    /// from which on it is refreshed, and what becomes of a refresh token that was used before.
    fn judge(&mut self, clock: &dyn Clock) {
        // A call under way has not failed.
        let known: Vec<_> = self.keys.iter().flat_map(KeyReport::settled_records).collect();
        let lineage = Ledger::union(known.iter().map(|record| &record.ledger));
        let failure_of = |generation: Generation| FailureRecord::among(known.iter(), generation, clock);
        let lifetime_ms = |access| known.iter().find_map(|record| record.lifetime_ms(access));
        let judge = |store, login: &Login| {
            let held = &login.credential;
            let margin_ms = margin_ms(held, access_digest(held).and_then(lifetime_ms), DEFAULT_REFRESH_MARGIN_MS);
            let generation = held.generation();
            let verdict = Verdict::of(lineage.is_spent(generation), failure_of(generation).as_ref(), clock);
            let is_dead = |generation| failure_of(generation).is_some_and(|failure| failure.is_dead());
            let spent = (verdict == Verdict::Spent).then(|| self.spent(&lineage, is_dead, store, login)).flatten();
            (held.expires().map(|expires| expires - margin_ms), spent)
        };
        let logins = self.stores.iter().flat_map(|store| store.logins.iter().map(move |login| (store, login)));
        let verdicts: Vec<_> = logins.map(|(store, login)| judge(store, login)).collect();
        let failures: Vec<_> = self.keys.iter().map(|key| self.failures(key, failure_of)).collect();
        for (login, verdict) in self.stores.iter_mut().flat_map(|store| &mut store.logins).zip(verdicts) {
            (login.refresh_at, login.spent) = verdict;
        }
        self.keys.iter_mut().zip(failures).for_each(|(key, failures)| key.failures = failures);
    }

    /// `None` for an old copy in the store of an agent that has not called since the last refresh (every fleet has
    /// some). A store restored from a backup was written after that refresh, and is reported.
    fn spent(
        &self,
        lineage: &Ledger,
        is_dead: impl Fn(Generation) -> bool,
        store: &StoreReport,
        login: &Login,
    ) -> Option<SuccessorState> {
        let held = &login.credential;
        let stored = self.stores.iter().flat_map(StoreReport::credentials).cloned();
        let received = self.records().flat_map(Record::receipts).filter_map(|receipt| receipt.credential.open());
        let mut of_main = self.stores.iter().filter(|other| other.is_main).flat_map(|main| &main.logins);
        let main_credential = of_main.find(|main| main.profile_id == login.profile_id).map(|main| &main.credential);
        if replacement(held, lineage, is_dead, stored.chain(received), main_credential).is_none() {
            return Some(SuccessorState::Lost);
        }
        let knowing = self.records().filter(|record| record.ledger.is_spent(held.generation()));
        let claimed = knowing.filter_map(|record| Some(record.claim.as_ref()?.at)).reduce(f64::max);
        let is_copy = store.changed.zip(claimed).is_some_and(|(changed, claimed)| changed < claimed);
        (!is_copy).then_some(SuccessorState::Replaced)
    }

    /// Failures of refresh tokens that a login has replaced bind no caller. A store that can't be looked into may hold any token.
    fn failures(
        &self,
        key: &KeyReport,
        failure_of: impl Fn(Generation) -> Option<FailureRecord>,
    ) -> Vec<FailureRecord> {
        let is_unreadable = |path: &Path| {
            let is_it = |store: &StoreReport| store.unreadable.is_some() && canonical(&store.path) == canonical(path);
            is_hosted_path(path) || self.stores.iter().any(is_it)
        };
        let has_hidden = key.named_stores().into_iter().any(is_unreadable);
        let logins = || self.stores.iter().flat_map(|store| &store.logins);
        let is_held = |generation: &Generation| logins().any(|login| login.credential.generation() == *generation);
        let of_key = logins().filter(|login| Some(login.key()) == key.key).map(|login| login.credential.generation());
        let on_record = key.generations().into_iter().filter(|generation| has_hidden || is_held(generation));
        let generations: BTreeSet<_> = of_key.chain(on_record).collect();
        let mut failures: Vec<_> = generations.into_iter().filter_map(failure_of).collect();
        failures.sort_by(|one, other| one.at.total_cmp(&other.at));
        failures
    }

    /// Looks which files other users may read, and which are dated in the future.
    fn look_at_files(&mut self, state_dir: &Path, lock_directory: &Path, sharing: Sharing) {
        let mut paths = Vec::new();
        for store in self.stores.iter().filter(|store| fs::symlink_metadata(&store.path).is_ok()) {
            paths.extend(store.path.parent().map(Path::to_owned));
            paths.extend([store.path.clone(), disk::temporary_beside(&store.path, 0)]);
            self.written.extend(written(&store.path));
        }
        let entries = fs::read_dir(lock_directory).into_iter().flatten().flatten();
        // OpenClaw's lock files hold no secret, and its first releases make them for everybody to read.
        let is_permanent = |path: &PathBuf| path.extension().is_none_or(|extension| extension != "lock");
        let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(is_permanent).filter(is_file).collect();
        files.sort();
        self.written.extend(files.iter().filter_map(|path| written(path)));
        // Files that root gave to a group are meant to be read by it.
        if sharing == Sharing::Private && fs::symlink_metadata(lock_directory).is_ok_and(|found| found.is_dir()) {
            paths.push(lock_directory.to_owned());
            paths.extend(files);
        }
        let look = |path: PathBuf| {
            let found = permissions::look(&path)?;
            let can_close = permissions::can_close(state_dir, &path);
            Some((path, found, can_close))
        };
        paths.retain(|path| !self.is_trusted(path));
        self.exposed = paths.into_iter().filter_map(look).collect();
    }
}

/// The paths of all stores, and which is the main store. With the main agent elsewhere, no agent uses the directory that is its own
/// otherwise, unless a journal says so.
fn store_paths(
    agents: Vec<PathBuf>,
    keys: &[KeyReport],
    state_dir: &Path,
    main_agent_dir: &Path,
) -> Vec<(PathBuf, bool)> {
    let main = main_agent_dir.join(STORE_FILE);
    let main_path = canonical(&main);
    let named: BTreeSet<_> =
        keys.iter().flat_map(KeyReport::named_stores).filter(|path| !is_hosted_path(path)).collect();
    let usual = state_dir.join("agents").join("main").join("agent").join(STORE_FILE);
    let is_used = |path: &PathBuf| *path != usual || canonical(path) == main_path || named.contains(path.as_path());
    let agents = agents.into_iter().filter(is_used);
    let all = agents.chain([main.clone()]).chain(named.iter().map(|path| (*path).to_owned()));
    let marked = all.map(|path| {
        let is_main = canonical(&path) == main_path;
        (path, is_main)
    });
    marked.collect()
}

#[allow(clippy::ptr_arg, reason = "it filters paths")]
fn is_file(path: &PathBuf) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

fn written(path: &Path) -> Option<(PathBuf, f64)> {
    let at = stores::since_epoch_ms(fs::metadata(path).ok()?.modified().ok()?)?;
    Some((path.to_owned(), at))
}
