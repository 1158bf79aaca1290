//! The way from `/` to a directory of locks or a store, and who could change it.

use super::{LockDirectory, Passage, unusable, volume};
use crate::disk::{self, Folder, FolderIdentity, MAX_LINKS, Sharing};
use crate::error::{Code, Error, Result};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

const ROOT: u32 = 0;
const STICKY: u32 = 0o1000;
const WRITABLE_FOR_ALL: u32 = 0o002;
/// Set-group-id and group-writable: what an administrator gives to a directory that a group shares.
const FOR_A_GROUP: u32 = 0o2020;

/// So many good directories are remembered: more than any host has.
const MAX_REMEMBERED: usize = 1024;

/// The good ones, each with what its verdict rests on and one `lstat` tells.
static GOOD: LazyLock<Mutex<HashMap<PathBuf, Seen>>> = LazyLock::new(Mutex::default);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    directory: FolderIdentity,
    user: u32,
}

impl Seen {
    fn of(found: &Metadata) -> Self {
        Self { directory: FolderIdentity::of(found), user: user() }
    }

    fn verdict(self) -> LockDirectory {
        let FolderIdentity { device, mode, .. } = self.directory;
        let is_shared = mode & FOR_A_GROUP == FOR_A_GROUP && mode & WRITABLE_FOR_ALL == 0;
        let sharing = if is_shared { Sharing::Shared } else { Sharing::Private };
        LockDirectory { sharing, device }
    }
}

pub(super) fn check(directory: &Path) -> Result<LockDirectory> {
    if let Ok(found) = fs::symlink_metadata(directory) {
        let seen = Seen::of(&found);
        if good().get(directory) == Some(&seen) {
            return Ok(seen.verdict());
        }
    }
    let Some(found) = go(directory, Missing::Make, &mut Vec::new())? else {
        return Err(unreachable(directory, &io::ErrorKind::NotFound.into()));
    };
    refuse_pinned(directory)?;
    let seen = Seen::of(&found);
    remember(directory, Some(seen));
    Ok(seen.verdict())
}

fn remember(directory: &Path, seen: Option<Seen>) {
    let Some(seen) = seen else { return };
    let mut good = good();
    if good.len() >= MAX_REMEMBERED {
        good.clear();
    }
    good.insert(directory.to_owned(), seen);
}

pub(super) fn look_at(directory: &Path) -> Result<Option<LockDirectory>> {
    let found = go(directory, Missing::Leave, &mut Vec::new())?;
    if found.is_some() {
        refuse_closed(directory)?;
        refuse_pinned(directory)?;
    }
    Ok(found.map(|found| Seen::of(&found).verdict()))
}

pub(super) fn passed(directory: &Path) -> Vec<(PathBuf, Passage)> {
    let mut passed = Vec::new();
    // The first call that needs this directory says why it can't be reached.
    let _ = go(directory, Missing::Store, &mut passed);
    passed
}

/// Refuses a name whose place another user could give to another file or link. `folder` is its directory, held open.
///
/// A directory that was good is looked at again only if another one is there by now, or it has another mode or owner: that
/// costs one `stat`, or none if it is held.
pub(super) fn check_directory_of(name: &Path, folder: Option<&Folder>) -> Result<()> {
    let Some(directory) = name.parent() else { return Ok(()) };
    // Of what is at the other end, where it is a symbolic link.
    let seen = match folder {
        Some(folder) => Some(Seen { directory: folder.identity(), user: user() }),
        None => fs::metadata(directory).ok().map(|found| Seen::of(&found)),
    };
    if seen.is_none() || good().get(directory).copied() != seen {
        let found = go(directory, Missing::Store, &mut Vec::new())?.as_ref().map(Seen::of);
        if folder.is_some() && found != seen {
            return Err(refused(directory, "another directory has just taken this one's place; call again"));
        }
        remember(directory, found);
    }
    Ok(())
}

/// Refuses a symbolic link that another user has put there.
pub(super) fn check_link(link: &Path) -> Result<()> {
    match look_for(link)? {
        Some(found) if found.is_symlink() => refuse_stranger(link, found.uid()),
        _ => Ok(()),
    }
}

/// What to do about directories that are not there yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    /// Refuse them if they could not be made.
    Leave,
    /// Leave them: it is a store's directory, which may be a symbolic link, and is tried by other means.
    Store,
}

