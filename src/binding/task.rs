//! Work off Node's thread, as a promise.

use super::Reply;
use crate::error::{Code, Error, Result};
use napi::bindgen_prelude::{Env, Object};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use tokio::runtime::{Builder, Runtime};

/// Files are read and written by this many threads at most.
const MAX_THREADS: usize = 16;
/// What ends a provider's call never waits for those, which may all be waiting for some store's lock: an answer is nowhere
/// but in memory until it runs. There are as many of these at most as there are calls under way.
const MAX_SETTLING_THREADS: usize = 512;

/// Runs `work` on a thread of ours; the promise settles with its reply. Not libuv's pool: that is the user's.
pub(super) fn promise(env: &Env, work: impl FnOnce() -> Result<Reply> + Send + 'static) -> napi::Result<Object<'_>> {
    run(env, work, runtime())
}

/// The same, for what ends a provider's call.
pub(super) fn settling(env: &Env, work: impl FnOnce() -> Result<Reply> + Send + 'static) -> napi::Result<Object<'_>> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    run(env, work, of_threads(&RUNTIME, MAX_SETTLING_THREADS))
}

fn run<'env>(
    env: &'env Env,
    work: impl FnOnce() -> Result<Reply> + Send + 'static,
    runtime: Option<&'static Runtime>,
) -> napi::Result<Object<'env>> {
    let (deferred, promise) = env.create_deferred()?;
    let settle = move || {
        let reply = guarded(work);
        deferred.resolve(move |_| Ok(reply));
    };
    match runtime {
        Some(runtime) => drop(runtime.spawn_blocking(settle)),
        // No thread to be had: better late than never.
        None => settle(),
    }
    Ok(promise)
}

/// No panic crosses into Node.
pub(super) fn guarded(work: impl FnOnce() -> Result<Reply>) -> Reply {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::new(Code::Internal, "a defect in oauth-refresh-lock; please report it")))
        .unwrap_or_else(Reply::from)
}

/// Never shut down: a thread that writes a credential when the last worker ends must be able to finish.
fn runtime() -> Option<&'static Runtime> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    of_threads(&RUNTIME, MAX_THREADS)
}

fn of_threads(runtime: &'static OnceLock<std::io::Result<Runtime>>, threads: usize) -> Option<&'static Runtime> {
    let build = || Builder::new_multi_thread().worker_threads(1).max_blocking_threads(threads).build();
    runtime.get_or_init(build).as_ref().ok()
}
