//! The directories that lock files and stores lie in: only their user, root, and those whom these let may decide what lies
//! there.
//!
//! [`check`] comes before any lock file is opened. On Unix it goes from `/` to the directory step by step, through
//! every symbolic link, and refuses, with the reason and the path at fault:
//!
//! | | |
//! |---|---|
//! | the lock directory | that is a symbolic link, or not a directory; that is append-only or immutable, at its first use |
//! | the lock directory, and every directory and link on the path to it | of a user other than this process's and root |
//! | the same | that everyone may write to, unless it is sticky, as `/tmp` is, or a volume that no other user is at |
//!
//! So no hostile user can put another directory, or a link to one, in the place of one that was found good; what is
//! opened below it later is opened where it was checked. What is missing is made (0700), but only below a good one.
//!
//! - **Root is no exception.** The owner of a directory can replace what is in it at any moment, by links to files of
//!   root's too. In another user's directory root runs as that user, or not at all.
//! - **Group write is allowed**, since the owner has granted it: under a umask of 002 OpenClaw makes
//!   its directories so, and Kubernetes does it to whole volumes (`fsGroup`). A member can break a lock, as
//!   any user of a shared one can, but can't thereby read a token, or make us write to a file of the member's choice.
//! - **Users can share locks** in a directory of root's with the set-group-id bit, group-writable and not writable for
//!   everyone: `install -d -o root -g <group> -m 2770`. Lock files in there have mode 0660, and may be any member's.
//!   Journals stay their writer's own.
//! - **In a user namespace** that maps only some users, files of all others seem to belong to the overflow user. On the
//!   way to a lock directory we take that user for root, since `/` and `/home` look like that; at the lock directory and
//!   its files we do not.
//! - **Volumes** that are made open to everyone (Kubernetes' `emptyDir`, local-path) belong to root, and a container's user
//!   can't change their mode. One on the way is passed if all processes that `/proc` shows are ours or root's. That tells
//!   nothing about other containers, nor about the host's users where `/proc` is a container's: those that can reach the
//!   volume can do what a group with the right to write there can do. On other open directories [`trust`] is the operator's word
//!   that no other user can get there. Links and owners below them are checked all the same.
//! - **Access control lists** count as far as the mode shows them: their mask is its group bits.
//!
//! On Windows directories inherit the rights of the user's profile; nothing is checked.

use crate::disk::{self, Folder, Sharing};
use crate::error::{Code, Error, Result};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

#[cfg(unix)]
mod path_walk;
#[cfg(unix)]
mod volume;
#[cfg(unix)]
pub use volume::trust;

/// As on Unix; modes mean nothing here.
#[cfg(not(unix))]
pub fn trust(_volume: &Path) {}

/// What was found about a directory that can hold locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockDirectory {
    /// Which users use the lock files in it.
    pub sharing: Sharing,
    /// The device that it lies on; 0 on Windows.
    pub device: u64,
}

/// By which rule a directory that everyone may write to is used all the same; a sticky one needs none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// [`trust`]: the operator's word.
    Trusted,
    /// It is root's, and all processes that `/proc` shows are this user's or root's.
    Alone,
}

/// Makes the directory if it is missing, and refuses one that another user could change.
///
/// A directory that was good is checked in full again only if it is another one by now, or has another mode or owner: one
/// `lstat` tells.
pub fn check(directory: &Path) -> Result<LockDirectory> {
    #[cfg(unix)]
    return path_walk::check(directory);
    #[cfg(not(unix))]
    {
        disk::create_private_dirs(directory).map_err(|error| unusable("use the lock directory", directory, &error))?;
        Ok(LockDirectory { sharing: Sharing::Private, device: 0 })
    }
}

/// What [`check`] would say, without making anything: `None` if the directory is missing and could be made. A directory that
/// this process may not list or write to is refused as well, as its first use would be.
pub fn look(directory: &Path) -> Result<Option<LockDirectory>> {
    #[cfg(unix)]
    return path_walk::look_at(directory);
    #[cfg(not(unix))]
    Ok(directory.is_dir().then_some(LockDirectory { sharing: Sharing::Private, device: 0 }))
}

/// The directories that everyone may write to and that are used all the same, on the way to a directory of locks or a store.
#[must_use]
pub fn passed(directory: &Path) -> Vec<(PathBuf, Passage)> {
    #[cfg(unix)]
    return path_walk::passed(directory);
    #[cfg(not(unix))]
    {
        let _ = directory;
        Vec::new()
    }
}

/// Refuses a store's file if another user could put another file or link in its place: the rules for the path to a lock directory
/// hold for that to its directory, but the directory may be a symbolic link.
///
/// A group that may write there can put another file of ours there, but no link, nor a file of its own. So no profile is added
/// to a file that others may read: it becomes its owner's alone.
/// `folder` is its directory, if that is held open.
pub fn check_store(name: &Path, folder: Option<&Folder>) -> Result<()> {
    #[cfg(unix)]
    return path_walk::check_directory_of(name, folder).map_err(told_of_store);
    #[cfg(not(unix))]
    {
        let _ = (name, folder);
        Ok(())
    }
}

/// The same for a symbolic link on the way to it.
pub fn check_link(link: &Path) -> Result<()> {
    #[cfg(unix)]
    path_walk::check_link(link).map_err(told_of_store)?;
    check_store(link, None)
}

#[cfg(unix)]
fn told_of_store(error: Error) -> Error {
    Error { code: Code::StoreUnwritable, ..error }
}

/// Opens a lock file in a directory that was checked, creating it if need be.
pub fn open(base: &Path, directory: LockDirectory) -> Result<File> {
    disk::open_lock(base, directory.sharing).map_err(|error| unusable("use the lock file", base, &error))
}

fn unusable(action: &str, path: &Path, error: &io::Error) -> Error {
    Error::io(Code::LockUnavailable, action, path, error)
}
