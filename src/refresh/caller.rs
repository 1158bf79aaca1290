//! The caller of a refresh: it may leave at any time, and may be told what it waited for.

use super::retry::PauseReason;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A caller that waits for a refresh.
#[derive(Debug, Default)]
pub struct Caller(Mutex<State>);

#[derive(Default)]
struct State {
    has_left: bool,
    /// Whether something may have been sent that is not settled.
    is_sending: bool,
    /// The lock that the refresh waits for.
    awaited: Option<PathBuf>,
    /// Why it pauses, if there is something to say.
    pausing: Option<PauseReason>,
    /// Ends that wait, or pause.
    wake: Option<Box<dyn FnOnce() + Send>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("has_left", &self.has_left)
            .field("awaited", &self.awaited)
            .finish_non_exhaustive()
    }
}

impl Caller {
    /// It has a result, or gave up. A refresh that has sent nothing ends now: `true`. Any other goes on until its call is settled.
    pub fn leave(&self) -> bool {
        let mut state = self.lock();
        state.has_left = true;
        let (wake, is_over) = (state.wake.take(), !state.is_sending);
        drop(state);
        if let Some(wake) = wake {
            wake();
        }
        is_over
    }

    /// From now on something may be sent. `false` if the caller has left.
    pub(super) fn begin_to_send(&self) -> bool {
        let mut state = self.lock();
        state.is_sending = !state.has_left;
        state.is_sending
    }

    /// All that was sent is settled.
    pub(super) fn end_sending(&self) {
        self.lock().is_sending = false;
    }

    /// Whether it has left.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.lock().has_left
    }

    /// The lock that the refresh waits for.
    #[must_use]
    pub fn awaited(&self) -> Option<PathBuf> {
        self.lock().awaited.clone()
    }

    /// Why the refresh pauses, if it does, and there is something to say.
    #[must_use]
    pub fn pausing(&self) -> Option<PauseReason> {
        self.lock().pausing.clone()
    }

    /// Notes what is waited for. `wake` is called when the caller leaves meanwhile; at once if it has left. Of a wait that `is_over`
    /// nothing is noted: another may have begun.
    pub(super) fn begin_to_wait(
        &self,
        lock: &Path,
        is_over: impl FnOnce() -> bool,
        wake: impl FnOnce() + Send + 'static,
    ) {
        self.wait(is_over, wake, |state| state.awaited = Some(lock.to_owned()));
    }

    /// The same for a pause that has not begun.
    pub(super) fn begin_to_pause(&self, why: Option<PauseReason>, wake: impl FnOnce() + Send + 'static) {
        self.wait(|| false, wake, |state| state.pausing = why);
    }

    fn wait(
        &self,
        is_over: impl FnOnce() -> bool,
        wake: impl FnOnce() + Send + 'static,
        note: impl FnOnce(&mut State),
    ) {
        let mut state = self.lock();
        if state.has_left {
            drop(state);
            return wake();
        }
        // Asked here: whoever ends the wait calls `end_waiting` afterwards.
        if !is_over() {
            note(&mut state);
            state.wake = Some(Box::new(wake));
        }
    }

    /// Nothing is waited for any more.
    pub(super) fn end_waiting(&self) {
        let mut state = self.lock();
        (state.awaited, state.pausing) = (None, None);
        // Not dropped while it is locked: it may own what leads back here.
        let wake = state.wake.take();
        drop(state);
        drop(wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is called while it is locked changes nothing, so a poisoned one is still in order.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
