//! Files whose space is there before it is needed.

use super::directory::sync_parent;
use super::{fault, open_permanent, point, read_at, write_at};
#[cfg(unix)]
use std::fs;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A file whose space was written when it was made, so that writing to it later needs no free block.
#[derive(Debug)]
pub struct PreallocatedFile {
    file: File,
    path: PathBuf,
}

impl PreallocatedFile {
    /// Opens the file, making it `bytes` long if it is shorter.
    pub fn open(path: &Path, bytes: usize) -> io::Result<Self> {
        let (file, metadata) = open_permanent(path)?;
        let this = Self { file, path: path.to_owned() };
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt, PermissionsExt};
            if metadata.uid() != crate::process::user() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
            }
            if metadata.mode() & 0o077 != 0 {
                this.file.set_permissions(fs::Permissions::from_mode(0o600))?;
            }
        }
        let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        if length < bytes {
            this.write_at(&vec![0; bytes - length], length as u64)?;
            this.sync()?;
            sync_parent(path)?;
        }
        Ok(this)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Some of its bytes.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        read_at(&self.file, &self.path, offset, length)
    }

    /// Overwrites bytes in place.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let allowed = fault::write("write-journal", &self.path, bytes.len())?;
        write_at(&self.file, &bytes[..allowed], offset)?;
        if allowed < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Makes what was written durable.
    pub fn sync(&self) -> io::Result<()> {
        point("sync-journal", &self.path)?;
        self.file.sync_data()
    }
}
