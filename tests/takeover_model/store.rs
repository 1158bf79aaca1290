//! The writers of one store: each reads the file, adds its own change, and renames a temporary file over it.

use crate::check::{Action, Mishaps, is_stuck};
use crate::tenure::{Begin, LAST, TERMS, Tenure, Terms, is_out_of_terms};
use stateright::{Model, Property};

pub const NO_CHANGE_LOST: &str = "no write undoes another's";
pub const NOBODY_WAITS_FOR_EVER: &str = "nobody waits for ever for a store";

/// A rule, left out or turned round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    LooksForHigherTermBeforeTemporary,
    ReadsBeforeUnlinking,
    UnlinksNothing,
}

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct Writers<const N: usize> {
    pub mishaps: Mishaps,
    pub broken: Option<Broken>,
}

/// What a process does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    Acquire,
    UnlinkTemporary(usize),
    Read,
    WriteTemporary,
    LookForHigherTerm,
    Rename,
    StartOver,
    Release,
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Process {
    step: Step,
    tenure: Tenure,
    read: Changes,
    stopped: bool,
}

/// Whose changes a file has: one bit for each process.
type Changes = u8;

/// A state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World<const N: usize> {
    processes: [Process; N],
    terms: Terms,
    store: Changes,
    /// The temporary file of each term.
    temporaries: [Option<Changes>; TERMS],
    left: Mishaps,
    // For the proofs.
    lost: bool,
    came_too_late: bool,
}

impl<const N: usize> Writers<N> {
    /// A process's next step; `None` if it has to wait.
    fn go(self, world: &World<N>, at: usize) -> Option<World<N>> {
        let is = |broken| self.broken == Some(broken);
        let mut next = world.clone();
        let mut me = world.processes[at];
        let term = me.tenure.term;
        match me.step {
            Step::Acquire => {
                if !me.tenure.go(&mut next.terms, Begin::Marker) {
                    return None;
                }
                if me.tenure.is_owner() {
                    let reads = me.tenure.term == 0 || is(Broken::ReadsBeforeUnlinking) || is(Broken::UnlinksNothing);
                    me.step = if reads { Step::Read } else { Step::UnlinkTemporary(0) };
                }
            }
            Step::UnlinkTemporary(older) => {
                next.temporaries[older] = None;
                let rest = if is(Broken::ReadsBeforeUnlinking) { Step::WriteTemporary } else { Step::Read };
                me.step = if older + 1 < term { Step::UnlinkTemporary(older + 1) } else { rest };
            }
            Step::Read => {
                me.read = world.store;
                me.step = match self.broken {
                    Some(Broken::ReadsBeforeUnlinking) if term > 0 => Step::UnlinkTemporary(0),
                    Some(Broken::LooksForHigherTermBeforeTemporary) => Step::LookForHigherTerm,
                    _ => Step::WriteTemporary,
                };
            }
            Step::WriteTemporary => {
                next.temporaries[term] = Some(me.read | 1 << at);
                let has_looked = is(Broken::LooksForHigherTermBeforeTemporary);
                me.step = if has_looked { Step::Rename } else { Step::LookForHigherTerm };
            }
            Step::LookForHigherTerm if world.terms.current() > term => me.step = Step::StartOver,
            Step::LookForHigherTerm => {
                let has_none = is(Broken::LooksForHigherTermBeforeTemporary);
                me.step = if has_none { Step::WriteTemporary } else { Step::Rename };
            }
            Step::Rename => {
                let changes = next.temporaries[term].take();
                next.came_too_late |= changes.is_none();
                next.lost |= changes.is_some_and(|changes| world.store & !changes != 0);
                next.store = changes.unwrap_or(world.store);
                me.step = if changes.is_some() { Step::Release } else { Step::StartOver };
            }
            Step::StartOver => me.end(&mut next.terms, Step::Acquire),
            Step::Release => me.end(&mut next.terms, Step::Ended),
            Step::Ended => return None,
        }
        next.processes[at] = me;
        Some(next)
    }

    fn take_over(world: &World<N>, at: usize) -> Option<World<N>> {
        let mut next = world.clone();
        let can = next.processes[at].tenure.take_over(&next.terms, Begin::Marker);
        can.then_some(next)
    }

    /// Whether nobody can ever go on, however long the holders have had their locks.
    fn is_stuck(self, world: &World<N>) -> bool {
        let mut late = world.clone();
        late.terms.all_become_overdue();
        let left = (0..N).filter(|&at| world.processes[at].can_go());
        !world.processes.iter().any(|one| is_out_of_terms(one.stopped, one.tenure))
            && is_stuck(left, |at| self.go(&late, at).is_some() || Self::take_over(&late, at).is_some())
    }
}

impl Process {
    fn can_go(&self) -> bool {
        !self.stopped && self.step != Step::Ended
    }

    fn end(&mut self, terms: &mut Terms, step: Step) {
        self.tenure.release(terms);
        (self.step, self.read) = (step, 0);
    }
}

impl<const N: usize> Model for Writers<N> {
    type State = World<N>;
    type Action = Action;

    fn init_states(&self) -> Vec<World<N>> {
        vec![World {
            processes: [Process { step: Step::Acquire, tenure: Tenure::NONE, read: 0, stopped: false }; N],
            terms: Terms::new(),
            store: 0,
            temporaries: [None; TERMS],
            left: self.mishaps,
            lost: false,
            came_too_late: false,
        }]
    }

    fn actions(&self, world: &World<N>, actions: &mut Vec<Action>) {
        for at in (0..N).filter(|&at| world.processes[at].can_go()) {
            actions.extend([Action::Go(at), Action::TakeOver(at)]);
            actions.extend((world.left.deaths > 0).then_some(Action::Die(at)));
            actions.extend((world.left.stops > 0).then_some(Action::Stop(at)));
        }
        actions.extend((0..LAST).map(Action::Overdue));
    }

    fn next_state(&self, world: &World<N>, action: Action) -> Option<World<N>> {
        let mut next = world.clone();
        match action {
            Action::Go(at) => return self.go(world, at),
            Action::TakeOver(at) => return Self::take_over(world, at),
            Action::Die(at) => {
                next.processes[at].end(&mut next.terms, Step::Ended);
                next.left.deaths -= 1;
            }
            Action::Stop(at) => {
                next.processes[at].stopped = true;
                next.left.stops -= 1;
            }
            Action::Overdue(term) if !next.terms.become_overdue(term) => return None,
            _ => {}
        }
        Some(next)
    }

    fn format_step(&self, world: &World<N>, action: Action) -> Option<String> {
        Some(action.in_words(|at| {
            let Process { step, tenure, .. } = &world.processes[at];
            format!("{at} {step:?}, {:?} {}", tenure.stage, tenure.term)
        }))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NO_CHANGE_LOST, |_, world: &World<N>| !world.lost),
            Property::always(NOBODY_WAITS_FOR_EVER, |model: &Self, world: &World<N>| !model.is_stuck(world)),
            Property::sometimes("the last term begins", |_, world: &World<N>| world.terms.current() == LAST),
            Property::sometimes("an old writer looks and starts over", |_, world: &World<N>| {
                !world.came_too_late && world.processes.iter().any(|one| one.step == Step::StartOver)
            }),
            Property::sometimes("an old writer finds its temporary gone", |_, world: &World<N>| world.came_too_late),
            Property::sometimes("everybody's change is saved", |_, world: &World<N>| world.store == (1 << N) - 1),
        ]
    }
}
