//! The core's rules: what is decided, sent and kept. No test here starts a process, so a lock that was released is free at once.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers are part of their tests")]
#![allow(clippy::too_many_lines, reason = "a test tells one story")]

mod corpora;
#[cfg(unix)]
mod hosts;
#[cfg(unix)]
mod hosts_edges;
#[cfg(unix)]
mod hosts_engine;
#[cfg(unix)]
mod hosts_journal;
#[cfg(unix)]
mod hosts_walk;
mod identity_gate;
mod lock_names;
#[cfg(unix)]
mod logins;
mod mirror;
#[cfg(unix)]
mod run;
#[cfg(unix)]
mod successors;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "token-endpoint")]
mod token_endpoint;
#[cfg(unix)]
mod weather;
