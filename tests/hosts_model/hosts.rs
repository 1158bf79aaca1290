//! One generation, several hosts, and an engine whose answers may be lost or late.

pub mod promises;
mod row;
mod steps;

use row::{Mark, Row};
use stateright::{Model, Property};

/// A rule, left out or turned round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    JournalsNoDispatch,
    ChecksNoDeadline,
    /// It lets a call begin that may last beyond the limit: half of 180 s and a call of 120 s.
    ChecksAgainstHalfTheLimit,
    TakesBackNothingGivenUp,
    TakesNoAnswerForNoClaim,
    ForgetsItsClaimByAStaleLoad,
    ForgetsItsCallByAStaleLoad,
    DropsTheMark,
    DropsTheMarkOfWhatIsFree,
    FreesASilentClaim,
    CommitsOverItsOwnClaimOnly,
    ForgetsWhatIsOwed,
    /// An owner that is left without an answer says no more of its call than others would.
    DoesNotSayThatItsCallEnded,
}

/// What is done about a claim of whose owner nothing is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostHost {
    Wait,
    Probe,
}

/// How often a call is repeated that has ended, as its own host says, without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    Once,
    UntilAnswered,
}

/// Where a process may be stopped beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pauses {
    Anywhere,
    /// Not from its look at the clock to its commit: there, only the call itself takes time, up to its limit.
    OutsideTheCall,
}

/// What may go wrong, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mishaps {
    pub deaths: u8,
    /// Hosts that are lost with their disks.
    pub disks: u8,
    /// Writes on which the engine does not answer.
    pub silences: u8,
    /// Calls without an answer.
    pub unanswered: u8,
    /// Calls which the provider does not want now: a 429.
    pub unspent: u8,
}

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct Hosts<const N: usize> {
    pub mishaps: Mishaps,
    pub lost_host: LostHost,
    pub repeats: Repeats,
    pub pauses: Pauses,
    pub broken: Option<Broken>,
}

/// What a host's journal says, durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Journal {
    Idle,
    Claimed,
    Dispatched,
    Received,
    Owed,
}

/// How a call has ended, other than with a successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Outcome {
    Refused,
    Unanswered,
    Unspent,
}

/// What the process that holds a host's lock does next. When one ends or dies, the next begins at `Decide`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Decide,
    /// Whoever has dispatched is gone, as the kernel says.
    TellThatItEnded,
    Claim,
    WriteDispatched,
    LookAtTheClock,
    Send,
    AwaitAnswer,
    WriteReceived,
    WriteStore,
    Commit,
    /// A call that the provider did not want is not in doubt.
    UndoDispatched,
    Tell(Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Host {
    lives: bool,
    step: Step,
    journal: Journal,
    /// Of the claim that the journal names, or of the next.
    id: u8,
    /// Of the claim that the process has made.
    mark: Mark,
    /// Since it asked for its claim. 0: a call may begin; 1: it may not; 2: others give the claim up.
    age: u8,
    began_in_time: bool,
    /// Whether the successor is in its store.
    stored: bool,
}

/// A state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct World<const N: usize> {
    row: Row,
    /// Writes that the engine may still do, if the row is as they expect it.
    late: Vec<Row>,
    hosts: [Host; N],
    rotated: bool,
    /// Requests that are under way, and whose answer nobody awaits any more.
    orphans: u8,
    left: Mishaps,
    // For the proofs: calls that may have spent the token, and what should not happen.
    sent: u8,
    repeated: u8,
    received: bool,
    beside_an_answer: bool,
    unmarked: bool,
}

/// Everything that can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A process does its next step.
    Go(usize),
    /// It does, and the engine's answer is lost.
    GoUnheard(usize),
    /// It asks the engine for it, which does it later or never.
    GoLate(usize),
    /// The engine does what it was asked for earlier.
    Land(usize),
    GiveUp(usize),
    Age(usize),
    Die(usize),
    LoseDisk(usize),
    LoseAnswer(usize),
    AnswerUnspent(usize),
    OrphanLands,
    /// A process decides by what the engine said long ago.
    LoadStale(usize),
}

