//! What the locks of a file system are worth: real ones where they can be mounted, and lock layers that lie.

use crate::support::child::{Child, Role, hear, say};
use crate::support::files::{Make, fifo, inode, link, mode, names, put, set_mode, snapshot};
use crate::support::{assert_names_path_and_no_secret, is_root, skipped, without_hanging};
use oauth_refresh_lock::error::{Code, Result};
use oauth_refresh_lock::lock::file_system::{self, FileSystemType, LockLayer, PROBE_FILE, Probe, Trust};
use oauth_refresh_lock::lock::private_dir::{self, LockDirectory};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};

/// The kernel's own.
struct Kernel;

impl LockLayer for Kernel {
    fn try_lock(&self, file: &File) -> io::Result<bool> {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// One that gives these answers in turn, and is asked no more than that.
struct Answers(Mutex<Vec<io::Result<bool>>>);

impl Answers {
    fn new(answers: impl IntoIterator<Item = io::Result<bool>>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Self(Mutex::new(answers))
    }

    fn are_all_given(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

impl LockLayer for Answers {
    fn try_lock(&self, _: &File) -> io::Result<bool> {
        self.0.lock().unwrap().pop().expect("asked too often")
    }
}

/// Grants whatever is asked for.
struct GrantsAll;

impl LockLayer for GrantsAll {
    fn try_lock(&self, _: &File) -> io::Result<bool> {
        Ok(true)
    }
}

fn probe(directory: &Path, layer: &dyn LockLayer) -> Result<Probe> {
    file_system::probe(directory, private_dir::check(directory)?, layer)
}

/// What the children of these tests do.
pub(crate) const ROLES: &[Role] = &[
    ("hold the probe", |arguments| {
        let file = File::open(Path::new(&arguments[0]).join(PROBE_FILE)).unwrap();
        assert!(Kernel.try_lock(&file).unwrap());
        say("holding");
        hear();
    }),
    ("probe", |arguments| drop(probe(Path::new(&arguments[0]), &Kernel).unwrap())),
    ("find out", |arguments| finds_out(Path::new(&arguments[0]), &arguments[1], &arguments[2])),
    ("find a read-only one", |arguments| finds_a_read_only_one(Path::new(&arguments[0]), &arguments[1])),
];

// Lock layers

#[test]
fn the_kernels_locks_exclude_here() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().canonicalize().unwrap().join("state/locks");
    let found = probe(&directory, &Kernel).unwrap();
    assert_eq!(found.trust, Trust::Kernel);
    assert_eq!(found.warning.is_none(), found.file_system.is_none_or(|file_system| file_system.is_local), "{found:?}");
    assert_eq!(names(&directory), [PROBE_FILE]);
    assert_eq!(mode(&directory.join(PROBE_FILE)), 0o600);
    // It holds nothing any more; but a process that another test has just forked may, until it executes its program.
    let file = File::open(directory.join(PROBE_FILE)).unwrap();
    without_hanging(move || flock(&file, FlockOperation::LockExclusive).unwrap());
}

#[test]
fn a_layer_that_grants_two_is_told_once_for_each_directory() {
    let place = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        let directory = place.path().canonicalize().unwrap().join(name);
        let first = probe(&directory, &GrantsAll).unwrap();
        assert_eq!(first.trust, Trust::Lies);
        let warning = first.warning.expect("a warning");
        assert_eq!((warning.code, warning.path.as_path()), ("lock_granted_twice", directory.as_path()));
        assert!(warning.message.contains(directory.to_str().unwrap()), "{warning:?}");
        // What is known is not asked again.
        let again = probe(&directory, &Answers::new([])).unwrap();
        assert_eq!(again, Probe { warning: None, ..again.clone() });
        assert_eq!((again.trust, again.file_system), (Trust::Lies, first.file_system));
    }
}

#[test]
fn another_file_system_in_the_same_place_is_probed_again() {
    let place = tempfile::tempdir().unwrap();
    let directory = private_dir::check(place.path()).unwrap();
    assert_eq!(file_system::probe(place.path(), directory, &GrantsAll).unwrap().trust, Trust::Lies);
    let mounted = LockDirectory { device: directory.device + 1, ..directory };
    assert_eq!(file_system::probe(place.path(), mounted, &Kernel).unwrap().trust, Trust::Kernel);
    let layer = Answers::new([Err(Errno::NOLCK.into())]);
    let found = file_system::probe(place.path(), directory, &layer).unwrap();
    assert_eq!(found.warning.map(|warning| warning.code), Some("lock_refused"));
}

#[test]
fn a_layer_that_refuses_is_told_with_its_reason() {
    let errnos = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::INVAL, Errno::NOSYS, Errno::IO, Errno::BADF];
    for errno in errnos.map(Errno::raw_os_error) {
        let refusal = || Err(io::Error::from_raw_os_error(errno));
        for answers in [vec![refusal()], vec![Ok(true), refusal()]] {
            let place = tempfile::tempdir().unwrap();
            let layer = Answers::new(answers);
            let found = probe(place.path(), &layer).unwrap();
            assert_eq!(found.trust, Trust::Refused(Some(errno)));
            let warning = found.warning.expect("a warning");
            assert_eq!(warning.code, "lock_refused");
            let reason = io::Error::from_raw_os_error(errno).to_string();
            assert!(warning.message.contains(&reason), "{warning:?}");
            assert!(layer.are_all_given());
        }
    }
}

#[test]
fn a_layer_that_is_interrupted_is_asked_again() {
    let interrupted = || Err(io::ErrorKind::Interrupted.into());
    let would_block = || Err(io::ErrorKind::WouldBlock.into());
    for (answers, trust) in [
        (vec![interrupted(), Ok(true), interrupted(), interrupted(), Ok(false)], Trust::Kernel),
        (vec![interrupted(), Ok(true), would_block()], Trust::Kernel),
        (vec![Ok(true), interrupted(), Ok(true)], Trust::Lies),
        (vec![Ok(true), Err(io::Error::other("refused without a number"))], Trust::Refused(None)),
    ] {
        let place = tempfile::tempdir().unwrap();
        let layer = Answers::new(answers);
        assert_eq!(probe(place.path(), &layer).unwrap().trust, trust);
        assert!(layer.are_all_given());
    }
}

#[test]
fn another_process_that_probes_at_the_same_moment_proves_that_locks_exclude() {
    let place = tempfile::tempdir().unwrap();
    Child::spawn("probe", &[place.path().to_str().unwrap()]).ends_well();
    let file = inode(&place.path().join(PROBE_FILE));
    let mut holder = Child::spawn("hold the probe", &[place.path().to_str().unwrap()]);
    holder.expect("holding");
    assert_eq!(probe(place.path(), &Kernel).unwrap().trust, Trust::Kernel);
    assert_eq!(inode(&place.path().join(PROBE_FILE)), file, "another file");
    holder.tell("let go");
    holder.ends_well();
}

#[test]
fn of_many_that_probe_together_one_tells() {
    const THREADS: usize = 8;
    let place = tempfile::tempdir().unwrap();
    let (start, told) = (Barrier::new(THREADS), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                let found = probe(place.path(), &GrantsAll).unwrap();
                assert_eq!(found.trust, Trust::Lies);
                told.fetch_add(usize::from(found.warning.is_some()), Ordering::SeqCst);
            });
        }
    });
    assert_eq!(told.into_inner(), 1);
}

