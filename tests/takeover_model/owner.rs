//! A key's owners, one refresh token, and what each of them sends.

mod process;
pub mod promises;
mod reading;
mod takeover;

use crate::check::{Action, Mishaps};
use crate::journal::{Doubt, Journal, State};
use crate::tenure::{Begin, LAST, Stage, TERMS, Tenure, Terms};
use process::{End, Process, Step};
use stateright::{Model, Property};

/// A rule, left out or turned round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    LooksForHigherTermBeforeDispatched,
    ReadsJournalsBeforeMarker,
    ReadsNoOlderJournals,
    ReadsStoreBeforeJournals,
    UndoesToIdle,
    CommitsWithoutComparing,
    BuriesTheSecondDoubt,
    ProbesBesideAnyOwner,
    DropsALateAnswer,
    EmptiesBeforeItCopies,
    OverlooksReceived,
}

/// The model, for `N` callers who all find the credential expired.
#[derive(Debug, Clone, Copy)]
pub struct Owners<const N: usize> {
    pub mishaps: Mishaps,
    pub begin: Begin,
    pub broken: Option<Broken>,
}

/// A state of the model.
#[derive(Debug, Clone, PartialEq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct World<const N: usize> {
    processes: [Process; N],
    terms: Terms,
    journals: [Journal; TERMS],
    /// The generation in the store: 0 is the expired one, 1 its successor, 2 that one's.
    store: u8,
    /// Whether the provider has rotated generation 0.
    rotated: bool,
    /// How often generation 0 was sent without a doubt on record, and how often again behind one.
    calls: u8,
    repeats: u8,
    left: Mishaps,
    // For the proofs.
    cut_off: bool,
    received: bool,
    went_back: bool,
    hasty: bool,
}

