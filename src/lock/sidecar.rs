//! The lock file that OpenClaw's own lock understands: `<base>.lock`, and `auth-profiles.json.lock` beside a store.
//!
//! OpenClaw excludes by the existence of this file. We hold it beside the kernel's lock, in the form of its latest
//! releases, and wait for theirs:
//!
//! ```text
//! {
//!   "pid": 4711,
//!   "createdAt": "2026-11-23T20:15:00.000Z",
//!   "starttime": 123456
//! }
//! <8 tabs, then 128 tabs and spaces: which of its process's locks it is>
//! ```
//!
//! It appears complete, by `renameat2(2)` or `link(2)`: the first releases take a file without a valid `createdAt` for stale. On a
//! local disk its file is kept beside the lock file and renamed in and out: to make one and remove it at each hold costs more than all
//! else. It is taken away by its owner only, and reclaimed from an owner that is dead or past the limit, under the `.reclaim` directory by which
//! OpenClaw's latest releases exclude each other there.
//!
//! | the file names | reclaimed |
//! |---|---|
//! | a process that is dead, or was started at another time than the file says, or after it was made | at once |
//! | a living process, and when that was started | never, also where we can't tell when it was started |
//! | a living process (OpenClaw's first releases) | when it is older than the limit |
//! | no process | when it is older than the limit; if it says nothing at all, after [`GRACE_MS`] |
//!
//! If its time lies ahead, or is missing, the age counts from when we first saw the file, on the boot's clock.

pub use super::foreign::{Foreign, Observer};
use super::foreign::{Seen, read, unusable};
use crate::clock::Clock;
use crate::digest::Digest;
use crate::disk::exclusive::{self, Kept, Placement};
use crate::disk::{self, Sharing};
use crate::error::{Code, Error, Result};
use crate::process::Myself;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reclaiming takes a few file operations; a process that takes longer has died over it.
const GUARD_GRACE_MS: f64 = 600.0;
/// How often others may get in between while we reclaim, before we let the caller wait.
const MAX_TRIES: u32 = 4;

/// A sidecar of ours, published. Dropping it takes it away, if it is still ours.
#[derive(Debug)]
pub struct Sidecar {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Its file, and where that goes afterwards; if it is kept.
    kept: Option<Box<(Kept, PathBuf)>>,
    reclaimed: Option<Foreign>,
}

/// Where a sidecar is published.
#[derive(Debug)]
pub struct Place<'a> {
    /// Its path.
    pub path: &'a Path,
    /// Where its file is kept meanwhile ([`kept_path`]), if the caller's lock keeps all others from that.
    pub kept: Option<PathBuf>,
    /// Which users may read it.
    pub sharing: Sharing,
}

/// Where the owners of this lock file leave the sidecar's file to each other.
#[must_use]
pub fn kept_path(lock_file: &Path) -> PathBuf {
    disk::with_suffix(lock_file, ".sidecar")
}

/// What [`Sidecar::try_publish`] found.
#[derive(Debug)]
pub enum Attempt {
    /// It is there.
    Held(Sidecar),
    /// Another process's is.
    InTheWay(Foreign),
}

/// What has become of a sidecar of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Possession {
    /// It is where we put it.
    Ours,
    /// Another process has removed it.
    Gone,
    /// Another process has put its own in its place.
    Foreign,
}

