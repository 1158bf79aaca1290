//! What a full disk or a power cut leaves of what was received.

use crate::lock::holder_of;
use crate::support::HUNG;
use crate::support::child::{Child, Role, hear, say};
use crate::support::clocks;
use crate::support::files::{names, put, text};
use crate::support::sidecars::{dead_pid, summer};
use crate::support::world::{HOUR, MINUTE, NOW, World, answer, credential, served};
use oauth_refresh_lock::clock::{Clock, SystemClock};
use oauth_refresh_lock::disk;
use oauth_refresh_lock::disk::fault::{Fault, on_this_thread};
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::journal::Journal;
use oauth_refresh_lock::lock::{self, Acquire, Target};
use oauth_refresh_lock::refresh::{Served, Settled};
use oauth_refresh_lock::store::STORE_FILE;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;

const EXPIRED: i64 = -MINUTE;

/// What the children of these tests do.
pub(crate) const ROLES: &[Role] = &[
    ("come to a full disk", |arguments| comes_to_a_full_disk(&World::of(arguments))),
    ("receive what a login has superseded", |arguments| receives_what_a_login_has_superseded(&World::of(arguments))),
    ("recover", |arguments| recovers(&World::of(arguments))),
    ("refresh", |arguments| refreshes(&World::of(arguments))),
    ("find no room for a store", |arguments| finds_no_room_for_a_store(&World::of(arguments))),
];

/// A process with this fault.
fn spawn(fault: &str, role: &str, world: &World) -> Child {
    let mut through = Command::new("env");
    through.arg(format!("OAUTH_REFRESH_LOCK_FAULT={fault}"));
    Child::spawn_through(through, role, &[world.root().to_str().unwrap()])
}

/// Gets what is in the journal, whether it has to wait or not, and does not ask the provider.
fn comes_to_a_full_disk(world: &World) {
    let base = world.lock_base();
    let (sender, lock) = mpsc::channel();
    let lock =
        match lock::acquire(&Target::refresh(&base, &clocks::system()), move |granted| drop(sender.send(granted)))
            .unwrap()
        {
            Acquire::Held(lock) => lock,
            Acquire::Waiting(_) => {
                say("waiting");
                lock.recv_timeout(HUNG).unwrap().unwrap()
            }
        };
    assert!(!lock.has_sidecar());
    let Served::Recovered { credential, not_saved } = served(world.call_of_main().decide(lock).unwrap()) else {
        panic!("not recovered")
    };
    assert_eq!(credential.access(), Some("SECRET-access-2"));
    say(if not_saved.is_some() { "not saved" } else { "saved" });

    // Once that has expired, the provider would have to be asked.
    world.clock.set(NOW + 2 * HOUR);
    let lock = lock::acquire_blocking(&Target::refresh(&base, &clocks::system()), HUNG).unwrap();
    let refused = world.call_of_main().decide(lock).unwrap_err();
    assert!(refused.code == Code::LockUnavailable && refused.is_for_want_of_room(), "{refused}");
    // Whoever wants the lock for something else would have to keep everybody out.
    let refused = lock::acquire_blocking(&Target::never_taken_over(&base, &clocks::system()), HUNG).unwrap_err();
    assert_eq!(refused.code, Code::LockUnavailable);
    say("refused");
}

/// Of files there is no room for any; or not for the directory under which a dead process's sidecar is reclaimed.
#[test]
fn a_full_disk_keeps_nobody_from_what_was_received_and_lets_nobody_ask() {
    for (fault, waits, saved) in [
        ("create#1-1000:28", false, "not saved"),
        ("create#1-1000:28", true, "not saved"),
        ("mkdir#1-1000:28", false, "saved"),
    ] {
        let world = World::new();
        world.main().put(&credential("1", EXPIRED));
        let call = world.call_of_main();
        let claim = world.claim(&call);
        // Dies as soon as the answer is in the journal.
        drop(on_this_thread(Some((4, Fault::Crash)), || world.settle(&call, claim, &answer("2"))));
        let holder = if waits {
            // This process has left its sidecar there.
            drop(world.lock());
            Some(holder_of(&world.lock_base()))
        } else {
            put(&lock::sidecar_path(&world.lock_base()), summer(dead_pid(), SystemClock.now_ms(), 1));
            None
        };
        let child = spawn(fault, "come to a full disk", &world);
        if let Some(holder) = holder {
            child.expect("waiting");
            // Its sidecar's file is not there for the next owner.
            holder.kill();
        }
        child.expect(saved);
        child.expect("refused");
        child.ends_well();
        let record = Journal::open(&world.lock()).unwrap().record().clone();
        assert_eq!((record.epoch, record.receipts().len()), (1, usize::from(saved == "not saved")));
        served(world.decide(&world.call_of_main()).unwrap());
        assert!(text(&world.main().path()).contains("SECRET-access-2"));
    }
}

/// For its bytes; there is room for a new file.
fn finds_no_room_for_a_store(world: &World) {
    let refused = world.decide(&world.call_of_sub()).unwrap_err();
    assert_eq!((refused.code, refused.is_for_want_of_room()), (Code::StoreUnwritable, true), "{refused}");
    say(&refused.path.unwrap().display().to_string());
}

