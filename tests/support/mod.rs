//! What the integration tests share: files and their snapshots, real processes, properties of random cases, and a small world of
//! agents with stores and a clock.

#![allow(dead_code, unreachable_pub, reason = "each binary compiles this module and uses a part of it")]
#![allow(clippy::unused_self, reason = "what a call passes is the world's business")]

pub mod child;
pub mod clocks;
pub mod engine;
pub mod files;
pub mod locks;
pub mod property;
pub mod sidecars;
pub mod world;

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Whatever has not happened by then never will. No test waits for it, unless it fails.
pub const HUNG: Duration = Duration::from_secs(60);

/// Part of every secret in these tests. No error may show it.
pub const SECRET: &str = "SECRET";

/// Waits for what another thread or process will do without telling, by looking again and again.
pub fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(started.elapsed() < HUNG, "never happened: {what}");
        std::thread::yield_now();
    }
}

/// Runs something that could hang, so that its test would fail and not hang as well.
pub fn without_hanging(run: impl FnOnce() + Send + 'static) {
    let (sender, ended) = channel::<()>();
    let thread = std::thread::spawn(move || {
        // Dropped at the end, be it a good one or a panic.
        let _sender = sender;
        run();
    });
    assert_ne!(ended.recv_timeout(HUNG), Err(RecvTimeoutError::Timeout), "it hangs");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Asserts that an error names `path` and shows no secret, in words and in debug text.
pub fn assert_names_path_and_no_secret(error: &oauth_refresh_lock::error::Error, path: &std::path::Path) {
    assert_eq!(error.path.as_deref(), Some(path), "{error}");
    assert!(error.message.contains(path.to_str().unwrap()), "{error}");
    assert_no_secret(error);
}

/// Asserts that an error shows no secret, in words and in debug text.
pub fn assert_no_secret(error: &oauth_refresh_lock::error::Error) {
    for shown in [error.to_string(), format!("{error:?}"), format!("{error:#?}")] {
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

/// Whether this process may do everything.
#[cfg(unix)]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether any user may go there.
#[cfg(unix)]
pub fn is_reachable(path: &std::path::Path) -> bool {
    path.ancestors().all(|path| files::mode(path) & 0o001 != 0)
}

/// Says that a test can't be run here, past the harness, which shows nothing of tests that succeed.
pub fn skipped(why: &str) {
    use std::io::Write;
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {why}");
}

/// How many threads of this name a process has.
#[cfg(target_os = "linux")]
pub fn threads(process: u32, name: &str) -> usize {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else { return 0 };
    let names = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|comm| comm.trim_end() == name).count()
}
