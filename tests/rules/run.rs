//! A refresh from start to end, with its pauses, by a clock in the test's hands: nothing here waits.

use crate::support::world::{HOUR, MINUTE, NOW, World, answer, credential, shown};
use crate::support::{HUNG, locks};
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::lock::Guard;
use oauth_refresh_lock::refresh::{
    AskResult, Backoff, CallFailure, Caller, Event, FailureClass, Patience, Program, Refresh, Run, Sent, Served,
    Settled, Turn, Work,
};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use zeroize::Zeroizing;

const EXPIRED: i64 = -MINUTE;
const PATIENT: Patience = Patience { waits: true, ms: 120_000.0, asking_ms: f64::INFINITY };

thread_local! {
    /// What is to be done after so many milliseconds.
    static LATER: RefCell<Vec<(f64, Work)>> = const { RefCell::new(Vec::new()) };
    static ENDS: RefCell<Vec<Turn<u32>>> = const { RefCell::new(Vec::new()) };
}

/// Asks a provider that answers so, one after the other, and notes how often it was asked.
struct Scripted {
    answers: VecDeque<AskResult<u32>>,
    asked: u32,
}

impl Program for Scripted {
    type Failure = u32;

    fn ask(&mut self, _: &Sent) -> AskResult<u32> {
        self.asked += 1;
        self.answers.pop_front().expect("not to be asked again")
    }