/// Goes to the directory, and refuses to pass where another user could change the path. `None` if it is missing, is left so,
/// and could be made. Notes which open directories it has passed, and why.
fn go(directory: &Path, missing: Missing, passed: &mut Vec<(PathBuf, Passage)>) -> Result<Option<Metadata>> {
    let absolute = std::path::absolute(directory).map_err(|error| unreachable(directory, &error))?;
    let mut left = steps(&absolute);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    passed.extend(refuse_playground(&here, &look(&here)?, Role::OnTheWay)?.map(|why| (here.clone(), why)));
    while let Some(step) = left.pop() {
        if step == ".." {
            here.pop();
            continue;
        }
        let next = here.join(step);
        let found = match (look_for(&next)?, missing) {
            (Some(found), _) => found,
            (None, Missing::Make) => make(&next)?,
            (None, Missing::Leave) => {
                refuse_closed(&here)?;
                return Ok(None);
            }
            (None, Missing::Store) => return Ok(None),
        };
        if !found.is_symlink() {
            let role = if left.is_empty() { Role::Holds } else { Role::OnTheWay };
            passed.extend(refuse_playground(&next, &found, role)?.map(|why| (next.clone(), why)));
            here = next;
            continue;
        }
        if left.is_empty() && missing != Missing::Store {
            return Err(refused(&next, "the lock directory is a symbolic link; give the directory that it names"));
        }
        refuse_stranger(&next, found.uid())?;
        links += 1;
        // Also refuses a link to nothing, so that nothing is made at its other end.
        let target =
            fs::metadata(&next).and_then(|_| fs::read_link(&next)).map_err(|error| unreachable(&next, &error))?;
        if links > MAX_LINKS {
            return Err(refused(&next, "too many symbolic links on the way to this directory"));
        }
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        left.extend(steps(&target));
    }
    let found = look(&here)?;
    if found.uid() != ROOT && found.uid() != user() {
        return Err(foreign(&here, found.uid()));
    }
    Ok(Some(found))
}

/// The names on the way, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let step = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(step).collect()
}

fn look(path: &Path) -> Result<Metadata> {
    fs::symlink_metadata(path).map_err(|error| unreachable(path, &error))
}

fn look_for(path: &Path) -> Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some).map_err(|error| unreachable(path, &error)),
    }
}

fn make(path: &Path) -> Result<Metadata> {
    disk::create_private_dir(path).map_err(|error| unusable("make the lock directory", path, &error))?;
    look(path)
}

fn refuse_closed(directory: &Path) -> Result<()> {
    disk::refuse_closed_directory(directory).map_err(|error| unusable("use the lock directory", directory, &error))
}

fn refuse_pinned(directory: &Path) -> Result<()> {
    disk::refuse_pinned_directory(directory).map_err(|error| unusable("use the lock directory", directory, &error))
}

/// What a directory is to our files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    OnTheWay,
    Holds,
}

/// Refuses a directory into which other users could put files of theirs. Says why an open one is passed.
fn refuse_playground(path: &Path, found: &Metadata, role: Role) -> Result<Option<Passage>> {
    if !found.is_dir() {
        let kind = disk::kind_of(found.file_type());
        return Err(refused(path, format_args!("a directory is needed here, and this is {kind}; remove it")));
    }
    refuse_stranger(path, found.uid())?;
    let is_open = found.mode() & WRITABLE_FOR_ALL != 0 && found.mode() & STICKY == 0;
    if !is_open {
        return Ok(None);
    }
    if volume::is_trusted(path) {
        return Ok(Some(Passage::Trusted));
    }
    if role == Role::OnTheWay && is_volume(found) {
        return Ok(Some(Passage::Alone));
    }
    let message = "everyone may replace what is in this directory, so nothing is safe there; run chmod o-w on it, or, if no \
                   other user can get to it and its mode can't be changed, name it as the trustedVolume or in \
                   OAUTH_REFRESH_LOCK_TRUSTED_VOLUME";
    Err(refused(path, message))
}

/// Whether root made it for its users to share, and no other user is here.
fn is_volume(found: &Metadata) -> bool {
    let is_roots = found.uid() == ROOT || Some(found.uid()) == user_without_a_number();
    is_roots && volume::is_alone(user())
}

fn refuse_stranger(path: &Path, owner: u32) -> Result<()> {
    let is_known = owner == ROOT || owner == user() || Some(owner) == user_without_a_number();
    if is_known { Ok(()) } else { Err(foreign(path, owner)) }
}

fn foreign(path: &Path, owner: u32) -> Error {
    let user = user();
    refused(
        path,
        format_args!(
            "this belongs to another user (uid {owner}, and this process has uid {user}), who could replace what we keep \
             here; run as that user, or keep it elsewhere"
        ),
    )
}

/// The overflow user: in this user namespace, files seem to belong to it if their owner has no number here. `None` if every owner
/// has one.
fn user_without_a_number() -> Option<u32> {
    static OVERFLOW: LazyLock<Option<u32>> = LazyLock::new(|| {
        let map = fs::read_to_string("/proc/self/uid_map").ok()?;
        let has_all = map.split_whitespace().eq(["0", "0", "4294967295"]);
        let number = || fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok();
        if has_all { None } else { number() }
    });
    *OVERFLOW
}

fn user() -> u32 {
    crate::process::user()
}

fn refused(path: &Path, message: impl Display) -> Error {
    Error::at(Code::LockUnavailable, path, message)
}

fn unreachable(path: &Path, error: &io::Error) -> Error {
    unusable("get to the directory", path, error)
}

fn good() -> std::sync::MutexGuard<'static, HashMap<PathBuf, Seen>> {
    GOOD.lock().unwrap_or_else(PoisonError::into_inner)
}
