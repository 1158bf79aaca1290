//! The directory of lock files: made for the user alone, and refused, with reason and path, where others could play
//! with it. Much of this needs a second user, so only root can test it.

#![cfg(unix)]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers and roles are part of their tests")]
#![allow(clippy::disallowed_methods, reason = "who moves directories about is not us")]

mod support;

use oauth_refresh_lock::disk::{Sharing, open_permanent};
use oauth_refresh_lock::error::{Code, Result};
use oauth_refresh_lock::lock::private_dir;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::time::Instant;
use support::child::{Child, hear, play_or_test, say};
use support::files::{Make, fifo, inode, link, mode, names, put, set_mode, snapshot, text};
use support::{HUNG, assert_names_path_and_no_secret, is_reachable, is_root, skipped, without_hanging};
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
        let child = Child::spawn_as(NOBODY, "is there", &["-"]);
        child.expect("there");
        child
    })
}

fn give(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
}

/// Asserts that no lock file can be opened at `base` because of what is at `path`, and that nothing is changed by that.
fn assert_refused(base: &Path, path: &Path, reason: &str) {
    let root = base.ancestors().find(|path| path.parent() == Some(&std::env::temp_dir().canonicalize().unwrap()));
    let before = snapshot(root.expect("in the directory for temporary files"));
    let error = open(base).expect_err(reason);
    assert_eq!(error.code, Code::LockUnavailable);
    assert_names_path_and_no_secret(&error, path);
    assert!(error.message.contains(reason), "{error} does not say: {reason}");
    assert_eq!(snapshot(root.unwrap()), before, "{reason}");
}

#[test]
fn a_child_that_fails_is_noticed() {
    play_or_test(|role, arguments| {
        let base = Path::new(&arguments[0]);
        match role {
            "opens under a umask" => {
                let mask = u32::from_str_radix(&arguments[1], 8).unwrap();
                rustix::process::umask(rustix::fs::Mode::from_bits_truncate(mask as _));
                open(base).unwrap();
                open(base).unwrap();
            }
            "opens" => drop(open(base).unwrap()),
            "is refused" => say(&open(base).unwrap_err().message),
            "locks" => locks(base),
            "is there" => {
                say("there");
                hear();
            }
            "trusts" => {
                private_dir::trust(Path::new(&arguments[1]));
                open(base).unwrap();
            }
            "trusts and is refused" => {
                private_dir::trust(Path::new(&arguments[1]));
                say(&open(base).unwrap_err().message);
            }
            "plays tricks" => plays_tricks(base, Path::new(&arguments[1])),
            other => panic!("no such role: {other}"),
        }
    });
}

// What is made

#[test]
fn lock_file_and_directories_are_for_the_user_alone_whatever_the_umask() {
    for mask in ["000", "002", "022", "077", "177", "277", "777"] {
        let place = Place::new();
        let base = place.path("a/b/key");
        Child::spawn("opens under a umask", &[as_str(&base), mask]).ends_well();
        let modes: Vec<_> = base.ancestors().take(3).map(mode).collect();
        assert_eq!(modes, [0o600, 0o700, 0o700], "{mask}");
    }
}

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
fn who_comes_first_together_finds_one_directory() {
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
        assert_eq!(mode(base.parent().unwrap()), given);
        assert_eq!(mode(&base), 0o600);
    }
}

// Directories

#[test]
fn a_lock_directory_that_is_a_symbolic_link_is_refused() {
    let place = Place::new();
    place.directory("elsewhere", 0o700);
    for (name, target) in [("to a directory", "elsewhere"), ("to nothing", "nothing"), ("to itself", "to itself")] {
        let directory = place.path(name);
        link(&directory, target);
        assert_refused(&directory.join("key"), &directory, "a symbolic link");
    }
}

#[test]
fn symbolic_links_on_the_way_are_followed() {
    let place = Place::new();
    let real = place.directory("real/state", 0o700);
    link(&place.path("absolute"), &real);
    link(&place.path("real/relative"), "../absolute");
    link(&place.path("up"), "real/state/..");
    for way in ["absolute", "real/relative", "up/state", "real/../absolute/."] {
        open(&place.path(way).join("locks/key")).unwrap();
    }
    assert_eq!(names(&real.join("locks")), ["key"]);
}

