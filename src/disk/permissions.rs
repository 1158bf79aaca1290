//! Files and directories that other users may look into, and how to close them.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Which users may read the file that takes another's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Those who may read the file, or fewer.
    Kept,
    /// Its owner.
    OwnerAlone,
}

/// What others may look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposed {
    /// Its mode, without the kind of file.
    pub mode: u32,
    /// The mode that it should have.
    pub wanted: u32,
}

/// Looks whether a file or directory of this user gives others any right. `None` if not, if it belongs to another user, or if it is
/// not there. Of a symbolic link, the file that it names counts.
#[must_use]
pub fn look(path: &Path) -> Option<Exposed> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let found = fs::metadata(path).ok()?;
        let is_ours = found.uid() == crate::process::user();
        let wanted = if found.is_dir() { 0o700 } else { 0o600 };
        let mode = found.mode() & 0o7777;
        let is_wanted = is_ours && (found.is_dir() || found.is_file()) && mode & 0o077 != 0;
        is_wanted.then_some(Exposed { mode, wanted })
    }
    #[cfg(not(unix))]
    {
        let _ = fs::metadata(path);
        None
    }
}

/// Whether [`close`] would get to it.
#[must_use]
pub fn can_close(root: &Path, path: &Path) -> bool {
    open_below(root, path).is_ok()
}

/// Takes other users' rights from a file or directory below `root`. It follows no symbolic link below it, and touches nothing
/// of another user's.
pub fn close(root: &Path, path: &Path) -> io::Result<()> {
    let file = open_below(root, path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let wanted = if file.metadata()?.is_dir() { 0o700 } else { 0o600 };
        super::point("chmod", path)?;
        file.set_permissions(fs::Permissions::from_mode(wanted))?;
    }
    drop(file);
    Ok(())
}

/// Opens what is at `path`, component by component from `root`.
#[cfg(unix)]
fn open_below(root: &Path, path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, openat};
    use std::os::unix::fs::MetadataExt;
    use std::path::Component;
    let refused = |why: &str| io::Error::new(io::ErrorKind::PermissionDenied, why);
    let below = path.strip_prefix(root).map_err(|_| refused("it lies elsewhere"))?;
    let mut here = File::open(root)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    for component in below.components() {
        let Component::Normal(name) = component else { return Err(refused("it lies elsewhere")) };
        here = openat(&here, name, flags, Mode::empty())?.into();
    }
    let found = here.metadata()?;
    if found.uid() != crate::process::user() {
        return Err(refused("it belongs to another user"));
    }
    if !found.is_dir() && (!found.is_file() || found.nlink() > 1) {
        return Err(refused("it is not a file, or has several names"));
    }
    Ok(here)
}

#[cfg(not(unix))]
fn open_below(_root: &Path, _path: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn nothing_is_closed_by_way_of_a_link_or_outside_the_root() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("root");
        let elsewhere = directory.path().join("elsewhere");
        for path in [&root, &elsewhere] {
            fs::create_dir(path).expect("made");
            File::create(path.join("file")).expect("made");
        }
        symlink(&elsewhere, root.join("link")).expect("linked");
        symlink(elsewhere.join("file"), root.join("direct")).expect("linked");
        fs::hard_link(elsewhere.join("file"), root.join("second name")).expect("linked");
        let mode = |path: &Path| fs::metadata(path).expect("found").permissions().mode() & 0o777;
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("opened");
        open(&elsewhere.join("file"));
        open(&root.join("file"));
        let beyond = root.join("..").join("elsewhere").join("file");
        let others = [root.join("link").join("file"), root.join("direct"), root.join("second name"), beyond];
        for path in others.iter().chain([&elsewhere.join("file")]) {
            assert!(close(&root, path).is_err() && !can_close(&root, path), "{path:?}");
        }
        assert_eq!(mode(&elsewhere.join("file")), 0o644);
        let exposed = look(&root.join("file")).expect("exposed");
        assert_eq!((exposed.mode, exposed.wanted), (0o644, 0o600));
        close(&root, &root.join("file")).expect("closed");
        assert_eq!(mode(&root.join("file")), 0o600);
        assert_eq!(look(&root.join("file")), None);
    }
}