impl Sidecar {
    /// Publishes a sidecar, unless another is in the way that can't be reclaimed: by the rules above, or because `is_outdated`
    /// knows it.
    ///
    /// # Errors
    /// [`Code::LockUnavailable`] if the directory can't be written, or something other than a file is there.
    pub fn try_publish(
        place: &Place<'_>,
        limit: Duration,
        observer: &mut Observer,
        is_outdated: &dyn Fn(&Foreign) -> bool,
    ) -> Result<Attempt> {
        let path = place.path;
        let mut reclaimed = None;
        for attempt in 0..=MAX_TRIES {
            // Mostly there is none. If there is one, ours can't be published, and the next attempt reads whose it is.
            let is_first = attempt == 0 && observer.file.is_none() && place.kept.is_some();
            let found = if is_first { None } else { read(path)? };
            let Some(found) = found else {
                // A process reclaims, or has died over it; OpenClaw's latest releases wait for such a guard for ever.
                if disk::exists(&guard_of(path)).map_err(|error| unusable("look for", &guard_of(path), &error))? {
                    clear_guard(path, observer)?;
                    return Ok(Attempt::InTheWay(Foreign::default()));
                }
                let bytes = content(&*observer.clock)?;
                // If that fails it may be there all the same, and would be in everybody's way for as long as this process lives:
                // it is dropped.
                let mut sidecar = Self { path: path.to_owned(), bytes, kept: None, reclaimed: reclaimed.take() };
                match sidecar.publish(place) {
                    Ok(true) => return Ok(Attempt::Held(sidecar)),
                    // Another program's may have been in the way all the time: that counts for more.
                    Ok(false) | Err(_) if is_first => continue,
                    Ok(false) => {}
                    Err(error) => return Err(error),
                }
                reclaimed = sidecar.reclaimed.take();
                continue;
            };
            let foreign = Foreign::parse(&found);
            let seen = Seen::note(&mut observer.file, Digest::of(&[&found]), &*observer.clock);
            let is_stale = foreign.is_stale(limit, seen, &*observer.clock);
            let may_reclaim = is_stale || is_outdated(&foreign) || left_behind().contains(&found);
            if !may_reclaim || !reclaim(path, &found, observer)? {
                return Ok(Attempt::InTheWay(foreign));
            }
            left_behind().remove(&found);
            reclaimed = Some(foreign);
        }
        Ok(Attempt::InTheWay(Foreign::default()))
    }

    /// What has become of it.
    pub fn check(&self) -> Result<Possession> {
        if self.is_there() {
            return Ok(Possession::Ours);
        }
        Ok(match read(&self.path)? {
            Some(bytes) if bytes == self.bytes => Possession::Ours,
            Some(_) => Possession::Foreign,
            None => Possession::Gone,
        })
    }

    /// Whether it is there for sure, without reading it.
    fn is_there(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.0.is_at(&self.path))
    }

    /// The reclaimed sidecar that it took the place of.
    #[must_use]
    pub fn reclaimed(&self) -> Option<&Foreign> {
        self.reclaimed.as_ref()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if self.is_there() && self.kept.as_ref().is_some_and(|kept| exclusive::put_back(&self.path, &kept.1).is_ok()) {
            return;
        }
        let removed = match exclusive::holds(&self.path, &self.bytes) {
            Ok(true) => disk::remove(&self.path).is_ok(),
            is_anothers => is_anothers.is_ok(),
        };
        if !removed {
            left_behind().insert(std::mem::take(&mut self.bytes));
        }
    }
}

/// Sidecars that this process, which is still alive, could not remove. Any process that finds one may reclaim it.
fn left_behind() -> MutexGuard<'static, BTreeSet<Vec<u8>>> {
    static LEFT_BEHIND: Mutex<BTreeSet<Vec<u8>>> = Mutex::new(BTreeSet::new());
    LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner)
}

fn content(clock: &dyn Clock) -> Result<Vec<u8>> {
    let at = UNIX_EPOCH + Duration::try_from_secs_f64(clock.now_ms() / 1000.0).unwrap_or_default();
    let Myself { pid, start_time, .. } = Myself::now();
    let mut text = format!("{{\n  \"pid\": {pid},\n  \"createdAt\": \"{}\"", iso(at));
    if let Some(start_time) = start_time {
        // Writing to a string can't fail.
        let _ = write!(text, ",\n  \"starttime\": {start_time}");
    }
    text.push_str("\n}\n\t\t\t\t\t\t\t\t");
    let token = token()?;
    let bits = token.as_bytes().iter().take(16).flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
    text.extend(bits.map(|bit| if bit { '\t' } else { ' ' }));
    text.push('\n');
    Ok(text.into_bytes())
}

/// What no other sidecar holds: of a secret of this process, and a number.
fn token() -> Result<Digest> {
    static SECRET: OnceLock<[u8; 32]> = OnceLock::new();
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let secret = if let Some(secret) = SECRET.get() {
        secret
    } else {
        let mut random = [0; 32];
        getrandom::fill(&mut random)
            .map_err(|error| Error::new(Code::Internal, format!("cannot get random bytes: {error}")))?;
        SECRET.get_or_init(|| random)
    };
    Ok(Digest::of(&[secret, &NUMBER.fetch_add(1, Ordering::Relaxed).to_le_bytes()]))
}

/// As `Date.toISOString` has it.
fn iso(at: SystemTime) -> impl std::fmt::Display {
    humantime::format_rfc3339_millis(at)
}

