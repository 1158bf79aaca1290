//! The directory of lock files: made for the user alone, and refused, with reason and path, where others could play
//! with it. Much of this needs a second user, so only root can test it.

#![allow(clippy::disallowed_methods, reason = "another program moves directories about")]

mod directories;
mod users;
mod volumes;

use crate::support::child::{Child, Role, hear, say};
use crate::support::files::{Make, fifo, inode, link, mode, put, set_mode, snapshot, text};
use crate::support::locks::take;
use crate::support::{HUNG, assert_names_path_and_no_secret, is_root, skipped, without_hanging};
use oauth_refresh_lock::disk::open_permanent;
use oauth_refresh_lock::error::{Code, Result};
use oauth_refresh_lock::lock::{self, Target, private_dir};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use tempfile::TempDir;

const ROOT: u32 = 0;
const NOBODY: u32 = 65534;
const SOMEBODY: u32 = 54321;

/// A directory that everybody can get to and only this user can change.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        set_mode(this.0.path(), 0o755);
        this
    }

    /// The real path, as errors name it.
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    /// A directory of this mode.
    fn directory(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        set_mode(&path, mode);
        path
    }
}

fn as_str(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Opens a lock file as the lock does.
fn open(base: &Path) -> Result<File> {
    private_dir::open(base, private_dir::check(base.parent().unwrap())?)
}

/// A process of another user's, where one can be made: in a directory of root's it is the reason to refuse.
fn somebody_else() -> Option<Child> {
    is_root().then(|| {
        let child = Child::spawn_as(NOBODY, "be there", &["-"]);
        child.expect("there");
        child
    })
}

fn give(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
}

/// A way to use a lock file.
type Use = fn(&Path) -> Result<()>;

const OPENED: Use = |base| open(base).map(drop);
const LOCKED: Use = |base| {
    lock::acquire(&Target::never_taken_over(base, &crate::support::clocks::system()), |_| panic!("called")).map(drop)
};
const AWAITED: Use =
    |base| lock::acquire_blocking(&Target::never_taken_over(base, &crate::support::clocks::system()), HUNG).map(drop);

/// Asserts that no lock file can be used at `base` because of what is at `path`, and that nothing is changed by that.
fn assert_refused(base: &Path, path: &Path, reason: &str) {
    assert_refuses(&[OPENED, LOCKED, AWAITED], base, path, reason);
}

fn assert_refuses(uses: &[Use], base: &Path, path: &Path, reason: &str) {
    let root = base.ancestors().find(|path| path.parent() == Some(&std::env::temp_dir().canonicalize().unwrap()));
    let before = snapshot(root.expect("in the directory for temporary files"));
    for used in uses {
        let error = used(base).expect_err(reason);
        assert_eq!(error.code, Code::LockUnavailable);
        assert_names_path_and_no_secret(&error, path);
        assert!(error.message.contains(reason), "{error} does not say: {reason}");
    }
    assert_eq!(snapshot(root.unwrap()), before, "{reason}");
}

/// What the children of these tests do.
pub(crate) const ROLES: &[Role] = &[
    ("open a lock file", |arguments| drop(open(Path::new(&arguments[0])).unwrap())),
    ("be refused a lock file", |arguments| say(&open(Path::new(&arguments[0])).unwrap_err().message)),
    ("lock a shared file", |arguments| users::locks(Path::new(&arguments[0]))),
    ("be there", |_| {
        say("there");
        hear();
    }),
    ("trust a volume", |arguments| {
        private_dir::trust(Path::new(&arguments[1]));
        open(Path::new(&arguments[0])).unwrap();
    }),
    ("trust a volume and be refused", |arguments| {
        private_dir::trust(Path::new(&arguments[1]));
        say(&open(Path::new(&arguments[0])).unwrap_err().message);
    }),
    ("play tricks", |arguments| users::plays_tricks(Path::new(&arguments[0]), Path::new(&arguments[1]))),
];

// What is made

#[test]
fn a_directory_that_is_made_in_a_shared_one_is_for_the_user_alone() {
    let place = Place::new();
    let shared = place.directory("shared", 0o2770);
    open(&shared.join("locks/key")).unwrap();
    assert_eq!(mode(&shared.join("locks")), 0o700);
    assert_eq!(mode(&shared.join("locks/key")), 0o600);
    assert_eq!(mode(&shared), 0o2770);
}

#[test]
fn several_that_come_first_together_find_one_directory() {
    const THREADS: usize = 8;
    for _ in 0..50 {
        let place = Place::new();
        let base = place.path("a/b/c/key");
        let start = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    assert_eq!(open(&base).unwrap().metadata().unwrap().ino(), inode(&base));
                });
            }
        });
    }
}