/// The agent's own, which is tried first, and the main store.
#[test]
fn a_disk_without_room_for_a_store_is_found_out_before_the_provider_is_asked() {
    for (fault, own) in [("reserve#1:28", true), ("reserve#2:28", false)] {
        let world = World::new();
        world.main().put(&credential("1", EXPIRED));
        world.sub().put(&credential("1", EXPIRED));
        let child = spawn(fault, "find no room for a store", &world);
        let full = if own { world.sub() } else { world.main() };
        child.expect(full.path().to_str().unwrap());
        child.ends_well();
        assert_eq!(Journal::open(&world.lock()).unwrap().record().epoch, 0);
        assert_eq!(names(&full.directory), [STORE_FILE]);
    }
}

/// In its agent's own store; main has it no more either.
fn receives_what_a_login_has_superseded(world: &World) {
    let call = world.call_of_sub();
    let claim = world.claim(&call);
    world.sub().put(&credential("login", HOUR));
    world.settle(&call, claim, &answer("2")).unwrap();
}

/// Serves the sub-agent what a dead owner has received.
fn recovers(world: &World) {
    say(match served(world.decide(&world.call_of_sub()).unwrap()) {
        Served::Recovered { not_saved: None, .. } => "saved",
        Served::Recovered { not_saved: Some(_), .. } => "not saved",
        other => panic!("{other:?}"),
    });
}

/// A world in which the owner died after it had renamed both stores, and before it synced their directories.
fn died_before_the_sync() -> World {
    let world = |at| {
        let world = World::new();
        world.main().put(&credential("1", EXPIRED));
        world.sub().put(&credential("1", EXPIRED));
        let call = world.call_of_sub();
        let claim = world.claim(&call);
        drop(on_this_thread(Some((at, Fault::Crash)), || world.settle(&call, claim, &answer("2"))));
        world
    };
    let holds = |path: &Path| text(path).contains("SECRET-refresh-2");
    let world = (1..100).map(world).find(|world| holds(&world.sub().path()) && holds(&world.main().path())).unwrap();
    // It lives on, and takes its sidecars away.
    drop((world.lock(), world.main().store().lock().unwrap(), world.sub().store().lock().unwrap()));
    world
}

#[test]
fn stores_that_hold_what_was_received_are_synced_before_the_journal_is_wiped() {
    for (fault, told, is_kept) in
        [("sync-dir#1:5", "not saved", true), ("sync-dir#2:5", "not saved", true), ("sync-dir#3:5", "saved", false)]
    {
        let world = died_before_the_sync();
        let journal = lock::term::journal(&world.lock_base(), 0);
        let child = spawn(fault, "recover", &world);
        child.expect(told);
        child.ends_well();
        let bytes = std::fs::read(&journal).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes).contains("SECRET-refresh-2"), is_kept, "{fault}");
    }
}

/// Refreshes, and tells whether the stores have it.
fn refreshes(world: &World) {
    let call = world.call_of_sub();
    let claim = world.claim(&call);
    say("claimed");
    hear();
    let Settled::Refreshed { not_saved, .. } = world.settle(&call, claim, &answer("2")).unwrap() else {
        panic!("not refreshed")
    };
    say(if not_saved.is_some() { "not saved" } else { "saved" });
}

#[test]
fn a_refresh_whose_store_can_not_be_synced_says_so_and_keeps_what_it_received() {
    // The journal's own directory is synced before.
    for (fault, told, receipts) in
        [("sync-dir#2:5", "not saved", 1), ("sync-dir#3:5", "not saved", 1), ("sync-dir#4:5", "saved", 0)]
    {
        let world = World::new();
        world.main().put(&credential("1", EXPIRED));
        world.sub().put(&credential("1", EXPIRED));
        // What is made at the first use is there.
        drop(world.lock());
        drop((world.main().store().lock().unwrap(), world.sub().store().lock().unwrap()));
        let mut child = spawn(fault, "refresh", &world);
        child.expect("claimed");
        child.tell("go on");
        child.expect(told);
        child.ends_well();
        assert_eq!(world.record().receipts().len(), receipts, "{fault}");
    }
}

/// Two halves that are on their way to the disk at once could both be torn, and all that the journal holds be lost.
#[test]
fn each_record_is_durable_before_the_next() {
    let syncs = |at: usize| {
        let world = World::new();
        world.main().put_without_profile();
        world.sub().put(&credential("1", EXPIRED));
        let child = spawn(&format!("sync-journal#{at}:kill"), "receive what a login has superseded", &world);
        child.ended().signal().is_some()
    };
    // The journal's space; then dispatched, received, superseded.
    assert!(syncs(4));
    assert!(!syncs(5));
}

#[test]
fn each_directory_that_is_made_is_durable_in_its_parent() {
    const EIO: i32 = 5;
    const EINVAL: i32 = 22;
    let directory = tempfile::tempdir().unwrap();
    let try_to_make = |name: &str, strike| {
        let path = directory.path().join(name).join("b").join("c");
        let (made, operations) = on_this_thread(strike, || disk::create_private_dirs(&path));
        (made.map(|()| path.is_dir()), operations)
    };
    // Each is made, and synced.
    let (made, operations) = try_to_make("whole", None);
    assert_eq!((made.unwrap(), operations), (true, 6));
    assert_eq!(try_to_make("whole", None).1, 0);
    for operation in [2, 4, 6] {
        let (failed, _) = try_to_make(&format!("failing {operation}"), Some((operation, Fault::Errno(EIO))));
        assert_eq!(failed.unwrap_err().raw_os_error(), Some(EIO));
        let (made, _) = try_to_make(&format!("refusing {operation}"), Some((operation, Fault::Errno(EINVAL))));
        assert!(made.unwrap());
    }
    // Told once for the file system.
    assert_eq!(disk::take_unsynced().len(), 1);
}
