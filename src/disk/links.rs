//! Symbolic links.

use super::Folder;
#[cfg(any(target_os = "linux", target_os = "android"))]
use super::pinned::{self, Attributes};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// As many symbolic links as Linux follows before it says `ELOOP`.
pub(crate) const MAX_LINKS: usize = 40;

/// What a path comes to.
#[derive(Debug)]
pub struct Named {
    /// The symbolic links of the chain at the path.
    pub links: Vec<PathBuf>,
    /// What it finally names, which need not exist.
    pub target: PathBuf,
    found: Found,
}

/// What is at a path.
#[derive(Debug, Default)]
struct Found {
    is_link: bool,
    length: u64,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    attributes: Attributes,
}

impl Named {
    /// How long its file was; 0 if there was none.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.found.length
    }

    /// Refuses a file that may be written to and can't be replaced, or a directory that keeps what is in it: locks and temporary
    /// files could not be removed from there.
    pub fn refuse_pinned(&self, folder: Option<&Folder>) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            pinned::refuse(&self.target, self.found.attributes)?;
            folder.map_or(Ok(()), Folder::refuse_pinned)?;
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = folder;
        Ok(())
    }
}

/// Follows the chain of symbolic links at `path` to what it finally names, which need not exist.
pub fn follow_links(path: &Path) -> io::Result<PathBuf> {
    links(path).map(|named| named.target)
}

/// The symbolic links of the chain at `path`, and what it finally names.
pub fn links(path: &Path) -> io::Result<Named> {
    let (mut links, mut target) = (Vec::new(), path.to_owned());
    for _ in 0..MAX_LINKS {
        match look(&target) {
            Ok(found) if found.is_link => match fs::read_link(&target) {
                Ok(next) => {
                    let next = target.parent().map_or_else(|| next.clone(), |parent| parent.join(&next));
                    links.push(std::mem::replace(&mut target, next));
                }
                // Something else has taken its place meanwhile, or nothing: look again.
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            },
            Ok(found) => return Ok(Named { links, target, found }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Named { links, target, found: Found::default() });
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// Looks once for all that there is to know.
fn look(path: &Path) -> io::Result<Found> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};
        let wanted = StatxFlags::TYPE | StatxFlags::SIZE;
        // Where the kernel, or what is around a container, knows no such call, the standard library knows another one.
        if let Ok(found) = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, wanted) {
            let is_link = FileType::from_raw_mode(found.stx_mode.into()) == FileType::Symlink;
            return Ok(Found { is_link, length: found.stx_size, attributes: Attributes::new(&found) });
        }
    }
    let found = fs::symlink_metadata(path)?;
    Ok(Found { is_link: found.is_symlink(), length: found.len(), ..Found::default() })
}
