//! Symbolic links.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// As many symbolic links as Linux follows before it says `ELOOP`.
pub(crate) const MAX_LINKS: usize = 40;

/// Follows the chain of symbolic links at `path` to what it finally names, which need not exist.
pub fn follow_links(path: &Path) -> io::Result<PathBuf> {
    links(path).map(|(_, target)| target)
}

/// The symbolic links of the chain at `path`, and what it finally names, which need not exist.
pub fn links(path: &Path) -> io::Result<(Vec<PathBuf>, PathBuf)> {
    let (mut links, mut target) = (Vec::new(), path.to_owned());
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&target) {
            Ok(found) if found.is_symlink() => match fs::read_link(&target) {
                Ok(next) => {
                    let next = target.parent().map_or_else(|| next.clone(), |parent| parent.join(&next));
                    links.push(std::mem::replace(&mut target, next));
                }
                // Something else has taken its place meanwhile, or nothing: look again.
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            },
            Ok(_) => return Ok((links, target)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((links, target)),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}