#[test]
fn a_symbolic_link_on_the_way_to_nothing_or_in_a_ring_is_refused() {
    let place = Place::new();
    link(&place.path("dangling"), "unmounted/disk");
    link(&place.path("one"), "two");
    link(&place.path("two"), "one");
    for name in ["dangling", "one"] {
        assert_refused(&place.path(name).join("locks/key"), &place.path(name), "cannot get to the directory");
    }
}

#[test]
fn a_way_through_what_is_no_directory_is_refused() {
    let kinds: [(&str, Make); 3] = [
        ("a file", |path| put(path, "SECRET")),
        ("a FIFO", fifo),
        ("a socket", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
    ];
    for (kind, make) in kinds {
        let place = Place::new();
        let path = place.path("thing");
        make(&path);
        assert_refused(&path.join("key"), &path, kind);
        assert_refused(&path.join("locks/key"), &path, kind);
    }
}

#[test]
fn a_directory_that_everyone_may_write_to_is_refused_at_any_level_unless_it_is_sticky() {
    let _somebody = somebody_else();
    for given in [0o777, 0o757, 0o702, 0o2777] {
        let place = Place::new();
        let open_to_all = place.directory("open", given);
        fs::create_dir_all(open_to_all.join("state/locks")).unwrap();
        for base in ["key", "locks/key", "state/locks/key"] {
            assert_refused(&open_to_all.join(base), &open_to_all, "everyone");
        }
        set_mode(&open_to_all, given | 0o1000);
        for base in ["key", "locks/key", "state/locks/key"] {
            open(&open_to_all.join(base)).unwrap();
        }
    }
}

#[test]
fn a_link_out_of_a_directory_that_everyone_may_write_to_is_refused() {
    let _somebody = somebody_else();
    let place = Place::new();
    let state = place.directory("state", 0o700);
    let open_to_all = place.directory("open", 0o777);
    link(&open_to_all.join("link"), &state);
    assert_refused(&open_to_all.join("link/locks/key"), &open_to_all, "everyone");
    assert!(names(&state).is_empty());
}

/// Runs a program as this user in a PID namespace of its own, where it sees no other processes.
fn alone_as(user: u32) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "setpriv", "--clear-groups"]);
    command.args(["--reuid", &user.to_string(), "--regid", &user.to_string()]).current_dir("/");
    command
}

/// Whether this machine has what [`alone_as`] needs.
fn can_be_alone() -> bool {
    let has_namespaces = || alone_as(SOMEBODY).arg("true").status().is_ok_and(|status| status.success());
    cfg!(target_os = "linux") && is_root() && has_namespaces() && is_reachable(&std::env::current_exe().unwrap())
}

#[test]
fn a_volume_of_roots_that_everyone_may_write_to_is_used_where_nobody_else_is() {
    if !can_be_alone() {
        return skipped("no root, no unshare, no setpriv, or a test binary that nobody but root can run");
    }
    for given in [0o777, 0o2777] {
        let place = Place::new();
        let volume = place.directory("volume", given);
        let base = volume.join("state/locks/key");
        Child::spawn_through(alone_as(SOMEBODY), "opens", &[as_str(&base)]).ends_well();
        Child::spawn_through(alone_as(SOMEBODY), "opens", &[as_str(&base)]).ends_well();
        let modes: Vec<_> = base.ancestors().take(3).map(mode).collect();
        assert_eq!(modes, [0o600, 0o700, 0o700], "{given:o}");
        assert_eq!(fs::metadata(&base).unwrap().uid(), SOMEBODY);
        // So is a container's root, who owns the volume.
        Child::spawn_through(alone_as(ROOT), "opens", &[as_str(&volume.join("roots/locks/key"))]).ends_well();
    }
}

