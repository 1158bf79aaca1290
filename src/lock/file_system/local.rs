//! Which paths this host's kernel answers for by itself: a look there waits for no server, so it is allowed where nothing may
//! sleep. Whether it does is found out once for each path, where sleeping does no harm.

use super::FileSystemType;
use crate::state_dir::canonical;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// So many paths are remembered. Few processes have more stores.
const MAX_REMEMBERED: usize = 1024;

static REMEMBERED: LazyLock<Mutex<HashMap<PathBuf, bool>>> = LazyLock::new(Mutex::default);

/// Whether [`learn`] has found a path to be local.
#[must_use]
pub fn is_known_local(path: &Path) -> bool {
    remembered().get(path).copied().unwrap_or(false)
}

/// Finds out whether a path is local, with every directory on the way to it. It need not exist.
pub fn learn(path: &Path) {
    if remembered().contains_key(path) {
        return;
    }
    // Its files share the way to it.
    let is_directory_known = path.parent().is_some_and(is_known_local);
    let is_local = if is_directory_known { is_local(path) } else { are_local(path) && are_local(&canonical(path)) };
    let new = path.parent().filter(|directory| is_local && !is_directory_known && directory.exists());
    let mut remembered = remembered();
    if remembered.len() >= MAX_REMEMBERED {
        remembered.clear();
    }
    remembered.insert(path.to_owned(), is_local);
    if let Some(directory) = new {
        remembered.insert(directory.to_owned(), true);
    }
}

/// Whether what there is of a path is local.
fn are_local(path: &Path) -> bool {
    path.ancestors().all(is_local)
}

/// Whether what there is at a path is local.
fn is_local(path: &Path) -> bool {
    match FileSystemType::at(path) {
        Ok(found) => found.is_some_and(|found| found.is_local),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

fn remembered() -> MutexGuard<'static, HashMap<PathBuf, bool>> {
    REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_local_once_every_directory_on_the_way_is_known_to_be() {
        let directory = tempfile::tempdir().expect("a directory");
        let missing = directory.path().join("agent").join("store");
        assert!(!is_known_local(&missing));
        learn(&missing);
        let is_local = FileSystemType::at(directory.path()).expect("told").is_some_and(|found| found.is_local);
        assert_eq!(is_known_local(&missing), is_local);
        // No file system that is on our list.
        let foreign = Path::new("/proc/self/oauth-refresh-lock");
        learn(foreign);
        assert!(!is_known_local(foreign));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/proc/self", &link).expect("a link");
        learn(&link.join("store"));
        assert!(!is_known_local(&link.join("store")));
    }
}
