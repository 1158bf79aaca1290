//! Volumes that everyone may write to.

#![allow(clippy::disallowed_methods, reason = "another program moves directories about")]

use super::{NOBODY, Place, ROOT, SOMEBODY, as_str, give, somebody_else};
use crate::support::child::Child;
use crate::support::files::{link, mode, names, set_mode};
use crate::support::{is_reachable, is_root, skipped};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

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
        Child::spawn_through(alone_as(SOMEBODY), "open a lock file", &[as_str(&base)]).ends_well();
        Child::spawn_through(alone_as(SOMEBODY), "open a lock file", &[as_str(&base)]).ends_well();
        let modes: Vec<_> = base.ancestors().take(3).map(mode).collect();
        assert_eq!(modes, [0o600, 0o700, 0o700], "{given:o}");
        assert_eq!(fs::metadata(&base).unwrap().uid(), SOMEBODY);
        // So is a container's root, who owns the volume.
        Child::spawn_through(alone_as(ROOT), "open a lock file", &[as_str(&volume.join("roots/locks/key"))])
            .ends_well();
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
        for arguments in [vec!["be refused a lock file"], vec!["trust a volume and be refused", as_str(&volume)]] {
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
    let refused = message(Child::spawn_as(SOMEBODY, "be refused a lock file", &[as_str(&base)]));
    assert!(refused.contains("everyone may") && refused.contains("OAUTH_REFRESH_LOCK_TRUSTED_VOLUME"), "{refused}");
    // The operator's word for another directory is none for this one.
    let other = place.directory("volume/other", 0o777);
    let refused = message(Child::spawn_as(SOMEBODY, "trust a volume and be refused", &[as_str(&base), as_str(&other)]));
    assert!(refused.contains("everyone may"), "{refused}");
    assert_eq!(names(&volume), ["other"]);

    // By a link to it as well; and what lies in it may be open, as all is on a drive that knows no modes.
    link(&place.path("mounted"), "volume");
    Child::spawn_as(SOMEBODY, "trust a volume", &[as_str(&base), as_str(&place.path("mounted"))]).ends_well();
    set_mode(&volume.join("state"), 0o777);
    set_mode(&volume.join("state/locks"), 0o777);
    Child::spawn_as(SOMEBODY, "trust a volume", &[as_str(&base), as_str(&volume)]).ends_well();
    assert_eq!(mode(&base), 0o600);
    // A link that leads out of it leads out of what is trusted.
    place.directory("elsewhere", 0o777);
    link(&volume.join("out"), "../elsewhere");
    let base = volume.join("out/locks/key");
    let refused =
        message(Child::spawn_as(SOMEBODY, "trust a volume and be refused", &[as_str(&base), as_str(&volume)]));
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
    let child = Child::spawn_through(alone_as(SOMEBODY), "be refused a lock file", &[as_str(&own.join("locks/key"))]);
    let message = child.listen();
    assert!(message.contains("run chmod o-w"), "{message}");
    child.ends_well();
}
