//! A rename that is refused because somebody has the file open, as on Windows, is tried again.

use crate::support::world::{PROFILE, World, credential, oauth};
use oauth_refresh_lock::disk::fault::{Fault, on_this_thread};

const EBUSY: i32 = 16;
const EIO: i32 = 5;

/// Of a write's file operations, how many may fail once with this errno without failing the write.
fn forgiven(errno: i32) -> usize {
    let write = |strike| {
        let world = World::new();
        world.sub().put(&credential("old", 0));
        let store = world.sub().store();
        let mut guard = store.lock().unwrap();
        let new = oauth(&credential("new", 0));
        let (written, operations) = on_this_thread(strike, move || guard.update(PROFILE, |_| (Some(new), ())));
        if written.is_ok() {
            world.sub().assert_holds(&credential("new", 0));
        }
        (written.is_ok(), operations)
    };
    let (undisturbed, operations) = write(None);
    assert!(undisturbed && operations > 5);
    (1..=operations).filter(|at| write(Some((*at, Fault::Errno(errno)))).0).count()
}

#[test]
fn a_refused_rename_is_tried_again_and_nothing_else_is() {
    // The lock is released when the write is done; what fails then fails nothing.
    assert_eq!(forgiven(EBUSY), forgiven(EIO) + 1);
}
