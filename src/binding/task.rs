//! Work off Node's thread, as a promise.

use super::Reply;
use super::threads::{MAX_THREADS, is_shared_thread, on_own_thread, on_shared_thread, runtime};
use crate::clock::{BootMs, Clock, SystemClock};
use crate::error::{Error, Result};
use crate::process::as_one_user;
use crate::refresh::Work;
use napi::JsDeferred;
use napi::bindgen_prelude::{Env, Object};
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Files of one lane are read and written by this many threads at most.
const LANE_THREADS: usize = 8;
/// So many of those at most are given to refreshes, which may wait for any time; other refreshes have threads of their own.
const MAX_BLOCKED: usize = MAX_THREADS / 2;
/// So many lanes' threads at most read and write at a time: more would only take the processor from each other.
const BUSY_THREADS: usize = 8;
/// Work that takes longer than that waits for a disk, or for another process: it takes the processor from no other.
const SLOW: Duration = Duration::from_millis(10);
/// How long a thread of Node's waits until its leftovers are removed. Much longer than a healthy disk takes.
const DISCARD_PATIENCE: Duration = Duration::from_secs(1);

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
        self.resolve(Error::defect().into());
    }
}

/// Runs `work` on a thread of ours; the promise settles with its reply. Not libuv's pool: that is the user's.
///
/// `lane` is where its files lie. Work on other lanes does not wait for it: a disk that hangs blocks the threads of its
/// own lane, and no others.
pub(super) fn promise<'env>(
    env: &'env Env,
    lane: &Path,
    work: impl FnOnce() -> Result<Reply> + Send + 'static,
) -> napi::Result<Object<'env>> {
    let (promise, object) = Promise::new(env)?;
    run(lane, LANE_THREADS, Start::InTurn, move || promise.settle(work().unwrap_or_else(Reply::from)));
    Ok(object)
}

/// The same, one after the other in the order of the calls.
pub(super) fn in_order<'env>(
    env: &'env Env,
    lane: &Path,
    work: impl FnOnce() -> Result<Reply> + Send + 'static,
) -> napi::Result<Object<'env>> {
    let (promise, object) = Promise::new(env)?;
    run(&lane.join("in order"), 1, Start::AtOnce, move || promise.settle(work().unwrap_or_else(Reply::from)));
    Ok(object)
}

/// The same, for a message about work that is late: it does not wait for that work.
pub(super) fn beside<'env>(
    env: &'env Env,
    lane: &Path,
    work: impl FnOnce() -> Result<Reply> + Send + 'static,
) -> napi::Result<Object<'env>> {
    promise(env, &lane.join("beside"), work)
}

/// Drops a value that may have files to remove, when Node collects it or a thread of Node's ends: on a thread of a lane, for
/// which we wait only so long.
pub(super) fn discard(lane: &Path, what: impl Send + 'static) {
    let (sender, done) = channel();
    run(lane, LANE_THREADS, Start::AtOnce, move || {
        drop(what);
        let _ = sender.send(());
    });
    let _ = done.recv_timeout(DISCARD_PATIENCE);
}

/// When a lane gets a thread for its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    AtOnce,
    /// When fewer than [`BUSY_THREADS`] are at work.
    InTurn,
}

#[derive(Default)]
struct Lane {
    /// Those that serve it, and those that it is about to get.
    threads: usize,
    queue: VecDeque<Work>,
}

#[derive(Default)]
struct Lanes {
    by_path: HashMap<PathBuf, Lane>,
    /// Which lanes are about to get a thread, in order.
    next: VecDeque<PathBuf>,
    /// Since when the threads that serve lanes in turn have been at what they do now.
    busy: HashMap<u64, BootMs>,
    /// How many such threads there were.
    threads: u64,
    is_watched: bool,
}

impl Lanes {
    /// What a thread of this lane is to do next. If nothing, it serves the lane no more.
    fn take_work(&mut self, path: &Path) -> Option<Work> {
        let lane = self.by_path.get_mut(path)?;
        let work = lane.queue.pop_front();
        if work.is_none() {
            self.end_thread(path);
        }
        work
    }

    fn end_thread(&mut self, path: &Path) {
        let Some(lane) = self.by_path.get_mut(path) else { return };
        lane.threads -= 1;
        if lane.threads == 0 {
            self.by_path.remove(path);
        }
    }
}

static LANES: LazyLock<Mutex<Lanes>> = LazyLock::new(Mutex::default);

