//! One grant under several names: each process owns a key of its own, and the lock on the claims is taken over.

use crate::check::{Action, Mishaps, is_stuck};
use crate::journal::{Doubt, Journal, State};
use crate::tenure::{Begin, Tenure, Terms, is_out_of_terms};
use stateright::{Model, Property};

pub const ONE_CALL: &str = "a generation is sent once without a doubt on record, under all names together";
pub const ONE_AT_A_TIME: &str = "nobody asks again while the owner of another key is asking, if neither is overdue";
pub const ONLY_THE_PROVIDER_ENDS: &str = "nobody gives the login up unless the provider has refused its token";
pub const NOBODY_WAITS_FOR_EVER: &str = "nobody waits for ever for another key's owner";

/// A rule, left out or turned round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    LooksAtItsKeyOnly,
    WaitsForAnOverdueOwner,
    ProbesBesideAnyOwner,
    BuriesTheSecondDoubt,
}

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct Claimants<const N: usize> {
    pub mishaps: Mishaps,
    /// How many takeovers there may be, of the claims; `LAST` at most.
    pub takeovers: usize,
    pub broken: Option<Broken>,
}

/// What a process does next. It holds its key's lock all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    Acquire,
    ReadJournalOf(usize),
    ReadStore,
    AwaitOwnerOf(usize),
    WriteClaimed,
    WriteDispatched,
    LookForHigherTerm,
    Undo,
    LetGo(Next),
    Send,
    WriteRefused,
    WriteUncertain,
    WriteReceived,
    Commit,
    WriteCommitted,
    Ended,
}

/// What it does without the lock on the claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Next {
    StartOver,
    Await(usize),
    Send,
    Commit,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Process {
    step: Step,
    claims: Tenure,
    journal: Journal,
    doubt: Doubt,
    found: bool,
    /// Whether it has had its key for too long. Asked of those only that have dispatched.
    overdue: bool,
    stopped: bool,
}

/// A state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct World<const N: usize> {
    processes: [Process; N],
    terms: Terms,
    /// Whether the successor is in the store.
    stored: bool,
    rotated: bool,
    calls: u8,
    repeats: u8,
    left: Mishaps,
    hasty: bool,
    /// Somebody gave up over a doubt that was no refusal.
    gave_up: bool,
}

impl Process {
    fn can_go(&self) -> bool {
        !self.stopped && !self.has_ended()
    }

    fn has_ended(&self) -> bool {
        self.step == Step::Ended
    }

    /// Whether its claim has to be waited for.
    fn is_asking(&self) -> bool {
        self.journal.is_dispatched() && !self.has_ended() && !self.overdue
    }

    fn let_go(&mut self, terms: &mut Terms, next: Next) {
        self.claims.release(terms);
        self.step = match next {
            Next::StartOver => Step::Acquire,
            Next::Await(other) => Step::AwaitOwnerOf(other),
            Next::Send => return self.step = Step::Send,
            Next::Commit => Step::Commit,
            Next::End => Step::Ended,
        };
        (self.doubt, self.found, self.overdue) = (Doubt::None, false, false);
    }
}