#[test]
fn directories_that_exist_keep_their_mode() {
    for given in [0o700, 0o755, 0o750, 0o775, 0o770] {
        let place = Place::new();
        let base = place.directory("locks", given).join("key");
        open(&base).unwrap();
        drop(take(&base));
        assert_eq!(mode(base.parent().unwrap()), given);
        assert_eq!(mode(&base), 0o600);
    }
}

// Files

#[test]
fn what_is_no_lock_file_is_refused_by_its_name_and_left_alone() {
    let kinds: [(&str, &str, Make); 8] = [
        ("a directory", "a directory", |path| fs::create_dir(path).unwrap()),
        ("a FIFO", "a FIFO", fifo),
        ("a socket", "a socket", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
        ("a symbolic link to a file", "a symbolic link", |path| {
            put(&path.with_file_name("target"), "SECRET");
            link(path, "target");
        }),
        ("a symbolic link to nothing", "a symbolic link", |path| link(path, "nothing")),
        ("a symbolic link to a directory", "a symbolic link", |path| link(path, ".")),
        ("a symbolic link to itself", "a symbolic link", |path| link(path, path)),
        ("a symbolic link to a device", "a symbolic link", |path| link(path, "/dev/null")),
    ];
    for (name, kind, make) in kinds {
        let place = Place::new();
        let base = place.directory("locks", 0o700).join("key");
        // What the first lock of a directory leaves in it is there.
        drop(take(&base.with_file_name("another")));
        make(&base);
        without_hanging(move || {
            assert_refused(&base, &base, kind);
            assert!(open_permanent(&base).unwrap_err().to_string().contains(kind), "{name}");
        });
    }
}

#[test]
fn a_device_is_refused() {
    let base = Path::new("/dev/null");
    let error = open_permanent(base).unwrap_err();
    assert!(error.to_string().contains("a device"), "{error}");
    let error = open_permanent(Path::new("/")).unwrap_err();
    assert!(error.to_string().contains("a directory"), "{error}");
}

#[test]
fn a_file_with_a_second_name_is_refused_and_left_alone() {
    let place = Place::new();
    let victim = place.path("victim");
    put(&victim, "SECRET");
    set_mode(&victim, 0o644);
    let base = place.directory("locks", 0o700).join("key");
    drop(take(&base.with_file_name("another")));
    fs::hard_link(&victim, &base).unwrap();
    assert_refused(&base, &base, "2 names");
    fs::remove_file(&victim).unwrap();
    open(&base).unwrap();
    assert_eq!((text(&base).as_str(), mode(&base)), ("SECRET", 0o644));
}

#[test]
fn another_users_file_is_refused_and_left_alone() {
    if !is_root() {
        return skipped("only root can give a file away");
    }
    let place = Place::new();
    let base = place.directory("locks", 0o1777).join("key");
    drop(take(&base.with_file_name("another")));
    put(&base, "");
    set_mode(&base, 0o666);
    give(&base, SOMEBODY);
    assert_refused(&base, &base, "another user (uid 54321");
    let child = Child::spawn_as(NOBODY, "be refused a lock file", &[as_str(&base)]);
    assert!(child.listen().contains("another user (uid 54321"));
    child.ends_well();
    // One of root's that a user has no right to says whose it is.
    give(&base, ROOT);
    set_mode(&base, 0o600);
    let child = Child::spawn_as(NOBODY, "be refused a lock file", &[as_str(&base)]);
    assert!(child.listen().contains("another user (uid 0"));
    child.ends_well();
}