fn lanes() -> MutexGuard<'static, Lanes> {
    LANES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` on a thread of a lane; what it promises is its own affair.
pub(super) fn start(lane: &Path, work: impl FnOnce() + Send + 'static) {
    run(lane, LANE_THREADS, Start::AtOnce, work);
}

/// Runs `work` on a thread of a lane, which has so many at most.
fn run(lane: &Path, threads: usize, when: Start, work: impl FnOnce() + Send + 'static) {
    let mut lanes = lanes();
    let entry = lanes.by_path.entry(lane.to_owned()).or_default();
    entry.queue.push_back(Box::new(work));
    if entry.threads == threads {
        return;
    }
    entry.threads += 1;
    match when {
        Start::AtOnce => {
            drop(lanes);
            let path = lane.to_owned();
            on_shared_thread(move || serve(&path));
        }
        Start::InTurn => {
            lanes.next.push_back(lane.to_owned());
            start_threads(lanes, 0);
        }
    }
}

/// Starts threads for the lanes whose turn it is: as many as [`BUSY_THREADS`] allows, and one more for each of `slow` threads,
/// which need no processor now.
fn start_threads(mut lanes: MutexGuard<'_, Lanes>, slow: usize) {
    let free = (BUSY_THREADS + slow).saturating_sub(lanes.busy.len()).min(lanes.next.len());
    let served: Vec<_> = lanes.next.drain(..free).collect();
    let first = lanes.threads;
    lanes.threads += free as u64;
    let now_ms = SystemClock.boot_ms();
    lanes.busy.extend((first..).take(free).map(|thread| (thread, now_ms)));
    let watcher = runtime().filter(|_| !lanes.is_watched && !lanes.next.is_empty());
    lanes.is_watched |= watcher.is_some();
    drop(lanes);
    for (thread, lane) in (first..).zip(served) {
        on_shared_thread(move || serve_in_turn(thread, lane.clone()));
    }
    if let Some(runtime) = watcher {
        runtime.spawn(watch());
    }
}

/// As long as lanes wait for a thread, starts one more for each that is slow.
async fn watch() {
    loop {
        tokio::time::sleep(SLOW).await;
        let mut lanes = lanes();
        if lanes.next.is_empty() {
            lanes.is_watched = false;
            return;
        }
        let since_ms = SystemClock.boot_ms() + -SLOW.as_secs_f64() * 1000.0;
        let slow = lanes.busy.values().filter(|began_ms| **began_ms <= since_ms).count();
        start_threads(lanes, slow);
    }
}

/// A thread that serves the lanes in turn, this one first, until nothing is left.
fn serve_in_turn(thread: u64, mut lane: PathBuf) {
    let mut is_first = true;
    loop {
        let mut lanes = lanes();
        // A lane that always has more keeps none of the others waiting.
        if !is_first && let Some(next) = lanes.next.pop_front() {
            lanes.next.push_back(std::mem::replace(&mut lane, next));
        }
        is_first = false;
        let work = loop {
            if let Some(work) = lanes.take_work(&lane) {
                break work;
            }
            let Some(next) = lanes.next.pop_front() else {
                lanes.busy.remove(&thread);
                return;
            };
            lane = next;
        };
        lanes.busy.insert(thread, SystemClock.boot_ms());
        drop(lanes);
        // A promise that is dropped says so; the others' work goes on.
        let _ = catch_unwind(AssertUnwindSafe(|| as_one_user(work)));
    }
}

/// A thread of a lane: works until nothing is left, or until some work has more to do that may block it.
fn serve(lane: &Path) {
    // If no thread could be had it may be Node's, which must not be blocked: a refresh function answers there.
    let is_shared = is_shared_thread();
    loop {
        // Not held while it works.
        let Some(work) = lanes().take_work(lane) else { return };
        REST.set(if is_shared { Rest::None } else { Rest::Elsewhere });
        let _ = catch_unwind(AssertUnwindSafe(|| as_one_user(work)));
        if let Rest::Work(rest) = REST.replace(Rest::Elsewhere) {
            leave(lane);
            let _ = catch_unwind(AssertUnwindSafe(|| as_one_user(rest)));
            BLOCKED.fetch_sub(1, Ordering::Relaxed);
            return;
        }
    }
}

/// This thread serves the lane no more. Another one takes its place if there is work left.
fn leave(lane: &Path) {
    let mut lanes = lanes();
    if lanes.by_path.get(lane).is_some_and(|entry| !entry.queue.is_empty()) {
        drop(lanes);
        let path = lane.to_owned();
        return on_shared_thread(move || serve(&path));
    }
    lanes.end_thread(lane);
}

/// What is left of the work that a thread does.
enum Rest {
    None,
    Work(Work),
    /// It goes to another thread.
    Elsewhere,
}

thread_local! {
    static REST: Cell<Rest> = const { Cell::new(Rest::Elsewhere) };
}

/// How many shared threads may be blocked.
static BLOCKED: AtomicUsize = AtomicUsize::new(0);

/// Runs the rest of some work, which may block its thread for long: on this thread if that can be spared, else on one of its own.
/// Says whether there is one.
pub(super) fn go_on(rest: Work) -> bool {
    match REST.replace(Rest::Elsewhere) {
        Rest::None if BLOCKED.fetch_add(1, Ordering::Relaxed) < MAX_BLOCKED => {
            REST.set(Rest::Work(rest));
            return true;
        }
        Rest::None => drop(BLOCKED.fetch_sub(1, Ordering::Relaxed)),
        earlier => REST.set(earlier),
    }
    on_own_thread(rest).is_ok()
}

/// The same, on a thread of its own: for work that asks a host's store, which may take any time to answer and may make calls
/// of its own meanwhile, so that a number of threads could all be waiting for each other.
pub(super) fn asking(env: &Env, work: impl FnOnce() -> Result<Reply> + Send + 'static) -> napi::Result<Object<'_>> {
    let (promise, object) = Promise::new(env)?;
    let work = move || promise.settle(work().unwrap_or_else(Reply::from));
    // No thread to be had: the shared ones then.
    if let Err(work) = on_own_thread(work) {
        run(Path::new(""), LANE_THREADS, Start::AtOnce, work);
    }
    Ok(object)
}

/// Runs `work` on a thread of its own, or if none is to be had on a shared one, after so many milliseconds of the boot's clock.
pub(super) fn after(ms: f64, work: impl FnOnce() + Send + 'static) {
    let due_ms = SystemClock.boot_ms() + ms;
    let go = || {
        if let Err(work) = on_own_thread(work) {
            run(Path::new(""), LANE_THREADS, Start::AtOnce, work);
        }
    };
    let Some(runtime) = runtime() else { return go() };
    runtime.spawn(async move {
        loop {
            let left_ms = due_ms - SystemClock.boot_ms();
            if left_ms <= 0.0 {
                return go();
            }
            tokio::time::sleep(SystemClock.pause(left_ms)).await;
        }
    });
}
