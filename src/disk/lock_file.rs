//! Files that are made once and stay: lock files and journals.
//!
//! Another user with the right to write to their directory can put something else in their place. So we open only a regular file
//! with one name, of a trusted user; anything else is refused, with what it is, and left alone.

use super::{OpenFile, create_private_dirs, kind_of, options, point};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

/// Which users use a directory's lock files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// This user, and root: files of mode 0600.
    Private,
    /// The group of a directory that was made to be shared: files of mode 0660, whichever member made them.
    Shared,
}

#[cfg(unix)]
impl Sharing {
    pub(super) fn mode(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Shared => 0o660,
        }
    }
}

/// Opens a journal, as [`open_lock`] opens a private lock file; with what it is.
pub fn open_permanent(path: &Path) -> io::Result<OpenFile> {
    open_or_make(path, Sharing::Private)
}

/// Opens a lock file, creating it (0600, or 0660 if it is shared) and its directories (0700) if need be, whatever the
/// umask. Never truncates, and never follows a symbolic link.
pub fn open_lock(path: &Path, sharing: Sharing) -> io::Result<File> {
    open_or_make(path, sharing).map(|(file, _)| file)
}

fn open_or_make(path: &Path, sharing: Sharing) -> io::Result<OpenFile> {
    match open_existing(path, sharing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    if let Some(parent) = path.parent() {
        create_private_dirs(parent)?;
    }
    match open(path, true) {
        Ok(file) => {
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                // Set, not only asked for at creation: the umask takes bits away.
                file.set_permissions(fs::Permissions::from_mode(sharing.mode()))?;
            }
            trusted(file, sharing)
        }
        // Another process was first.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_existing(path, sharing),
        Err(error) => Err(error),
    }
}

/// The same for a file that is there, with what it is.
pub(super) fn open_existing(path: &Path, sharing: Sharing) -> io::Result<OpenFile> {
    trusted(open(path, false)?, sharing)
}

/// Opens a lock file for reading alone, and only if [`open_lock`] would take it. Makes nothing and changes nothing.
pub fn open_to_look(path: &Path, sharing: Sharing) -> io::Result<File> {
    let mut options = options();
    options.read(true);
    let file = open_with(options, path)?;
    refuse_untrusted(&file.metadata()?, sharing).map(|()| file)
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    point("open-permanent", path)?;
    let mut options = options();
    options.read(true).write(true).create_new(create).truncate(false);
    open_with(options, path)
}

#[cfg_attr(not(unix), allow(unused_mut, reason = "only Unix has flags to add"))]
fn open_with(mut options: OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        // A terminal must not become ours.
        let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    options.open(path).map_err(|error| explained(path, error))
}

/// Says what stands in a file's place, where the operating system's word for that would puzzle.
fn explained(path: &Path, error: io::Error) -> io::Error {
    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) {
        return error;
    }
    let Ok(found) = fs::symlink_metadata(path) else { return error };
    if !found.is_file() {
        return misplaced(found.file_type());
    }
    #[cfg(unix)]
    if error.kind() == io::ErrorKind::PermissionDenied {
        use std::os::unix::fs::MetadataExt;
        if found.uid() != crate::process::user() {
            return of_another(found.uid());
        }
    }
    error
}

/// The file, unless another user could have put it there, or it has another name elsewhere.
fn trusted(file: File, sharing: Sharing) -> io::Result<OpenFile> {
    let found = file.metadata()?;
    refuse_untrusted(&found, sharing)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        // Its maker may have died before the others could use it.
        let is_ours = || found.uid() == crate::process::user();
        if sharing == Sharing::Shared && found.mode() & 0o660 != 0o660 && is_ours() {
            file.set_permissions(fs::Permissions::from_mode(sharing.mode()))?;
        }
    }
    Ok((file, found))
}

fn refuse_untrusted(found: &Metadata, sharing: Sharing) -> io::Result<()> {
    if !found.is_file() {
        return Err(misplaced(found.file_type()));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // A second name may have been given to a file that must not be written to.
        if found.nlink() > 1 {
            let message = format!("it has {} names (hard links); remove it while no process uses it", found.nlink());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let (owner, user) = (found.uid(), crate::process::user());
        if sharing == Sharing::Private && owner != 0 && owner != user {
            return Err(of_another(owner));
        }
    }
    #[cfg(not(unix))]
    let _ = sharing;
    Ok(())
}

pub(super) fn misplaced(found: fs::FileType) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {}, not a file; remove it", kind_of(found)))
}

#[cfg(unix)]
pub(super) fn of_another(owner: u32) -> io::Error {
    let message = format!("it belongs to another user (uid {owner}); remove it, or run as that user");
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}
