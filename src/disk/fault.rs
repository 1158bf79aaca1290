//! Faults on order: the n-th file operation fails, or the process dies there.

use std::io;
use std::path::Path;

/// Called before each file operation.
pub(super) fn point(_operation: &'static str, _path: &Path) -> io::Result<()> {
    Ok(())
}
