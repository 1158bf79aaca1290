//! The stores of all agents of a host.

use super::STORE_FILE;
use crate::disk;
use crate::error::{Code, Error, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The agents' stores under a state directory, in order, whether they are there or not.
pub fn in_state_dir(state_dir: &Path) -> Result<Vec<PathBuf>> {
    let agents = state_dir.join("agents");
    // Finder and others leave files everywhere.
    let mut directories = match disk::list(&agents, Path::is_dir) {
        // The look for its locks reports a state directory that is not a directory.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Vec::new(),
        listed => listed.map_err(|error| Error::io(Code::StoreUnreadable, "list the agents", &agents, &error))?,
    };
    directories.sort();
    Ok(directories.into_iter().map(|agent| agent.join("agent").join(STORE_FILE)).collect())
}