    fn tell(&mut self, _: Event<'_>) {}

    fn spawn(work: Work) -> bool {
        work();
        true
    }

    fn after(ms: f64, work: Work) {
        LATER.with_borrow_mut(|later| later.push((ms, work)));
    }

    fn random(&mut self) -> f64 {
        0.5
    }
}

fn start(call: &Arc<Refresh>, caller: &Arc<Caller>, patience: Patience, answers: impl Into<VecDeque<AskResult<u32>>>) {
    let program = Scripted { answers: answers.into(), asked: 0 };
    Run::new(Arc::clone(call), Arc::clone(caller), patience, program).start(|program, end| {
        assert!(program.answers.is_empty(), "asked {} times", program.asked);
        ENDS.with_borrow_mut(|ends| ends.push(end));
    });
}

/// How the refresh ended, if it has.
fn end() -> Option<Turn<u32>> {
    ENDS.with_borrow_mut(Vec::pop)
}

/// Lets the pause pass that the refresh makes, and says how long it was.
fn pass(world: &World, now: &mut i64) -> f64 {
    let (ms, work) = LATER.with_borrow_mut(|later| {
        assert_eq!(later.len(), 1);
        later.pop().expect("a pause")
    });
    #[allow(clippy::cast_possible_truncation, reason = "pauses are short")]
    let passed = ms.ceil() as i64;
    *now += passed;
    world.clock.set(*now);
    work();
    ms
}

fn failed(class: FailureClass, pause: Backoff, number: u32) -> AskResult<u32> {
    AskResult::Failed(CallFailure { class, pause, is_temporary: true }, number)
}

fn fields() -> AskResult<u32> {
    AskResult::Fields(Zeroizing::new(answer("2").to_string()))
}

fn expired_world() -> (World, Arc<Refresh>, Arc<Caller>) {
    let world = World::new();
    world.main().put(&credential("1", EXPIRED));
    let call = Arc::new(world.call_of_main());
    (world, call, Arc::default())
}

#[test]
fn a_provider_that_was_not_reached_is_asked_again_after_growing_pauses() {
    let (world, call, caller) = expired_world();
    let unreached = |number| failed(FailureClass::NotSent, Backoff::None, number);
    start(&call, &caller, PATIENT, [unreached(1), unreached(2), fields()]);
    let mut now = NOW;
    assert!(end().is_none());
    assert!((pass(&world, &mut now) - 525.0).abs() < 1.0);
    assert!((pass(&world, &mut now) - 1_050.0).abs() < 1.0);
    assert!(matches!(end(), Some(Turn::Settled(Settled::Refreshed { .. }))));
    assert!(LATER.with_borrow(Vec::is_empty));
}

#[test]
fn a_pause_that_the_provider_asked_for_is_kept_and_told_to_a_caller_in_a_hurry() {
    let (world, call, caller) = expired_world();
    let busy = failed(FailureClass::AnsweredUnspent, Backoff::Asked(30_000.0), 1);
    start(&call, &caller, PATIENT, [busy, fields()]);
    let mut now = NOW;
    // It goes back at once, to meet what is on record.
    assert!(pass(&world, &mut now) <= 0.0);
    let waiting = caller.pausing().expect("it pauses");
    assert_eq!((waiting.error.code, waiting.ms), (Code::RefreshBackoff, Some(30_000.0)));
    assert!(pass(&world, &mut now) >= 30_000.0);
    assert!(caller.pausing().is_none());
    assert!(matches!(end(), Some(Turn::Settled(_))));
}

#[test]
fn what_a_peer_stores_during_a_pause_is_served_without_a_call() {
    let (world, call, caller) = expired_world();
    start(&call, &caller, PATIENT, [failed(FailureClass::NotSent, Backoff::None, 1)]);
    world.main().put(&credential("2", HOUR));
    pass(&world, &mut NOW.clone());
    match end() {
        Some(Turn::Served(Served::Fresh(fresh))) => assert_eq!(shown(&fresh), credential("2", HOUR)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_caller_that_leaves_ends_the_pause_and_no_one_is_asked() {
    let (world, call, caller) = expired_world();
    start(&call, &caller, PATIENT, [failed(FailureClass::NotSent, Backoff::None, 1)]);
    assert!(caller.leave());
    assert!(matches!(end(), Some(Turn::Left)));
    pass(&world, &mut NOW.clone());
    assert!(end().is_none());
}

#[test]
fn the_last_failure_is_told_when_no_pause_fits_into_the_callers_patience() {
    for patience in [Patience { ms: 700.0, ..PATIENT }, Patience { asking_ms: 700.0, ..PATIENT }] {
        let (world, call, caller) = expired_world();
        let unreached = |number| failed(FailureClass::NotSent, Backoff::None, number);
        start(&call, &caller, patience, [unreached(1), unreached(2)]);
        pass(&world, &mut NOW.clone());
        assert!(matches!(end(), Some(Turn::Failed(2, None))));
    }
}

#[test]
fn a_caller_with_a_token_that_has_not_expired_does_not_wait() {
    let (world, _, caller) = expired_world();
    world.main().put(&credential("1", MINUTE));
    let call = Arc::new(world.call_of_main());
    start(&call, &caller, PATIENT, [failed(FailureClass::NotSent, Backoff::None, 1)]);
    assert!(matches!(end(), Some(Turn::Failed(1, None))));
}

#[test]
fn a_panic_ends_the_refresh_with_an_error() {
    let (_world, call, caller) = expired_world();
    // It panics when it is asked.
    start(&call, &caller, PATIENT, []);
    match end() {
        Some(Turn::Refused(error)) => assert_eq!(error.code, Code::Internal),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_program_hears_of_a_refresh_that_cannot_start_a_thread() {
    struct NoThreads;

    impl Program for NoThreads {
        type Failure = u32;

        fn ask(&mut self, _: &Sent) -> AskResult<u32> {
            AskResult::Nothing
        }

        fn tell(&mut self, _: Event<'_>) {}

        fn spawn(_: Work) -> bool {
            false
        }

        fn after(_: f64, _: Work) {}

        fn random(&mut self) -> f64 {
            0.0
        }
    }

    let (world, call, caller) = expired_world();
    Run::new(call, caller, PATIENT, NoThreads).start(|_, end| ENDS.with_borrow_mut(|ends| ends.push(end)));
    match end() {
        Some(Turn::Refused(error)) => assert_eq!(error.code, Code::LockUnavailable),
        other => panic!("{other:?}"),
    }
    // The lock is free again.
    drop(world.lock());
}

#[test]
fn a_caller_can_leave_the_line_that_it_stands_in_after_a_pause_of_no_length() {
    thread_local! {
        static BASE: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
        static HELD: RefCell<Option<Guard>> = const { RefCell::new(None) };
    }

    /// Another takes the lock as soon as this refresh pauses, and the pause is over before its thread goes on.
    struct Overtaken;

    impl Program for Overtaken {
        type Failure = u32;

        fn ask(&mut self, _: &Sent) -> AskResult<u32> {
            failed(FailureClass::NotSent, Backoff::Asked(1_000.0), 1)
        }

        fn tell(&mut self, event: Event<'_>) {
            if let Event::Pausing = event {
                HELD.replace(BASE.with_borrow(Option::clone).map(|base| locks::take(&base)));
            }
        }

        fn spawn(work: Work) -> bool {
            work();
            true
        }

        fn after(_: f64, work: Work) {
            work();
        }

        fn random(&mut self) -> f64 {
            0.0
        }
    }

    let (world, call, caller) = expired_world();
    BASE.replace(Some(world.lock_base()));
    let (ended, end) = channel();
    Run::new(call, Arc::clone(&caller), PATIENT, Overtaken).start(move |_, end| ended.send(end).unwrap());
    assert_eq!(caller.awaited(), Some(world.lock_base()));
    caller.leave();
    assert!(matches!(end.recv_timeout(HUNG).unwrap(), Turn::Left));
    HELD.take();
}