#[test]
fn what_is_wrong_in_a_volume_is_refused_although_nobody_else_is_there() {
    if !can_be_alone() {
        return skipped("no root, no unshare, no setpriv, or a test binary that nobody but root can run");
    }
    let place = Place::new();
    let volume = place.directory("volume", 0o777);
    let refused = |base: &Path, why: &str| {
        for arguments in [vec!["is refused"], vec!["trusts and is refused", as_str(&volume)]] {
            let given: Vec<_> = [as_str(base)].into_iter().chain(arguments[1..].iter().copied()).collect();
            let child = Child::spawn_through(alone_as(SOMEBODY), arguments[0], &given);
            let message = child.listen();
            assert!(message.contains(why), "{message}");
            child.ends_well();
        }
    };
    give(&place.directory("volume/others", 0o700), NOBODY);
    refused(&volume.join("others/locks/key"), "another user (uid 65534");
    give(&place.directory("volume/ours", 0o700), SOMEBODY);
    link(&volume.join("link"), "ours");
    give(&volume.join("link"), NOBODY);
    refused(&volume.join("link/locks/key"), "another user (uid 65534");
    give(&place.directory("volume/ours/locks", 0o700), SOMEBODY);
    link(&volume.join("ours/to"), "locks");
    give(&volume.join("ours/to"), SOMEBODY);
    refused(&volume.join("ours/to/key"), "a symbolic link");
    assert!(names(&volume.join("ours/locks")).is_empty());
}

#[test]
fn only_a_trusted_volume_is_open_and_no_volume_with_somebody_else_at_work() {
    let Some(_somebody) = somebody_else() else { return skipped("only root can act as two users") };
    let place = Place::new();
    let volume = place.directory("volume", 0o777);
    let base = volume.join("state/locks/key");
    let message = |child: Child| {
        let message = child.listen();
        child.ends_well();
        message
    };
    let refused = message(Child::spawn_as(SOMEBODY, "is refused", &[as_str(&base)]));
    assert!(refused.contains("everyone may") && refused.contains("OAUTH_REFRESH_LOCK_TRUSTED_VOLUME"), "{refused}");
    // The operator's word for another directory is none for this one.
    let other = place.directory("volume/other", 0o777);
    let refused = message(Child::spawn_as(SOMEBODY, "trusts and is refused", &[as_str(&base), as_str(&other)]));
    assert!(refused.contains("everyone may"), "{refused}");
    assert_eq!(names(&volume), ["other"]);

    // By a link to it as well; and what lies in it may be open, as all is on a drive that knows no modes.
    link(&place.path("mounted"), "volume");
    Child::spawn_as(SOMEBODY, "trusts", &[as_str(&base), as_str(&place.path("mounted"))]).ends_well();
    set_mode(&volume.join("state"), 0o777);
    set_mode(&volume.join("state/locks"), 0o777);
    Child::spawn_as(SOMEBODY, "trusts", &[as_str(&base), as_str(&volume)]).ends_well();
    assert_eq!(mode(&base), 0o600);
    // A link that leads out of it leads out of what is trusted.
    place.directory("elsewhere", 0o777);
    link(&volume.join("out"), "../elsewhere");
    let base = volume.join("out/locks/key");
    let refused = message(Child::spawn_as(SOMEBODY, "trusts and is refused", &[as_str(&base), as_str(&volume)]));
    assert!(refused.contains("everyone may") && refused.contains("elsewhere"), "{refused}");
}

#[test]
fn a_directory_of_ones_own_that_everyone_may_write_to_is_for_its_owner_to_close() {
    if !can_be_alone() {
        return skipped("no root, no unshare, no setpriv, or a test binary that nobody but root can run");
    }
    let place = Place::new();
    let own = place.directory("own", 0o777);
    give(&own, SOMEBODY);
    let child = Child::spawn_through(alone_as(SOMEBODY), "is refused", &[as_str(&own.join("locks/key"))]);
    let message = child.listen();
    assert!(message.contains("run chmod o-w"), "{message}");
    child.ends_well();
}

#[test]
fn group_write_is_the_owners_business() {
    let place = Place::new();
    let base = place.directory("project", 0o775).join("state/locks/key");
    fs::create_dir_all(base.parent().unwrap()).unwrap();
    set_mode(base.parent().unwrap(), 0o775);
    open(&base).unwrap();
    assert_eq!(mode(&base), 0o600);
}

