//! Work off Node's thread, as a promise.

use super::Reply;
use crate::error::{Code, Error, Result};
use napi::JsDeferred;
use napi::bindgen_prelude::{Env, Object};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::runtime::{Builder, Runtime};

/// Files are read and written by this many threads at most.
const MAX_THREADS: usize = 8;

type Deferred = JsDeferred<Reply, Box<dyn FnOnce(Env) -> napi::Result<Reply>>>;

/// A promise of JavaScript's, to be settled from any thread. Dropped, as by a panic, it settles all the same.
pub(super) struct Promise(Option<Deferred>);

impl Promise {
    pub(super) fn new(env: &Env) -> napi::Result<(Self, Object<'_>)> {
        let (deferred, object) = env.create_deferred()?;
        Ok((Self(Some(deferred)), object))
    }

    pub(super) fn settle(mut self, reply: impl Into<Reply>) {
        self.resolve(reply.into());
    }

    fn resolve(&mut self, reply: Reply) {
        if let Some(deferred) = self.0.take() {
            deferred.resolve(Box::new(move |_| Ok(reply)));
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.resolve(Error::new(Code::Internal, "a defect in oauth-refresh-lock; please report it").into());
    }
}

/// Runs `work` on a thread of ours; the promise settles with its reply. Not libuv's pool: that is the user's.
pub(super) fn promise(env: &Env, work: impl FnOnce() -> Result<Reply> + Send + 'static) -> napi::Result<Object<'_>> {
    let (promise, object) = Promise::new(env)?;
    let work = move || promise.settle(work().unwrap_or_else(Reply::from));
    match runtime() {
        Some(runtime) => drop(runtime.spawn_blocking(work)),
        None => work(),
    }
    Ok(object)
}

/// The same, on a thread of its own: for work that asks a host's store, which may take any time to answer and may make calls
/// of its own meanwhile, so that a number of threads could all be waiting for each other.
pub(super) fn asking(env: &Env, work: impl FnOnce() -> Result<Reply> + Send + 'static) -> napi::Result<Object<'_>> {
    let (promise, object) = Promise::new(env)?;
    let work = move || promise.settle(work().unwrap_or_else(Reply::from));
    // No thread to be had: the shared ones then.
    match (on_own_thread(work), runtime()) {
        (Ok(()), _) => {}
        (Err(work), Some(runtime)) => drop(runtime.spawn_blocking(work)),
        (Err(work), None) => work(),
    }
    Ok(object)
}

/// The same, for what ends a provider's call: on a thread of its own, since an answer is nowhere but in memory until then, and
/// the others may all be waiting for some store's lock. It may go on when it has settled its promise.
pub(super) fn settling(env: &Env, work: impl FnOnce(Promise) + Send + 'static) -> napi::Result<Object<'_>> {
    let (promise, object) = Promise::new(env)?;
    // No thread to be had: better late than never.
    if let Err(work) = on_own_thread(move || work(promise)) {
        work();
    }
    Ok(object)
}

/// Runs `work` on a thread of its own, or gives it back.
pub(super) fn on_own_thread<F: FnOnce() + Send + 'static>(work: F) -> std::result::Result<(), F> {
    let given = Arc::new(Mutex::new(Some(work)));
    let taken = Arc::clone(&given);
    let take = |work: &Mutex<Option<F>>| work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let name = "oauth-lock-call".to_owned();
    let spawned = std::thread::Builder::new().name(name).spawn(move || {
        if let Some(work) = take(&taken) {
            work();
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
    let built = Builder::new_multi_thread().worker_threads(1).max_blocking_threads(MAX_THREADS).enable_all().build();
    // A process that had no thread to spare may have one next time.
    built.ok().map(|built| RUNTIME.get_or_init(|| built))
}
