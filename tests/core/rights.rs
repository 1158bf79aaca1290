//! The users that may read a store after it was written: those that could before, or fewer, at every moment.

#![allow(clippy::disallowed_methods, reason = "another program shares the store")]

use crate::support::child::{Child, Role, say};
use crate::support::files::{link, mode, put, set_mode, text};
use crate::support::world::{MINUTE, World, answer, credential};
use crate::support::{assert_no_secret, is_reachable, is_root, skipped};
use oauth_refresh_lock::disk::fault::{Fault, on_this_thread};
use oauth_refresh_lock::disk::{Readers, replace, temporary_beside};
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::refresh::{Decision, Settled};
use rustix::fs::{XattrFlags, getxattr, setxattr};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

const SOMEBODY: u32 = 54321;
const FRIEND: u32 = 54322;
const TEAM: u32 = 54330;
const ACCESS_LIST: &str = "system.posix_acl_access";
const DEFAULT_LIST: &str = "system.posix_acl_default";

/// An access control list as Linux keeps it: the owner all, [`FRIEND`] and the group these, the mask, all others nothing.
fn list(friend: u16, group: u16, mask: u16) -> Vec<u8> {
    let entries =
        [(1, 7, u32::MAX), (2, friend, FRIEND), (4, group, u32::MAX), (16, mask, u32::MAX), (32, 0, u32::MAX)];
    let entry = |(tag, rights, id): (u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    2u32.to_le_bytes().into_iter().chain(entries.into_iter().flat_map(entry)).collect()
}

/// An attribute, if the file has it.
fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = getxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

/// Sets an attribute; tells the test that it can't run where the file system has none.
fn give(path: &Path, name: &str, value: &[u8]) -> bool {
    let given = setxattr(path, name, value, XattrFlags::empty());
    if let Err(error) = given {
        skipped(&format!("no attribute {name} here ({error})"));
    }
    given.is_ok()
}

struct Place {
    _directory: tempfile::TempDir,
    file: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().canonicalize().unwrap().join("store");
        put(&file, "old");
        set_mode(&file, 0o640);
        Self { _directory: directory, file }
    }

    fn replace(&self, readers: Readers) {
        let _ = replace(&self.file, None, 0, b"new", readers, || true).unwrap();
        assert_eq!(text(&self.file), "new");
    }
}

/// What the children of these tests do.
pub(crate) const ROLES: &[Role] = &[
    ("replace a file", |arguments| {
        drop(replace(Path::new(&arguments[0]), None, 0, b"new", Readers::Kept, || true).unwrap());
    }),
    ("decide for a sub-agent", |arguments| decides_for_a_sub_agent(&World::of(arguments))),
];

/// Plays a role as a user who is in these groups alone, the first of which new files get.
fn spawn_in(groups: &[u32], role: &str, argument: &Path) -> Child {
    let mut through = Command::new("setpriv");
    let numbers: Vec<_> = groups.iter().map(u32::to_string).collect();
    through.arg(format!("--reuid={SOMEBODY}")).arg(format!("--regid={}", numbers[0]));
    through.arg(format!("--groups={}", numbers.join(","))).current_dir("/");
    Child::spawn_through(through, role, &[argument.to_str().unwrap()])
}

/// Whether files can be given to other users, and these can run this test.
fn can_play_others() -> bool {
    let can = is_root() && is_reachable(&std::env::current_exe().unwrap());
    if !can {
        skipped("only root can give files to others, who have to get to the test binary");
    }
    can
}