// What stands in the way

#[test]
fn what_is_no_file_in_the_probes_place_is_refused_and_left_alone() {
    let tricks: [(&str, Make); 3] = [
        ("a symbolic link", |path| {
            put(&path.with_file_name("target"), "SECRET");
            link(path, "target");
        }),
        ("a FIFO", fifo),
        ("a directory", |path| std::fs::create_dir(path).unwrap()),
    ];
    for (kind, trick) in tricks {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(PROBE_FILE);
        trick(&path);
        let before = snapshot(place.path());
        let directory = place.path().to_owned();
        without_hanging(move || {
            let error = probe(&directory, &Kernel).unwrap_err();
            assert_eq!(error.code, Code::LockUnavailable);
            assert_names_path_and_no_secret(&error, &path);
            assert!(error.message.contains(kind), "{error}");
        });
        assert_eq!(snapshot(place.path()), before);
    }
}

#[test]
fn a_directory_without_the_right_to_write_is_refused_until_there_is_one() {
    if is_root() {
        return skipped("root has all rights");
    }
    let place = tempfile::tempdir().unwrap();
    set_mode(place.path(), 0o500);
    let error = probe(place.path(), &Kernel).unwrap_err();
    assert_eq!(error.code, Code::LockUnavailable);
    assert_names_path_and_no_secret(&error, &place.path().join(PROBE_FILE));
    set_mode(place.path(), 0o700);
    assert_eq!(probe(place.path(), &Kernel).unwrap().trust, Trust::Kernel);
}