#[test]
fn another_users_directory_is_refused_at_any_level_even_by_root() {
    if !is_root() {
        return skipped("only root can give a directory away");
    }
    for level in ["home", "home/state", "home/state/locks"] {
        let place = Place::new();
        let base = place.directory("home/state/locks", 0o755).join("key");
        give(&place.path(level), SOMEBODY);
        assert_refused(&base, &place.path(level), "another user (uid 54321");
        // And before anything is made below it.
        assert_refused(&place.path(level).join("new/locks/key"), &place.path(level), "another user (uid 54321");
    }
}

#[test]
fn another_users_link_is_refused_wherever_it_leads() {
    if !is_root() {
        return skipped("only root can give a link away");
    }
    let place = Place::new();
    place.directory("state/locks", 0o700);
    let trap = place.directory("tmp", 0o1777).join("trap");
    link(&trap, place.path("state"));
    give(&trap, SOMEBODY);
    assert_refused(&trap.join("locks/key"), &trap, "another user (uid 54321");
    give(&trap, ROOT);
    open(&trap.join("locks/key")).unwrap();
}

#[test]
fn another_users_directory_is_refused_by_a_user_as_well() {
    if !is_root() {
        return skipped("only root can act as two users");
    }
    let place = Place::new();
    let base = place.directory("locks", 0o777).join("key");
    give(base.parent().unwrap(), SOMEBODY);
    let child = Child::spawn_as(NOBODY, "is refused", &[as_str(&base)]);
    let message = child.listen();
    assert!(message.contains("another user (uid 54321"), "{message}");
    child.ends_well();
    // Its owner may use it, if nobody else can write to it.
    set_mode(base.parent().unwrap(), 0o755);
    Child::spawn_as(SOMEBODY, "opens", &[as_str(&base)]).ends_well();
}

#[test]
fn a_directory_of_roots_is_used_by_a_user_who_may_write_to_it() {
    if !is_root() {
        return skipped("only root can act as two users");
    }
    let place = Place::new();
    let base = place.directory("locks", 0o755).join("key");
    let child = Child::spawn_as(NOBODY, "is refused", &[as_str(&base)]);
    let message = child.listen();
    assert!(message.contains("Permission denied") && message.contains(as_str(&base)), "{message}");
    child.ends_well();
    set_mode(base.parent().unwrap(), 0o1777);
    Child::spawn_as(NOBODY, "opens", &[as_str(&base)]).ends_well();
    assert_eq!((mode(&base), fs::metadata(&base).unwrap().uid()), (0o600, NOBODY));
    // That user could replace it, so nobody else uses it.
    assert_refused(&base, &base, "another user (uid 65534");
}

#[test]
fn a_directory_that_was_good_is_looked_at_again_when_it_is_another_or_was_changed() {
    let place = Place::new();
    let base = place.path("locks/key");
    let directory = base.parent().unwrap();
    open(&base).unwrap();
    open(&base).unwrap();

    set_mode(directory, 0o777);
    assert_refused(&base, directory, "everyone");
    set_mode(directory, 0o700);
    open(&base).unwrap();

    let aside = place.path("aside");
    fs::rename(directory, &aside).unwrap();
    link(directory, &aside);
    assert_refused(&base, directory, "a symbolic link");
    fs::remove_file(directory).unwrap();
    put(directory, "");
    assert_refused(&base, directory, "a file");
    fs::remove_file(directory).unwrap();
    open(&base).unwrap();
    assert_ne!(inode(&base), inode(&aside.join("key")));

    if is_root() {
        give(directory, SOMEBODY);
        assert_refused(&base, directory, "another user");
    }
}

