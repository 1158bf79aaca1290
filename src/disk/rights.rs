//! Which rights users have on a file, and how a file that takes its place gets the same rights, or fewer.

use super::{Readers, misowned, options};
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

const OWNERS: u32 = 0o700;
const PRIVATE: u32 = 0o600;

/// What of a file is kept beside its contents.
#[derive(Debug, Default)]
pub(super) struct Rights {
    /// `None` if there is no file.
    found: Option<Metadata>,
    attributes: Attributes,
}

impl Rights {
    /// Those of a file that is this user's, or of none.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
        let file = match options().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let found = file.metadata()?;
        Self::of_file(&file, found)
    }

    /// Those of an open file that is this user's.
    pub(super) fn of_file(file: &File, found: Metadata) -> io::Result<Self> {
        if found.uid() != crate::process::user() {
            return Err(misowned(found.uid()));
        }
        Ok(Self { found: Some(found), attributes: Attributes::of(file)? })
    }

    /// Gives them to a new file of ours. Rights that can't be given are taken from all but the owner.
    pub(super) fn give(&self, file: &File, readers: Readers) -> io::Result<()> {
        // A directory may give a list to all that is made in it. Its names count as soon as the mode has group bits.
        let is_bare = Attributes::drop_list(file);
        let Some(found) = &self.found else { return file.set_permissions(Permissions::from_mode(PRIVATE)) };
        let given = file.metadata()?;
        let has_group = found.gid() == given.gid() || fchown(file, None, Some(found.gid())).is_ok();
        let has_lists = self.attributes.give(file, readers == Readers::Kept && has_group);
        let mode = found.mode() & 0o777;
        let mode = match readers {
            Readers::Kept if has_lists && is_bare && has_group => mode,
            Readers::Kept if has_lists && is_bare => without_group(mode),
            _ => mode & OWNERS,
        };
        // The umask takes bits away at creation, and lists of rights and a change of group change them.
        let has_mode = given.mode() & 0o7777 == mode && self.attributes.is_empty() && found.gid() == given.gid();
        if has_mode { Ok(()) } else { file.set_permissions(Permissions::from_mode(mode)) }
    }
}

/// A mode for a file of another group. Members of the old group are others now, and the other way round: both keep
/// only what both had.
fn without_group(mode: u32) -> u32 {
    let both = (mode >> 3) & mode & 0o007;
    (mode & OWNERS) | both << 3 | both
}

/// Extended attributes: lists of rights, and notes of others.
#[derive(Debug, Default)]
struct Attributes(Vec<(Vec<u8>, Vec<u8>)>);

impl Attributes {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod attributes {
    use super::Attributes;
    use rustix::buffer::spare_capacity;
    use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr};
    use rustix::io::Errno;
    use std::fs::File;
    use std::io;

    /// As many bytes as Linux allows for a value, and for all names.
    const MAX_BYTES: usize = 64 << 10;
    const LIST: &str = "system.posix_acl_access";
    /// Lists of rights, of whatever kind of file system.
    const LISTS: &[u8] = b"system.";
    /// What is kept where it can be: notes of users, and the label that SELinux goes by.
    const NOTES: [&[u8]; 2] = [b"user.", b"security.selinux"];

    impl Attributes {
        pub(super) fn of(file: &File) -> io::Result<Self> {
            let mut names = Vec::with_capacity(MAX_BYTES);
            match flistxattr(file, spare_capacity(&mut names)) {
                Ok(_) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Self::default()),
                Err(error) => return Err(error.into()),
            }
            let wanted = |name: &&[u8]| name.starts_with(LISTS) || NOTES.iter().any(|note| name.starts_with(note));
            let attribute = |name: &[u8]| {
                let mut value = Vec::with_capacity(MAX_BYTES);
                match fgetxattr(file, name, spare_capacity(&mut value)) {
                    Ok(_) => Ok(Some((name.to_vec(), value))),
                    Err(Errno::NODATA) => Ok(None),
                    Err(_) if !name.starts_with(LISTS) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            };
            let attributes = names.split(|byte| *byte == 0).filter(wanted).map(attribute);
            attributes.filter_map(io::Result::transpose).collect::<io::Result<_>>().map(Self)
        }

        /// Takes away a list of rights that the file's directory gave it. Whether it has none now.
        pub(super) fn drop_list(file: &File) -> bool {
            matches!(fremovexattr(file, LIST), Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS))
        }

        /// Gives what can be given, and lists of rights only if they are to be kept. Whether none is missing.
        pub(super) fn give(&self, file: &File, with_lists: bool) -> bool {
            let mut has_all = true;
            for (name, value) in &self.0 {
                let is_list = name.starts_with(LISTS);
                let given =
                    (with_lists || !is_list) && fsetxattr(file, name.as_slice(), value, XattrFlags::empty()).is_ok();
                has_all &= given || !is_list;
            }
            has_all
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "Linux has them")]
impl Attributes {
    fn of(_file: &File) -> io::Result<Self> {
        Ok(Self::default())
    }

    fn drop_list(_file: &File) -> bool {
        true
    }

    fn give(&self, _file: &File, _with_lists: bool) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::without_group;

    #[test]
    fn nobody_gains_a_right_where_the_group_cannot_be_kept() {
        let modes = [(0o600, 0o600), (0o640, 0o600), (0o660, 0o600), (0o644, 0o644), (0o604, 0o600), (0o664, 0o644)];
        for (before, after) in modes {
            assert_eq!(without_group(before), after, "{before:o}");
        }
    }
}