impl Sidecar {
    /// Publishes it, unless something is there; says whether it is.
    fn publish(&mut self, place: &Place<'_>) -> Result<bool> {
        match &place.kept {
            Some(kept) => match self.publish_kept(place, kept)? {
                Some(is_ours) => Ok(is_ours),
                None => publish_new(place, &self.bytes),
            },
            None => publish_new(place, &self.bytes),
        }
    }

    /// Publishes the file that is kept; says whether it is in place. `None` if that can't be done: it lies on another file system, or
    /// something else lies there, or another user's.
    fn publish_kept(&mut self, place: &Place<'_>, kept: &Path) -> Result<Option<bool>> {
        let failed = |error: io::Error| unusable("make the lock file", place.path, &error);
        let overwrite = || Kept::overwrite(kept, &self.bytes, place.sharing);
        let file = overwrite().or_else(|_| {
            // The first time, or after a death: the owner that died may have left its file in two places.
            disk::remove(kept)?;
            exclusive::create(kept, &self.bytes, place.sharing)?;
            overwrite()
        });
        let file = match file {
            Ok(file) => file,
            Err(error) if is_for_good(&error) => return Ok(None),
            Err(error) => return Err(unusable("make the lock file at", kept, &error)),
        };
        let is_ours = match exclusive::place(kept, place.path) {
            Ok(Placement::Moved) => true,
            Ok(Placement::Unknown) => {
                let is_ours = file.is_at(place.path);
                if is_ours {
                    disk::remove(kept).map_err(failed)?;
                }
                is_ours
            }
            Ok(Placement::Unsupported) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if is_ours {
            self.kept = Some(Box::new((file, kept.to_owned())));
        }
        Ok(Some(is_ours))
    }
}

/// Whether the file that is kept can't be had, now or later.
fn is_for_good(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, IsADirectory, PermissionDenied};
    matches!(error.kind(), InvalidInput | IsADirectory | PermissionDenied)
}

/// Makes a file with these bytes, unless something is there; says whether it is. The temporary file has a fixed name, as the caller
/// holds the kernel's lock; if that lock excludes no process, the file that we then find at `path` tells whose it is.
fn publish_new(&Place { path, sharing, .. }: &Place<'_>, bytes: &[u8]) -> Result<bool> {
    let temporary = disk::with_suffix(path, ".tmp");
    let failed = |error: io::Error| unusable("make the lock file", path, &error);
    if !exclusive::create(&temporary, bytes, sharing).map_err(failed)? {
        disk::remove(&temporary).map_err(|error| unusable("make way for the lock file at", &temporary, &error))?;
        exclusive::create(&temporary, bytes, sharing).map_err(failed)?;
    }
    let placed = exclusive::place(&temporary, path);
    if !matches!(placed, Ok(Placement::Moved)) {
        disk::remove(&temporary).map_err(failed)?;
    }
    if placed.map_err(failed)? == Placement::Unsupported {
        exclusive::create(path, bytes, sharing).map_err(failed)?;
    }
    exclusive::holds(path, bytes).map_err(failed)
}

/// Removes a sidecar that holds just these bytes. `false` if another process is doing so.
fn reclaim(path: &Path, bytes: &[u8], observer: &mut Observer) -> Result<bool> {
    let guard = guard_of(path);
    let failed = |error: io::Error| unusable("reclaim the lock file under", &guard, &error);
    if !exclusive::make_dir(&guard).map_err(failed)? {
        clear_guard(path, observer)?;
        return Ok(false);
    }
    observer.guard = None;
    let removed = match read(path) {
        Ok(Some(found)) if found == bytes => {
            disk::remove(path).map_err(|error| unusable("remove the lock file", path, &error))
        }
        other => other.map(drop),
    };
    let freed = exclusive::remove_dir(&guard).map_err(failed);
    removed.and(freed).map(|()| true)
}

fn guard_of(path: &Path) -> PathBuf {
    disk::with_suffix(path, ".reclaim")
}

/// Removes a guard that has stood for longer than reclaiming takes: its owner has died over it.
fn clear_guard(path: &Path, observer: &mut Observer) -> Result<()> {
    let guard = guard_of(path);
    let clock = &*observer.clock;
    if Seen::note(&mut observer.guard, Digest::of(&[b"guard"]), clock).age_ms(clock) > GUARD_GRACE_MS {
        observer.guard = None;
        exclusive::remove_dir(&guard)
            .map_err(|error| unusable("remove the directory that a dead process left", &guard, &error))?;
    }
    Ok(())
}
