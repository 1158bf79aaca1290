//! A directory that is held open: what is made, renamed and removed in it is so where it was checked, whatever takes its name since.

use std::fs;
#[cfg(unix)]
use std::fs::File;
use std::io;
#[cfg(unix)]
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

#[cfg(any(target_os = "linux", target_os = "android"))]
use super::pinned::{self, Attributes};
#[cfg(unix)]
use super::{point, uninterrupted};

/// A directory that is held open, for one read-modify-write in it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    #[cfg(unix)]
    file: File,
    identity: FolderIdentity,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    attributes: Attributes,
}

/// Which directory it is, and who may do what with it; zeros on Windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderIdentity {
    /// The device that it lies on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Its mode, with its kind.
    pub mode: u32,
    /// Its owner.
    pub owner: u32,
}

#[cfg(unix)]
impl FolderIdentity {
    /// Of what was found.
    #[must_use]
    pub fn of(found: &fs::Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino(), mode: found.mode(), owner: found.uid() }
    }
}

impl Folder {
    /// Opens it, symbolic links followed.
    #[cfg(unix)]
    pub fn open(path: &Path) -> io::Result<Self> {
        use rustix::fs::{Mode, OFlags, open};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |flags| uninterrupted(|| point("hold", path).and_then(|()| Ok(open(path, flags, Mode::empty())?)));
        let opened = open(flags);
        // One that may not be listed may be written to all the same. It can't be synced.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let opened = opened.or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => open(flags | OFlags::PATH),
            _ => Err(error),
        });
        Self::of(path, opened?.into())
    }

    /// Remembers it: nothing is held here.
    #[cfg(not(unix))]
    pub fn open(path: &Path) -> io::Result<Self> {
        let nothing = FolderIdentity { device: 0, inode: 0, mode: 0, owner: 0 };
        fs::metadata(path).map(|_| Self { path: path.to_owned(), identity: nothing })
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn of(path: &Path, file: File) -> io::Result<Self> {
        use rustix::fs::{AtFlags, StatxFlags, makedev, statx};
        let path = path.to_owned();
        let Ok(found) = statx(&file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS) else {
            let identity = FolderIdentity::of(&file.metadata()?);
            return Ok(Self { path, file, identity, attributes: Attributes::default() });
        };
        let identity = FolderIdentity {
            device: makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            mode: found.stx_mode.into(),
            owner: found.stx_uid,
        };
        Ok(Self { path, file, identity, attributes: Attributes::new(&found) })
    }

    #[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
    fn of(path: &Path, file: File) -> io::Result<Self> {
        let identity = FolderIdentity::of(&file.metadata()?);
        Ok(Self { path: path.to_owned(), file, identity })
    }

    /// Which directory it is.
    #[must_use]
    pub fn identity(&self) -> FolderIdentity {
        self.identity
    }

    /// Whether it is still the directory that its path leads to.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        #[cfg(unix)]
        {
            let found = fs::metadata(&self.path).map(|found| FolderIdentity::of(&found));
            found.is_ok_and(|found| (found.device, found.inode) == (self.identity.device, self.identity.inode))
        }
        #[cfg(not(unix))]
        true
    }

    /// Its path now, without symbolic links.
    pub fn real_path(&self) -> io::Result<PathBuf> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(told) = super::directory::told_of(&self.file) {
            return Ok(told);
        }
        self.path.canonicalize()
    }

    /// Makes durable what was put into it: see [`super::sync_parent`].
    pub fn sync(&self) -> io::Result<()> {
        #[cfg(unix)]
        return super::directory::synced(&self.path, || self.file.sync_all());
        #[cfg(not(unix))]
        Ok(())
    }

    /// Refuses one that keeps what is in it.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn refuse_pinned(&self) -> io::Result<()> {
        self.attributes.refuse(pinned::DIRECTORY)
    }

    /// The directory that is held, and the name in it of something that lies there.
    #[cfg(unix)]
    pub(super) fn at<'a>(folder: Option<&'a Self>, path: &'a Path) -> (std::os::fd::BorrowedFd<'a>, &'a Path) {
        use std::os::fd::AsFd;
        let name = |folder: &Self| path.strip_prefix(&folder.path).ok().filter(|name| name.components().count() == 1);
        folder.and_then(|folder| Some((folder.file.as_fd(), name(folder)?))).unwrap_or((rustix::fs::CWD, path))
    }
}
