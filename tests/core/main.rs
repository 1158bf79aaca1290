//! The core across threads, processes, users, file systems, deaths and disk faults.
//!
//! One binary for all, as each would link the whole core. What one test does to its process must not reach the others: what
//! needs a umask, an environment, another user or a death of its own is done by a child ([`support::child`]). While a child is
//! started it has all our files open, so a lock that was just released may still be taken for a moment.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers and roles are part of their tests")]
#![allow(clippy::too_many_lines, reason = "a test tells one story")]

#[cfg(unix)]
mod busy_rename;
#[cfg(unix)]
mod claim;
#[cfg(target_os = "linux")]
mod durability;
#[cfg(unix)]
mod file_system;
#[cfg(unix)]
mod lock;
#[cfg(unix)]
mod private_dir;
#[cfg(unix)]
mod refresh;
#[cfg(target_os = "linux")]
mod rights;
#[cfg(unix)]
mod sidecar;
#[cfg(unix)]
mod sidecar_crash;
#[cfg(unix)]
mod sidecar_peers;
#[cfg(unix)]
mod store;
#[path = "../support/mod.rs"]
mod support;
#[cfg(target_os = "linux")]
mod takeover;

/// The test that every child runs: there it plays a role, here it tests that a child which fails is noticed.
#[test]
fn a_child_that_fails_is_noticed() {
    support::child::play_or_test(&[
        #[cfg(unix)]
        claim::ROLES,
        #[cfg(target_os = "linux")]
        durability::ROLES,
        #[cfg(unix)]
        file_system::ROLES,
        #[cfg(unix)]
        lock::ROLES,
        #[cfg(unix)]
        private_dir::ROLES,
        #[cfg(unix)]
        refresh::ROLES,
        #[cfg(target_os = "linux")]
        rights::ROLES,
        #[cfg(unix)]
        sidecar::ROLES,
        #[cfg(unix)]
        sidecar_crash::ROLES,
        #[cfg(unix)]
        store::ROLES,
        #[cfg(target_os = "linux")]
        takeover::ROLES,
    ]);
}