impl<const N: usize> Owners<N> {
    fn is(self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    /// A process's next step; `None` if it has to wait.
    fn go(self, world: &World<N>, at: usize) -> Option<World<N>> {
        let mut next = world.clone();
        let World { terms, journals, .. } = &mut next;
        let mut me = world.processes[at];
        let term = me.tenure.term;
        match me.step {
            Step::Acquire if me.tenure.stage == Stage::CreateMarker && self.reads_too_early(&me) => {
                me.step = Step::ReadJournal(0);
            }
            Step::Acquire => {
                let begun = terms.begun;
                if !me.tenure.go(terms, self.begin) {
                    return None;
                }
                // An owner that has dispatched by now may send as well.
                next.cut_off |= begun != terms.begun && journals[..term].iter().any(|one| one.is_dispatched());
                if me.tenure.is_owner() {
                    me.step = self.first_reading(&me);
                }
            }
            Step::ReadJournal(from) => {
                if !self.read_journal(&mut me, terms, journals, from) {
                    return None;
                }
            }
            Step::CopyJournal(from) | Step::EmptyJournal(from) => self.move_journal(&mut me, terms, journals, from),
            Step::ReadStore if world.store > 0 => me.end(terms, End::Served),
            Step::ReadStore if self.is(Broken::ReadsStoreBeforeJournals) => me.step = Step::ReadJournal(0),
            Step::ReadStore => me.decide(terms),
            Step::WriteClaimed => {
                journals[term] = Journal { state: State::Claimed, doubt: me.doubt };
                me.step = if self.looks_early() { Step::LookForHigherTerm } else { Step::WriteDispatched };
            }
            Step::WriteDispatched => {
                let buries = me.doubt == Doubt::Uncertain && self.is(Broken::BuriesTheSecondDoubt);
                let doubt = if buries { Doubt::Buried } else { me.doubt };
                journals[term] = Journal { state: State::Dispatched, doubt };
                me.step = if self.looks_early() { Step::Send } else { Step::LookForHigherTerm };
            }
            Step::LookForHigherTerm if terms.current() > term => me.step = Step::Undo,
            Step::LookForHigherTerm => {
                me.step = if self.looks_early() { Step::WriteDispatched } else { Step::Send };
            }
            Step::Undo => {
                let doubt = if self.is(Broken::UndoesToIdle) { Doubt::None } else { me.doubt };
                journals[term] = Journal { state: State::Idle, doubt };
                me.step = Step::Release(End::StartsOver);
            }
            Step::Send => {
                Self::send(&mut next, world, at);
                me.step = if next.rotated { Step::WriteRefused } else { Step::WriteReceived };
                next.rotated = true;
            }
            Step::WriteUncertain => {
                journals[term] = Journal { state: State::Idle, doubt: journals[term].doubt() };
                me.step = Step::Release(End::NotKnownYet);
            }
            Step::WriteRefused => {
                journals[term] = Journal { state: State::Idle, doubt: Doubt::Dead };
                me.step = Step::Release(if terms.current() > term { End::StartsOver } else { End::GrantDead });
            }
            Step::WriteReceived if self.is(Broken::DropsALateAnswer) && terms.current() > term => {
                me.step = Step::Release(End::StartsOver);
            }
            Step::WriteReceived => {
                journals[term] = Journal { state: State::Received, doubt: Doubt::None };
                next.received = true;
                me.step = Step::Commit;
            }
            Step::Commit => {
                if next.store == 0 || self.is(Broken::CommitsWithoutComparing) {
                    next.went_back |= next.store > 1;
                    next.store = 1;
                }
                me.step = Step::WriteCommitted;
            }
            Step::WriteCommitted => {
                journals[term] = Journal { state: State::Committed, doubt: Doubt::None };
                me.step = Step::Release(End::Served);
            }
            Step::Release(end) => me.end(terms, end),
            Step::Ended(_) => return None,
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
        let is_well = |one: &Process| !one.stopped && !world.terms.overdue[one.tenure.term];
        let others = world.processes.iter().enumerate().filter(|(other, _)| *other != at);
        let me = &world.processes[at];
        next.hasty |= is_well(me) && others.into_iter().any(|(_, one)| is_asking(one) && is_well(one));
    }

    /// A waiter looks, without the lock, whether an owner has left a successor in the store. In the code it does so when an owner lets
    /// go; here at any moment.
    fn look(world: &World<N>, at: usize) -> Option<World<N>> {
        let me = &world.processes[at];
        if me.step != Step::Acquire || me.tenure.locked || world.store == 0 {
            return None;
        }
        let mut next = world.clone();
        next.processes[at].end(&mut next.terms, End::Served);
        Some(next)
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
        next.cut_off = true;
        next.left.losses -= 1;
        Some(next)
    }
}

impl<const N: usize> Model for Owners<N> {
    type State = World<N>;
    type Action = Action;

    fn init_states(&self) -> Vec<World<N>> {
        let process = |id| Process {
            id,
            step: Step::Acquire,
            tenure: Tenure::NONE,
            doubt: Doubt::None,
            moved: Journal::EMPTY,
            found: false,
            has_read: false,
            stopped: false,
        };
        vec![World {
            processes: std::array::from_fn(process),
            terms: Terms::new(),
            journals: [Journal::EMPTY; TERMS],
            store: 0,
            rotated: false,
            calls: 0,
            repeats: 0,
            left: self.mishaps,
            cut_off: false,
            received: false,
            went_back: false,
            hasty: false,
        }]
    }

    fn actions(&self, world: &World<N>, actions: &mut Vec<Action>) {
        for at in (0..N).filter(|&at| world.processes[at].can_go()) {
            actions.extend([Action::Go(at), Action::TakeOver(at)]);
            actions.extend((world.left.deaths > 0).then_some(Action::Die(at)));
            actions.extend((world.left.stops > 0).then_some(Action::Stop(at)));
            actions.extend([Action::LoseRequest(at), Action::LoseAnswer(at), Action::Look(at)]);
        }
        actions.extend((0..LAST).map(Action::Overdue));
        actions.extend((world.store == 1).then_some(Action::Outside));
    }

    fn next_state(&self, world: &World<N>, action: Action) -> Option<World<N>> {
        let mut next = match action {
            Action::Go(at) => self.go(world, at)?,
            Action::TakeOver(at) => self.take_over(world, at)?,
            Action::LoseRequest(at) => Self::lose(world, at, false)?,
            Action::LoseAnswer(at) => Self::lose(world, at, true)?,
            Action::Look(at) => Self::look(world, at)?,
            _ => world.clone(),
        };
        match action {
            Action::Die(at) => {
                let me = &mut next.processes[at];
                next.cut_off |= me.tenure.locked && next.journals[me.tenure.term].is_dispatched();
                me.end(&mut next.terms, End::Died);
                next.left.deaths -= 1;
            }
            Action::Stop(at) => {
                next.processes[at].stopped = true;
                next.left.stops -= 1;
            }
            Action::Overdue(term) if !next.terms.become_overdue(term) => return None,
            Action::Outside => next.store = 2,
            _ => {}
        }
        // Their order does not matter.
        next.processes.sort_by_key(Process::key);
        Some(next)
    }

    fn format_step(&self, world: &World<N>, action: Action) -> Option<String> {
        Some(action.in_words(|at| {
            let Process { id, step, tenure, .. } = &world.processes[at];
            format!("{id} {step:?}, {:?} {}", tenure.stage, tenure.term)
        }))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all()
    }
}