impl Step {
    fn is_from_clock_to_commit(self) -> bool {
        matches!(self, Self::Send | Self::AwaitAnswer | Self::WriteReceived | Self::WriteStore | Self::Commit)
    }

    fn has_the_claim(self) -> bool {
        matches!(self, Self::WriteDispatched | Self::LookAtTheClock) || self.is_from_clock_to_commit()
    }

    fn asks_the_engine(self) -> bool {
        matches!(self, Self::TellThatItEnded | Self::Claim | Self::Commit | Self::Tell(_))
    }
}

impl<const N: usize> Hosts<N> {
    fn is(self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }
}

impl<const N: usize> Model for Hosts<N> {
    type State = World<N>;
    type Action = Action;

    fn init_states(&self) -> Vec<World<N>> {
        let host = Host {
            lives: true,
            step: Step::Decide,
            journal: Journal::Idle,
            id: 0,
            mark: Mark::First,
            age: 0,
            began_in_time: false,
            stored: false,
        };
        vec![World {
            row: Row::Absent,
            late: Vec::new(),
            hosts: [host; N],
            rotated: false,
            orphans: 0,
            left: self.mishaps,
            sent: 0,
            repeated: 0,
            received: false,
            beside_an_answer: false,
            unmarked: false,
        }]
    }

    fn actions(&self, world: &World<N>, actions: &mut Vec<Action>) {
        let Mishaps { deaths, disks, silences, unanswered, unspent } = world.left;
        for at in (0..N).filter(|&at| world.hosts[at].lives) {
            let step = world.hosts[at].step;
            actions.extend([Action::Go(at), Action::GiveUp(at), Action::Age(at)]);
            if silences > 0 && step.asks_the_engine() {
                actions.extend([Action::GoUnheard(at), Action::GoLate(at)]);
            }
            actions.extend((deaths > 0 && step != Step::Decide).then_some(Action::Die(at)));
            actions.extend((disks > 0).then_some(Action::LoseDisk(at)));
            actions.extend((unanswered > 0 && step == Step::AwaitAnswer).then_some(Action::LoseAnswer(at)));
            actions.extend((unspent > 0 && step == Step::AwaitAnswer).then_some(Action::AnswerUnspent(at)));
            actions.push(Action::LoadStale(at));
        }
        actions.extend((0..world.late.len()).map(Action::Land));
        actions.extend((world.orphans > 0).then_some(Action::OrphanLands));
    }

    fn next_state(&self, world: &World<N>, action: Action) -> Option<World<N>> {
        let mut next = match action {
            Action::Go(at) => self.go(world, at)?,
            Action::GoUnheard(at) => self.go_unheard(world, at, false)?,
            Action::GoLate(at) => self.go_unheard(world, at, true)?,
            Action::GiveUp(at) => self.give_up(world, at)?,
            Action::Age(at) => self.age(world, at)?,
            Action::LoadStale(at) => self.load_stale(world, at)?,
            _ => world.clone(),
        };
        match action {
            Action::Land(which) => next.write(world.late[which]),
            Action::Die(at) => next.end_process(at),
            Action::LoseDisk(at) => next.lose_disk(at),
            Action::LoseAnswer(at) => next.lose_answer(at),
            Action::AnswerUnspent(at) => next.answer_unspent(at),
            Action::OrphanLands => {
                next.orphans -= 1;
                next.rotated = true;
            }
            _ => {}
        }
        next.forget_what_does_not_matter();
        Some(next)
    }

    fn format_step(&self, world: &World<N>, action: Action) -> Option<String> {
        let row = world.row;
        Some(match action {
            Action::Go(at) | Action::GoUnheard(at) | Action::GoLate(at) => {
                let Host { step, journal, .. } = world.hosts[at];
                let name = format!("{action:?}");
                let how = name.split('(').next().unwrap_or_default();
                format!("host {at} {how} {step:?}; its journal was {journal:?}, the row {row:?}")
            }
            _ => format!("{action:?}; the row was {row:?}"),
        })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::of(*self)
    }
}