impl<const N: usize> Claimants<N> {
    /// A process's next step; `None` if it has to wait.
    fn go(self, world: &World<N>, at: usize) -> Option<World<N>> {
        let is = |broken| self.broken == Some(broken);
        let mut next = world.clone();
        let terms = &mut next.terms;
        let mut me = world.processes[at];
        match me.step {
            Step::Acquire => {
                if !me.claims.go(terms, Begin::Marker) {
                    return None;
                }
                if me.claims.is_owner() {
                    me.step = Step::ReadJournalOf(0);
                }
            }
            Step::ReadJournalOf(other) => {
                let one = &world.processes[other];
                let is_waited_for = match self.broken {
                    Some(Broken::ProbesBesideAnyOwner) => false,
                    Some(Broken::WaitsForAnOverdueOwner) => one.journal.is_dispatched() && !one.has_ended(),
                    _ => one.is_asking(),
                };
                if other != at && is_waited_for {
                    me.step = Step::LetGo(Next::Await(other));
                } else {
                    me.doubt = me.doubt.max(one.journal.doubt());
                    me.found |= one.journal.state == State::Received;
                    me.step = if other + 1 < N { Step::ReadJournalOf(other + 1) } else { Step::ReadStore };
                }
            }
            Step::ReadStore => {
                me.step = match me.doubt {
                    _ if world.stored => Step::LetGo(Next::End),
                    _ if me.found => Step::LetGo(Next::Commit),
                    Doubt::None | Doubt::Uncertain => Step::WriteClaimed,
                    Doubt::Buried | Doubt::Dead => Step::LetGo(Next::End),
                };
                next.gave_up |= me.doubt == Doubt::Buried && me.step == Step::LetGo(Next::End) && !world.stored;
            }
            Step::AwaitOwnerOf(other) => {
                let one = &world.processes[other];
                let goes_on = one.has_ended() || !one.journal.is_dispatched();
                if !goes_on && (!one.overdue || is(Broken::WaitsForAnOverdueOwner)) {
                    return None;
                }
                me.step = Step::Acquire;
            }
            Step::WriteClaimed => {
                me.journal = Journal { state: State::Claimed, doubt: me.doubt };
                me.step = Step::WriteDispatched;
            }
            Step::WriteDispatched => {
                let buries = me.doubt == Doubt::Uncertain && is(Broken::BuriesTheSecondDoubt);
                let doubt = if buries { Doubt::Buried } else { me.doubt };
                me.journal = Journal { state: State::Dispatched, doubt };
                me.step = if is(Broken::LooksAtItsKeyOnly) { Step::LetGo(Next::Send) } else { Step::LookForHigherTerm };
            }
            Step::LookForHigherTerm => {
                let is_old = terms.current() > me.claims.term;
                me.step = if is_old { Step::Undo } else { Step::LetGo(Next::Send) };
            }
            Step::Undo => {
                me.journal = Journal { state: State::Idle, doubt: me.doubt };
                me.step = Step::LetGo(Next::StartOver);
            }
            Step::LetGo(after) => me.let_go(terms, after),
            Step::Send => {
                Self::send(&mut next, world, at);
                me.step = if next.rotated { Step::WriteRefused } else { Step::WriteReceived };
                next.rotated = true;
            }
            Step::WriteRefused => {
                me.journal = Journal { state: State::Idle, doubt: Doubt::Dead };
                me.step = Step::LetGo(Next::End);
            }
            Step::WriteUncertain => {
                me.journal = Journal { state: State::Idle, doubt: me.journal.doubt() };
                me.step = Step::LetGo(Next::End);
            }
            Step::WriteReceived => {
                me.journal = Journal { state: State::Received, doubt: Doubt::None };
                me.step = Step::Commit;
            }
            Step::Commit => {
                next.stored = true;
                me.step = Step::WriteCommitted;
            }
            Step::WriteCommitted => {
                me.journal = Journal { state: State::Committed, doubt: Doubt::None };
                me.step = Step::LetGo(Next::End);
            }
            Step::Ended => return None,
        }
        next.processes[at] = me;
        Some(next)
    }

    fn send(next: &mut World<N>, world: &World<N>, at: usize) {
        if world.processes[at].doubt == Doubt::None {
            next.calls += 1;
            return;
        }
        next.repeats += 1;
        let is_asking = |one: &Process| matches!(one.step, Step::Send | Step::WriteReceived | Step::WriteUncertain);
        let others = world.processes.iter().enumerate().filter(|(other, _)| *other != at);
        let is_well = !world.processes[at].overdue;
        next.hasty |= is_well && others.into_iter().any(|(_, one)| is_asking(one) && one.is_asking() && !one.stopped);
    }

    /// The provider, or a gateway before it, is asked, and the answer does not arrive.
    fn lose(world: &World<N>, at: usize, rotates: bool) -> Option<World<N>> {
        if world.left.losses == 0 || world.processes[at].step != Step::Send {
            return None;
        }
        let mut next = world.clone();
        Self::send(&mut next, world, at);
        next.processes[at].step = Step::WriteUncertain;
        next.rotated |= rotates;
        next.left.losses -= 1;
        Some(next)
    }