#[test]
fn a_files_group_is_kept_by_its_members_and_gets_nothing_by_others() {
    if !can_play_others() {
        return;
    }
    for (groups, before, after) in [
        (&[FRIEND, TEAM][..], (0o640, TEAM), (0o640, TEAM)),
        (&[FRIEND, TEAM], (0o660, TEAM), (0o660, TEAM)),
        (&[FRIEND], (0o640, TEAM), (0o600, FRIEND)),
        (&[FRIEND], (0o664, TEAM), (0o644, FRIEND)),
        // The team was to have less than everyone else.
        (&[FRIEND], (0o604, TEAM), (0o600, FRIEND)),
    ] {
        let place = Place::new();
        chown(place.file.parent().unwrap(), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
        chown(&place.file, Some(SOMEBODY), Some(before.1)).unwrap();
        set_mode(&place.file, before.0);
        spawn_in(groups, "replace a file", &place.file).ends_well();
        let found = fs::metadata(&place.file).unwrap();
        assert_eq!((found.mode() & 0o777, found.gid()), after, "{groups:?} {before:?}");
        assert_eq!(found.uid(), SOMEBODY);
    }
}

#[test]
fn a_list_of_rights_is_kept_and_goes_with_a_group_that_cannot_be() {
    let place = Place::new();
    if !give(&place.file, ACCESS_LIST, &list(4, 0, 4)) {
        return;
    }
    let before = (mode(&place.file), attribute(&place.file, ACCESS_LIST));
    place.replace(Readers::Kept);
    assert_eq!((mode(&place.file), attribute(&place.file, ACCESS_LIST)), before);
    place.replace(Readers::OwnerAlone);
    assert_eq!((mode(&place.file), attribute(&place.file, ACCESS_LIST)), (0o700, None));

    if !can_play_others() {
        return;
    }
    let place = Place::new();
    assert!(give(&place.file, ACCESS_LIST, &list(4, 0, 4)));
    chown(place.file.parent().unwrap(), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    chown(&place.file, Some(SOMEBODY), Some(TEAM)).unwrap();
    spawn_in(&[FRIEND], "replace a file", &place.file).ends_well();
    assert_eq!((mode(&place.file), attribute(&place.file, ACCESS_LIST)), (0o700, None));
}

#[test]
fn notes_of_others_are_kept() {
    let place = Place::new();
    if !give(&place.file, "user.note", b"keep me") {
        return;
    }
    for readers in [Readers::Kept, Readers::OwnerAlone] {
        place.replace(readers);
        assert_eq!(attribute(&place.file, "user.note").as_deref(), Some(&b"keep me"[..]));
    }
}

/// Whatever directory and umask would give to all that is made there.
#[test]
fn nobody_gets_a_right_from_the_directory() {
    let place = Place::new();
    if !give(place.file.parent().unwrap(), DEFAULT_LIST, &list(7, 7, 7)) {
        return;
    }
    assert_eq!(attribute(&place.file, ACCESS_LIST), None);
    place.replace(Readers::Kept);
    assert_eq!((mode(&place.file), attribute(&place.file, ACCESS_LIST)), (0o640, None));
    fs::remove_file(&place.file).unwrap();
    place.replace(Readers::Kept);
    assert_eq!((mode(&place.file), attribute(&place.file, ACCESS_LIST)), (0o600, None));
}

/// Dies before each of its steps: what it leaves is readable for the file's readers at most, and for them only with its list.
#[test]
fn at_no_moment_can_anybody_else_open_what_is_being_written() {
    let mut seen = [false; 2];
    for dies_at in 1.. {
        let place = Place::new();
        if !give(&place.file, ACCESS_LIST, &list(4, 0, 4)) {
            return;
        }
        let crash = Some((dies_at, Fault::Crash));
        let (replaced, steps) = on_this_thread(crash, || replace(&place.file, None, 0, b"new", Readers::Kept, || true));
        let temporary = temporary_beside(&place.file, 0);
        if let Ok(found) = fs::metadata(&temporary) {
            let is_closed = found.mode() & 0o777 == 0o600;
            let has_list = attribute(&temporary, ACCESS_LIST) == attribute(&place.file, ACCESS_LIST);
            assert!(is_closed || has_list, "{dies_at}");
            assert!(found.len() == 0 || has_list, "{dies_at}: contents before rights");
            seen[usize::from(found.len() > 0)] = true;
        }
        if replaced.is_ok() {
            assert!(steps < dies_at);
            break;
        }
    }
    assert_eq!(seen, [true, true]);
}

// Which user puts a file there

/// Decides, and refreshes if it may.
fn decides_for_a_sub_agent(world: &World) {
    let call = world.call_of_sub();
    match world.decide(&call) {
        Ok(Decision::Send(flight)) => {
            let settled = world.settle(&call, flight, &answer("2")).unwrap();
            assert!(matches!(settled, Settled::Refreshed { not_saved: None, .. }), "{settled:?}");
            say("refreshed");
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => {
            assert_no_secret(&error);
            assert_eq!(error.code, Code::StoreUnwritable, "{error}");
            say(&error.message);
        }
    }
}

/// Does something to the main store; tells what is to blame if that is refused.
type Trick = fn(&World) -> PathBuf;

/// A file that somebody has put in a store's place by its name alone, as a member of a group may, gets no new profile that its
/// readers could see.
#[test]
fn a_profile_that_is_new_in_a_file_is_its_owners_alone() {
    let world = World::new();
    world.sub().put(&credential("1", -MINUTE));
    world.main().put_without_profile();
    for agent in [world.sub(), world.main()] {
        set_mode(&agent.path(), 0o644);
    }
    let call = world.call_of_sub();
    let claim = world.claim(&call);
    world.settle(&call, claim, &answer("2")).unwrap();
    assert!(text(&world.main().path()).contains("SECRET-access-2"));
    assert_eq!((mode(&world.sub().path()), mode(&world.main().path())), (0o644, 0o600));
}

#[test]
fn nobody_else_has_a_say_in_where_a_store_lies() {
    if !can_play_others() {
        return;
    }
    // What is done to the main store, what is to blame, and the reason if it is refused.
    let tricks: [(&str, Trick, Option<&str>); 7] = [
        ("nothing", |world| world.root().to_owned(), None),
        (
            "the user's own link to another directory",
            |world| {
                let elsewhere = world.root().join("elsewhere");
                fs::rename(world.main().directory, &elsewhere).unwrap();
                link(&world.main().directory, &elsewhere);
                std::os::unix::fs::lchown(world.main().directory, Some(SOMEBODY), None).unwrap();
                elsewhere
            },
            None,
        ),
        (
            "the group may write",
            |world| {
                set_mode(&world.main().directory, 0o2770);
                world.main().directory
            },
            None,
        ),
        (
            "a link of a member of the group",
            |world| {
                let readable = world.root().join("readable.json");
                fs::rename(world.main().path(), &readable).unwrap();
                link(&world.main().path(), &readable);
                std::os::unix::fs::lchown(world.main().path(), Some(FRIEND), None).unwrap();
                world.main().path()
            },
            Some("another user (uid 54322"),
        ),
        (
            "a directory of a member of the group",
            |world| {
                let directory = world.main().directory.parent().unwrap().to_owned();
                chown(&directory, Some(FRIEND), None).unwrap();
                set_mode(&directory, 0o755);
                directory
            },
            Some("another user (uid 54322"),
        ),
        (
            "a directory that everyone may write to",
            |world| {
                set_mode(&world.main().directory, 0o777);
                world.main().directory
            },
            Some("everyone may replace"),
        ),
        (
            "a link in such a one to a good one",
            |world| {
                let open = world.root().join("open");
                fs::create_dir(&open).unwrap();
                link(&open.join("store"), world.main().path());
                std::os::unix::fs::lchown(open.join("store"), Some(SOMEBODY), None).unwrap();
                let aside = world.root().join("aside");
                fs::rename(world.main().path(), &aside).unwrap();
                link(&world.main().path(), open.join("store"));
                std::os::unix::fs::lchown(world.main().path(), Some(SOMEBODY), None).unwrap();
                fs::remove_file(open.join("store")).unwrap();
                fs::rename(&aside, open.join("store")).unwrap();
                chown(&open, Some(SOMEBODY), None).unwrap();
                set_mode(&open, 0o777);
                open
            },
            Some("everyone may replace"),
        ),
    ];
    for (trick, play, refused) in tricks {
        let world = World::new();
        world.main().put(&credential("1", -MINUTE));
        world.sub().put(&credential("1", -MINUTE));
        let given = Command::new("chown").args(["-R", &format!("{SOMEBODY}:{TEAM}")]).arg(world.root()).status();
        assert!(given.unwrap().success());
        let blamed = play(&world);
        let before = text(&world.main().path());
        let child = spawn_in(&[TEAM], "decide for a sub-agent", world.root());
        let said = child.listen();
        child.ends_well();
        match refused {
            None => assert_eq!(said, "refreshed", "{trick}"),
            Some(why) => {
                assert!(said.contains(why) && said.contains(blamed.to_str().unwrap()), "{trick}: {said}");
                assert_eq!(text(&world.main().path()), before, "{trick}");
            }
        }
    }
}
