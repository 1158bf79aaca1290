//! The threads that work is done on, off Node's.

use crate::process::as_one_user;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

/// So many threads at most are shared by all lanes.
pub(super) const MAX_THREADS: usize = 512;

/// A shared thread without work ends after so long: refreshes come in bursts, hours apart.
const IDLE: Duration = Duration::from_secs(1);

/// Runs it on one of the shared threads, or if none can be had on this one.
pub(super) fn on_shared_thread(serve: impl Fn() + Clone + Send + 'static) {
    let again = serve.clone();
    // It panics if it can't start a thread.
    let spawned = catch_unwind(AssertUnwindSafe(|| match runtime() {
        Some(runtime) => drop(runtime.spawn_blocking(serve)),
        None => serve(),
    }));
    if spawned.is_err() {
        again();
    }
}

/// Whether this is one of the shared threads.
pub(super) fn is_shared_thread() -> bool {
    Handle::try_current().is_ok()
}

/// Runs `work` on a thread of its own, or gives it back.
pub(super) fn on_own_thread<F: FnOnce() + Send + 'static>(work: F) -> std::result::Result<(), F> {
    let given = Arc::new(Mutex::new(Some(work)));
    let taken = Arc::clone(&given);
    let take = |work: &Mutex<Option<F>>| work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let name = "oauth-lock-call".to_owned();
    let spawned = std::thread::Builder::new().name(name).spawn(move || {
        if let Some(work) = take(&taken) {
            as_one_user(work);
        }
    });
    match spawned {
        Ok(_) => Ok(()),
        Err(_) => take(&given).map_or(Ok(()), Err),
    }
}

/// Never shut down: a thread that writes a credential when the last worker ends must be able to finish.
pub(super) fn runtime() -> Option<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Some(runtime);
    }
    // It panics if it can't start a thread. A process that had none to spare may have one next time.
    let start = || {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).max_blocking_threads(MAX_THREADS).thread_keep_alive(IDLE).enable_all().build()
    };
    let built = catch_unwind(start).ok()?.ok()?;
    Some(RUNTIME.get_or_init(|| built))
}