#[test]
fn in_a_user_namespace_the_way_may_lead_through_what_has_no_owner_there() {
    if !cfg!(target_os = "linux") {
        return skipped("only Linux has user namespaces");
    }
    if !is_root() {
        return skipped("only root can act as another user");
    }
    let place = Place::new();
    give(place.0.path(), SOMEBODY);
    let base = place.path("locks/key");
    let enter = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups"]).args(arguments).current_dir("/");
        command
    };
    let unshare = ["unshare", "--user", "--map-root-user"];
    let is_there = |arguments: &[&str]| enter(arguments).arg("true").status().is_ok_and(|status| status.success());
    if !is_there(&unshare) || !is_reachable(&std::env::current_exe().unwrap()) {
        return skipped("no setpriv, no user namespaces, or a test binary that nobody but root can run");
    }
    // In there root is this user, and to all others belongs the number that "nobody" has elsewhere.
    Child::spawn_through(enter(&unshare), "opens", &[as_str(&base)]).ends_well();
    assert_eq!(fs::metadata(&base).unwrap().uid(), SOMEBODY);
    // The lock directory itself must belong to somebody.
    let unowned = place.directory("unowned", 0o1777).join("key");
    chown(unowned.parent().unwrap(), Some(NOBODY), None).unwrap();
    let child = Child::spawn_through(enter(&unshare), "is refused", &[as_str(&unowned)]);
    let message = child.listen();
    assert!(message.contains("another user (uid 65534"), "{message}");
    child.ends_well();
    // And outside "nobody" is a user like others.
    give(place.0.path(), NOBODY);
    assert_refused(&base, &place.path("").components().collect::<PathBuf>(), "another user (uid 65534");
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
    put(&base, "");
    set_mode(&base, 0o666);
    give(&base, SOMEBODY);
    assert_refused(&base, &base, "another user (uid 54321");
    let child = Child::spawn_as(NOBODY, "is refused", &[as_str(&base)]);
    assert!(child.listen().contains("another user (uid 54321"));
    child.ends_well();
    // One of root's that a user has no right to says whose it is.
    give(&base, ROOT);
    set_mode(&base, 0o600);
    let child = Child::spawn_as(NOBODY, "is refused", &[as_str(&base)]);
    assert!(child.listen().contains("another user (uid 0"));
    child.ends_well();
}

// Users who share a directory

/// Locks the file, tells it, and lets go on a word.
fn locks(base: &Path) {
    let file = open(base).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    say("holding");
    hear();
}

#[test]
fn users_exclude_each_other_in_a_directory_that_was_made_to_be_shared() {
    if !is_root() {
        return skipped("only root can act as two users");
    }
    for first in [ROOT, NOBODY] {
        let place = Place::new();
        let base = place.directory("shared", 0o2770).join("key");
        let directory = base.parent().unwrap();
        // The owner stays root: who owns a directory can do what they like to the locks in it.
        chown(directory, Some(ROOT), Some(NOBODY)).unwrap();
        set_mode(directory, 0o2770);
        assert_eq!(private_dir::check(directory).unwrap().sharing, Sharing::Shared);

        let mut holder = Child::spawn_as(first, "locks", &[as_str(&base)]);
        holder.expect("holding");
        assert_eq!((mode(&base), fs::metadata(&base).unwrap().gid()), (0o660, NOBODY));
        let second = if first == ROOT { NOBODY } else { ROOT };
        let mine = open(&base).unwrap();
        assert!(flock(&mine, FlockOperation::NonBlockingLockExclusive).is_err(), "two inside");
        let mut other = Child::spawn_as(second, "locks", &[as_str(&base)]);
        assert_eq!(other.said(), None);
        holder.tell("let go");
        other.expect("holding");
        assert!(flock(&mine, FlockOperation::NonBlockingLockExclusive).is_err(), "two inside");
        other.tell("let go");
        holder.ends_well();
        other.ends_well();
        // Who is not of the group has no right there.
        let child = Child::spawn_as(SOMEBODY, "is refused", &[as_str(&base)]);
        assert!(child.listen().contains("Permission denied"));
        child.ends_well();
    }
}

#[test]
fn only_a_directory_that_was_made_for_a_group_is_shared() {
    for (given, sharing) in [
        (0o2770, Sharing::Shared),
        (0o3770, Sharing::Shared),
        (0o2775, Sharing::Shared),
        (0o770, Sharing::Private),
        (0o2755, Sharing::Private),
        // Everyone may write there, so files of others are not the group's.
        (0o1777, Sharing::Private),
        (0o3777, Sharing::Private),
    ] {
        let place = Place::new();
        let directory = place.directory("locks", given);
        assert_eq!(private_dir::check(&directory).unwrap().sharing, sharing, "{given:o}");
    }
}