    fn take_over(world: &World<N>, at: usize) -> Option<World<N>> {
        let mut next = world.clone();
        let can = next.processes[at].claims.take_over(&next.terms, Begin::Marker);
        can.then_some(next)
    }

    /// Whether nobody can ever go on, however long the holders have had their locks.
    fn is_stuck(self, world: &World<N>) -> bool {
        let mut late = world.clone();
        late.terms.all_become_overdue();
        late.processes.iter_mut().for_each(|one| one.overdue = true);
        let left = (0..N).filter(|&at| world.processes[at].can_go());
        !world.processes.iter().any(|one| is_out_of_terms(one.stopped, one.claims))
            && is_stuck(left, |at| self.go(&late, at).is_some() || Self::take_over(&late, at).is_some())
    }
}

impl<const N: usize> Model for Claimants<N> {
    type State = World<N>;
    type Action = Action;

    fn init_states(&self) -> Vec<World<N>> {
        let process = Process {
            step: Step::Acquire,
            claims: Tenure::NONE,
            journal: Journal::EMPTY,
            doubt: Doubt::None,
            found: false,
            overdue: false,
            stopped: false,
        };
        vec![World {
            processes: [process; N],
            terms: Terms::new(),
            stored: false,
            rotated: false,
            calls: 0,
            repeats: 0,
            left: self.mishaps,
            hasty: false,
            gave_up: false,
        }]
    }

    fn actions(&self, world: &World<N>, actions: &mut Vec<Action>) {
        let is_asking = |at: &usize| world.processes[*at].is_asking();
        actions.extend((0..N).filter(is_asking).map(Action::OverdueOwner));
        for at in (0..N).filter(|&at| world.processes[at].can_go()) {
            actions.extend([Action::Go(at), Action::TakeOver(at)]);
            actions.extend((world.left.deaths > 0).then_some(Action::Die(at)));
            actions.extend((world.left.stops > 0).then_some(Action::Stop(at)));
            actions.extend([Action::LoseRequest(at), Action::LoseAnswer(at)]);
        }
        actions.extend((0..self.takeovers).map(Action::Overdue));
    }

    fn next_state(&self, world: &World<N>, action: Action) -> Option<World<N>> {
        let mut next = world.clone();
        match action {
            Action::Go(at) => return self.go(world, at),
            Action::TakeOver(at) => return Self::take_over(world, at),
            Action::LoseRequest(at) => return Self::lose(world, at, false),
            Action::LoseAnswer(at) => return Self::lose(world, at, true),
            Action::Die(at) => {
                next.processes[at].let_go(&mut next.terms, Next::End);
                next.left.deaths -= 1;
            }
            Action::Stop(at) => {
                next.processes[at].stopped = true;
                next.left.stops -= 1;
            }
            Action::Overdue(term) if !next.terms.become_overdue(term) => return None,
            Action::OverdueOwner(at) => next.processes[at].overdue = true,
            _ => {}
        }
        Some(next)
    }

    fn format_step(&self, world: &World<N>, action: Action) -> Option<String> {
        Some(action.in_words(|at| {
            let Process { step, claims, .. } = &world.processes[at];
            format!("{at} {step:?}, {:?} {}", claims.stage, claims.term)
        }))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_CALL, |_, world: &World<N>| world.calls <= 1),
            Property::always(ONE_AT_A_TIME, |_, world: &World<N>| !world.hasty),
            Property::always(ONLY_THE_PROVIDER_ENDS, |_, world: &World<N>| !world.gave_up),
            Property::always(NOBODY_WAITS_FOR_EVER, |model: &Self, world: &World<N>| !model.is_stuck(world)),
            Property::sometimes("the last term begins", |model: &Self, world: &World<N>| {
                world.terms.current() == model.takeovers
            }),
            Property::sometimes("somebody asks again", |_, world: &World<N>| world.repeats > 0),
            Property::sometimes("an old claimant undoes its dispatch", |_, world: &World<N>| {
                world.processes.iter().any(|one| one.step == Step::Undo)
            }),
        ]
    }
}
