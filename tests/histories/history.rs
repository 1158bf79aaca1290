//! What a history is, and how often what comes in it.

use oauth_refresh_lock::disk::fault::Fault;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::sample::select;
use proptest::strategy::Strategy;
use proptest::{array, bool, option, prop_oneof};

pub(crate) const PROFILES: [&str; 2] = ["p:1", "p:2"];
pub(crate) const AGENTS: [&str; 3] = ["main", "one", "two"];
/// On average half as many.
const MAX_STEPS: usize = 80;
/// More file operations than any phase makes, so that some faults never strike.
const MOST_OPERATIONS: usize = 90;

/// A file operation that is to fail, and how.
pub(crate) type Strike = Option<(usize, Fault)>;

#[derive(Debug, Clone)]
pub(crate) struct History {
    /// Whether stored credentials say whose they are.
    pub with_identity: bool,
    /// Whether logins may be of a second account. Then all credentials say whose they are.
    pub with_second_account: bool,
    /// Whether no token is sent again after a death.
    pub forbids_repeats: bool,
    /// Which profiles of which agent have the first login, beside those that always do.
    pub also_held: [[bool; 2]; 3],
    pub steps: Vec<Step>,
}

/// A profile of an agent.
pub(crate) type Holder = (&'static str, &'static str);

/// One of those that there are, counted round and round.
pub(crate) type Nth = usize;

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A caller comes: it is served, or waits, or asks the provider. Maybe it says that the provider's services rejected
    /// the stored token.
    Call {
        holder: Holder,
        rejects: bool,
        strike: Strike,
    },
    /// The provider answers a pending call, or the network loses it. Maybe the provider says how long to wait.
    Answer {
        call: Nth,
        weather: Weather,
        with_pause: bool,
        strike: Strike,
    },
    /// The owner of a pending call has nothing to ask with.
    GiveUp {
        call: Nth,
    },
    /// A process dies during its call, before or after the provider was asked.
    Die {
        call: Nth,
        has_sent: bool,
    },
    Login {
        holder: Holder,
        as_second_account: bool,
    },
    Logout {
        holder: Holder,
    },
    BackUp {
        agent: &'static str,
    },
    Restore {
        backup: Nth,
    },
    /// Wall clock and boot's clock go on, or the wall clock is set back.
    Pass {
        lifetimes: f64,
    },
}

/// What the network does to a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Weather {
    Fine,
    NotSent,
    Busy,
    LostBefore,
    LostAfter,
    WrongAccount,
    Garbage,
}

pub(crate) fn histories() -> impl Strategy<Value = History> {
    let also_held = array::uniform3(array::uniform2(one_in(3)));
    (any::<bool>(), one_in(4), one_in(5), also_held, vec(step(), 0..=MAX_STEPS)).prop_map(
        |(with_identity, with_second_account, forbids_repeats, also_held, steps)| History {
            with_identity: with_identity || with_second_account,
            with_second_account,
            forbids_repeats,
            also_held,
            steps,
        },
    )
}

/// Of shorter histories the first kinds of step are tried first.
fn step() -> impl Strategy<Value = Step> {
    let holder = || (agent(), select(&PROFILES[..]));
    // More than there ever are.
    let nth = || 0..12usize;
    prop_oneof![
        27 => (holder(), one_in(8), strike()).prop_map(|(holder, rejects, strike)| Step::Call { holder, rejects, strike }),
        20 => (nth(), weather(), one_in(3), strike())
            .prop_map(|(call, weather, with_pause, strike)| Step::Answer { call, weather, with_pause, strike }),
        2 => nth().prop_map(|call| Step::GiveUp { call }),
        4 => (nth(), any::<bool>()).prop_map(|(call, has_sent)| Step::Die { call, has_sent }),
        5 => (holder(), any::<bool>())
            .prop_map(|(holder, as_second_account)| Step::Login { holder, as_second_account }),
        5 => holder().prop_map(|holder| Step::Logout { holder }),
        2 => agent().prop_map(|agent| Step::BackUp { agent }),
        1 => nth().prop_map(|backup| Step::Restore { backup }),
        9 => select(&[0.5, 2.0, 0.98, 0.001, -4.0][..]).prop_map(|lifetimes| Step::Pass { lifetimes }),
    ]
}

fn agent() -> impl Strategy<Value = &'static str> {
    select(&AGENTS[..])
}

fn weather() -> impl Strategy<Value = Weather> {
    use Weather::{Busy, Fine, Garbage, LostAfter, LostBefore, NotSent, WrongAccount};
    select(&[Fine, Fine, Fine, Fine, NotSent, Busy, LostBefore, LostAfter, WrongAccount, Garbage][..])
}

/// Now and then a file operation of the step fails, or the process dies at it.
fn strike() -> impl Strategy<Value = Strike> {
    // Mostly at the beginning, where the journal is written.
    let at = prop_oneof![1..=4usize, 1..=12usize, 1..=MOST_OPERATIONS];
    let (full, io_error, too_many_files) = (Fault::Errno(28), Fault::Errno(5), Fault::Errno(24));
    let kinds = vec![Fault::Crash, Fault::Crash, Fault::Gone, Fault::Short, full, io_error, too_many_files];
    option::weighted(1.0 / 3.0, (at, select(kinds)))
}

fn one_in(chances: u32) -> impl Strategy<Value = bool> {
    bool::weighted(1.0 / f64::from(chances))
}