#[test]
fn a_shared_file_whose_maker_died_before_it_was_for_the_group_is_for_the_group_at_its_next_use() {
    let place = Place::new();
    let base = place.directory("shared", 0o2770).join("key");
    put(&base, "");
    set_mode(&base, 0o600);
    open(&base).unwrap();
    assert_eq!(mode(&base), 0o660);
}

#[test]
fn a_shared_directory_protects_from_links_and_second_names_too_and_shares_no_journal() {
    if !is_root() {
        return skipped("only root can give a file away");
    }
    let place = Place::new();
    let directory = place.directory("shared", 0o2770);
    let victim = place.path("victim");
    put(&victim, "SECRET");
    link(&directory.join("link"), &victim);
    fs::hard_link(&victim, directory.join("second")).unwrap();
    assert_refused(&directory.join("link"), &directory.join("link"), "a symbolic link");
    assert_refused(&directory.join("second"), &directory.join("second"), "2 names");
    put(&directory.join("journal"), "");
    give(&directory.join("journal"), SOMEBODY);
    open(&directory.join("journal")).unwrap();
    let error = open_permanent(&directory.join("journal")).unwrap_err();
    assert!(error.to_string().contains("another user"), "{error}");
}

/// Puts one thing after the other in a lock file's place, all of them ways to a victim, until told to stop.
fn plays_tricks(base: &Path, victim: &Path) {
    let stop = std::thread::spawn(hear);
    let mut rounds = 0_u32;
    while !stop.is_finished() {
        let _ = fs::remove_file(base);
        let _ = match rounds % 4 {
            0 => std::os::unix::fs::symlink(victim, base),
            1 => fs::hard_link(victim, base),
            2 => File::create_new(base).map(drop),
            _ => std::os::unix::fs::symlink(victim.with_file_name("new"), base),
        };
        rounds += 1;
        if rounds == 100 {
            say("playing");
        }
    }
}

#[test]
fn a_hostile_user_can_make_us_fail_and_no_more() {
    if !is_root() {
        return skipped("only root can act as two users");
    }
    let place = Place::new();
    let base = place.directory("tmp", 0o1777).join("key");
    // Writable for all, so that not even a kernel that protects hard links refuses to give it a second name.
    let victim = place.path("victim");
    put(&victim, "SECRET");
    set_mode(&victim, 0o666);
    let mut hostile = Child::spawn_as(NOBODY, "plays tricks", &[as_str(&base), as_str(&victim)]);
    hostile.expect("playing");
    let mut refused = BTreeSet::new();
    let (started, mut rounds) = (Instant::now(), 0);
    while rounds < 5_000 || refused.len() < 3 {
        assert!(started.elapsed() < HUNG, "only these tricks met us: {refused:?}");
        rounds += 1;
        match open(&base) {
            Ok(file) => {
                let found = file.metadata().unwrap();
                assert_eq!((found.uid(), found.mode() & 0o7777), (ROOT, 0o600));
                // Ours now, and the other one can't take it away, for the directory is sticky.
                assert_eq!(inode(&base), found.ino());
                fs::remove_file(&base).unwrap();
            }
            Err(error) => {
                assert_eq!(error.code, Code::LockUnavailable);
                let trick =
                    ["a symbolic link", "2 names", "another user"].into_iter().find(|why| error.message.contains(why));
                refused.extend(trick);
                if trick == Some("2 names") {
                    // A name of root's file: it lies there for good unless root removes it.
                    fs::remove_file(&base).unwrap();
                }
            }
        }
    }
    hostile.tell("stop");
    hostile.ends_well();
    assert_eq!(text(&victim), "SECRET");
    assert_eq!((fs::metadata(&victim).unwrap().uid(), mode(&victim)), (ROOT, 0o666));
    assert_eq!(names(place.0.path()), ["tmp", "victim"]);
}