// Real file systems

/// Where a file system of some kind may be found without mounting one.
#[cfg(target_os = "linux")]
#[test]
fn shared_memory_is_a_local_tmpfs() {
    let Ok(place) = tempfile::tempdir_in("/dev/shm") else {
        return skipped("no /dev/shm to write to");
    };
    let found = probe(&place.path().join("locks"), &Kernel).unwrap();
    assert_eq!(found.trust, Trust::Kernel);
    assert_eq!(found.file_system, Some(FileSystemType { name: "tmpfs", is_local: true }));
    assert_eq!(found.warning, None);
}

/// In a mount namespace of its own: mounts something, and probes a directory there.
fn finds_out(directory: &Path, mount: &str, name: &str) {
    let mounted = Command::new("sh").args(["-ec", mount]).current_dir(directory).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return say("cannot mount it");
    }
    let found = probe(&directory.join("mounted/state/locks"), &Kernel).unwrap();
    assert_eq!(found.trust, Trust::Kernel);
    assert_eq!(found.file_system.map(|file_system| file_system.name), Some(name));
    assert_eq!(found.warning.is_none(), found.file_system.unwrap().is_local);
    say("found out");
}

/// The same with one where nothing can be written.
fn finds_a_read_only_one(directory: &Path, mount: &str) {
    let mounted = Command::new("sh").args(["-ec", mount]).current_dir(directory).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return say("cannot mount it");
    }
    let mounted = directory.join("mounted");
    // The directories are missing, the probe file is missing, and everything is there.
    for (state, fault) in [("new", "new"), ("empty", "empty/probe"), ("used", "used/probe")] {
        let error = probe(&mounted.join(state), &Kernel).unwrap_err();
        assert_eq!(error.code, Code::LockUnavailable);
        assert_names_path_and_no_secret(&error, &mounted.join(fault));
        assert!(error.message.contains("Read-only file system; mount it writable"), "{error}");
    }
    say("found out");
}

/// Plays a role in a mount namespace of its own.
fn in_a_namespace(role: &str, arguments: &[&str]) {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().canonicalize().unwrap();
    std::fs::create_dir(directory.join("mounted")).unwrap();
    let mut unshare = Command::new("unshare");
    unshare.args(if is_root() { &["--mount"][..] } else { &["--user", "--map-root-user", "--mount"] });
    if !Command::new("unshare").args(unshare.get_args()).arg("true").status().is_ok_and(|it| it.success()) {
        return skipped("no mount namespaces here");
    }
    let arguments: Vec<_> = [directory.to_str().unwrap()].into_iter().chain(arguments.iter().copied()).collect();
    let child = Child::spawn_through(unshare, role, &arguments);
    match child.listen().as_str() {
        "found out" => {}
        other => skipped(&format!("{other}: {}", arguments[1])),
    }
    child.ends_well();
}

#[test]
fn an_overlay_excludes_as_a_container_needs_it() {
    // An overlay's layers can't lie in an overlay, which is what a container may have here.
    let mount = "mount -t tmpfs none mounted; cd mounted; mkdir lower upper work both; \
                 mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work both; mount --move both .";
    in_a_namespace("find out", &[mount, "overlay"]);
}

#[test]
fn a_tmpfs_excludes() {
    in_a_namespace("find out", &["mount -t tmpfs none mounted", "tmpfs"]);
}

#[test]
fn a_ramfs_excludes() {
    in_a_namespace("find out", &["mount -t ramfs none mounted", "ramfs"]);
}

#[test]
fn a_read_only_file_system_is_refused() {
    let mount = "mount -t tmpfs none mounted; mkdir mounted/empty mounted/used; touch mounted/used/probe; \
                 chmod 755 mounted mounted/*; mount -o remount,ro mounted";
    in_a_namespace("find a read-only one", &[mount]);
}

#[test]
fn a_read_only_bind_mount_is_refused() {
    let mount = "mkdir -p real/empty real/used; touch real/used/probe; mount --bind real mounted; \
                 mount -o remount,bind,ro mounted";
    in_a_namespace("find a read-only one", &[mount]);
}
