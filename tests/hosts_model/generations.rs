//! Several generations, and an engine that is set back to a backup.
//!
//! Nothing else goes wrong here: what one generation's row goes through is the other model's.

use crate::settling::Settles;
use stateright::{Model, Property};

/// How many refresh tokens are spent at most.
const LAST: usize = 3;

pub const SENT_ONCE: &str = "no refresh token is sent twice";
pub const NOT_CLAIMED_AGAIN: &str =
    "nobody claims a generation once one who knows its successor has looked at the rows and claimed a later one";
pub const NOT_CLAIMED_AFTER_AN_OLDER_LOOK: &str =
    "nobody claims a generation once one who knows its successor has claimed a later one";
pub const NOT_SENT_AGAIN: &str =
    "nobody sends a token once one who knows its successor has looked at the rows and claimed a later one";

/// Which rows a host looks at before it claims, and says again if the engine has forgotten them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LooksAt {
    /// All those whose successor it knows, the oldest first.
    AllItKnows,
    TheOneBefore,
    AllIfTheOneBeforeIsForgotten,
    /// All, if one of the two before is forgotten, or the row of its last claim was when it told the answer. This is what is built.
    AllIfItNotices,
    Nothing,
    /// All it knows, but it says again only what is absent.
    WhatIsAbsent,
}

/// The model, of `N` hosts with one login.
#[derive(Debug, Clone, Copy)]
pub struct Generations<const N: usize> {
    pub set_backs: u8,
    /// How many machines are made from another's present login.
    pub copies: u8,
    pub looks_at: LooksAt,
    /// Whether to look for what no rule can prevent.
    pub asks_too_much: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Row {
    Absent,
    Sent,
    Spent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Decide,
    /// At the row of this generation, and at all later ones that it knows.
    Look(usize),
    Claim,
    Send,
    Commit,
    /// The provider has refused its token.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Host {
    step: Step,
    /// Of the refresh token in its store.
    generation: usize,
    /// The generations whose sealed successor it has kept.
    knows: Generation,
    /// Whether the engine was set back since it began to look.
    looked_before: bool,
    /// Whether its claim was not there any more when it told the answer.
    notices: bool,
}

/// One bit for each generation.
type Generation = u8;

/// A state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct World<const N: usize> {
    rows: [Row; LAST],
    backup: Option<[Row; LAST]>,
    hosts: [Host; N],
    /// The token that the provider takes.
    newest: usize,
    set_backs: u8,
    copies: u8,
    // For the proofs. Which generations stand since the engine was last set back, because one who knows the successor
    // has claimed a later one; and all that, if its look may have been before.
    vouched: Generation,
    vouched_by_an_older_look: Generation,
    sent_twice: bool,
    claimed_again: bool,
    claimed_after_an_older_look: bool,
    sent_again: bool,
}

/// Everything that can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Go(usize),
    Copy { from: usize, to: usize },
    BackUp,
    SetBack,
}

const fn bit(generation: usize) -> Generation {
    1 << generation
}

impl Host {
    fn knows(&self, generation: usize) -> bool {
        self.knows & bit(generation) != 0
    }

    fn go_on_with(&mut self, successor_of: usize) {
        self.knows |= bit(successor_of);
        self.generation = successor_of + 1;
        self.step = Step::Decide;
    }
}

impl<const N: usize> Generations<N> {
    /// A host's next step; `None` if it has to wait.
    fn go(self, world: &World<N>, at: usize) -> Option<World<N>> {
        let mut next = world.clone();
        let me = &mut next.hosts[at];
        let generation = me.generation;
        match me.step {
            Step::Decide => match world.rows.get(generation) {
                Some(Row::Spent) => me.go_on_with(generation),
                Some(Row::Sent) => return None,
                Some(Row::Absent) | None => {
                    me.looked_before = false;
                    me.step = self.first_look(world, *me);
                }
            },
            Step::Look(older) => {
                if me.knows(older) && self.says_again(world.rows[older]) {
                    next.rows[older] = Row::Spent;
                }
                me.notices = false;
                me.step = if older + 1 < generation { Step::Look(older + 1) } else { Step::Claim };
            }
            Step::Claim if world.rows.get(generation) != Some(&Row::Absent) => me.step = Step::Decide,
            Step::Claim => {
                me.step = Step::Send;
                next.claim(at);
            }
            Step::Send => {
                let is_newest = world.newest == generation;
                me.step = if is_newest { Step::Commit } else { Step::Ended };
                next.newest += usize::from(is_newest);
                next.sent_twice |= !is_newest;
                next.sent_again |= world.vouched & bit(generation) != 0;
            }
            Step::Commit => {
                me.notices |= world.rows[generation] != Row::Sent;
                next.rows[generation] = Row::Spent;
                me.go_on_with(generation);
            }
            Step::Ended => return None,
        }
        Some(next)
    }

    fn first_look(self, world: &World<N>, me: Host) -> Step {
        let Some(before) = me.generation.checked_sub(1) else { return Step::Claim };
        match self.looks_at {
            LooksAt::Nothing => Step::Claim,
            LooksAt::TheOneBefore => Step::Look(before),
            LooksAt::AllIfTheOneBeforeIsForgotten if world.rows[before] == Row::Spent => Step::Claim,
            LooksAt::AllIfItNotices => {
                let two = before.saturating_sub(1)..me.generation;
                let knows_all = two.into_iter().all(|older| !me.knows(older) || world.rows[older] == Row::Spent);
                if knows_all && !me.notices { Step::Claim } else { Step::Look(0) }
            }
            _ => Step::Look(0),
        }
    }

    fn says_again(self, row: Row) -> bool {
        row == Row::Absent || (row != Row::Spent && self.looks_at != LooksAt::WhatIsAbsent)
    }
}

impl<const N: usize> Settles for Generations<N> {
    fn is_step(action: &Action) -> bool {
        matches!(action, Action::Go(_))
    }

    fn is_settled(&self, world: &World<N>) -> bool {
        world.hosts.iter().all(|host| host.generation == LAST || host.step == Step::Ended)
    }

    /// Nobody knows a successor that somebody needs; or a machine whose token was refused would have had to say it.
    fn has_an_excuse(&self, world: &World<N>) -> bool {
        let known = world.hosts.iter().filter(|host| host.step != Step::Ended).fold(0, |all, host| all | host.knows);
        let needed = world.hosts.iter().map(|host| host.generation).min().unwrap_or(LAST);
        (needed..world.newest).any(|generation| known & bit(generation) == 0)
    }
}

impl<const N: usize> World<N> {
    fn claim(&mut self, at: usize) {
        let Host { generation, knows, looked_before, .. } = self.hosts[at];
        self.claimed_again |= self.vouched & bit(generation) != 0;
        self.claimed_after_an_older_look |= self.vouched_by_an_older_look & bit(generation) != 0;
        self.rows[generation] = Row::Sent;
        self.vouched_by_an_older_look |= knows;
        self.vouched |= if looked_before { 0 } else { knows };
    }

    fn set_back(&mut self) {
        self.rows = self.backup.unwrap_or(self.rows);
        self.set_backs -= 1;
        (self.vouched, self.vouched_by_an_older_look) = (0, 0);
        for host in &mut self.hosts {
            host.looked_before = !matches!(host.step, Step::Decide | Step::Ended);
        }
    }
}

impl<const N: usize> Model for Generations<N> {
    type State = World<N>;
    type Action = Action;

    fn init_states(&self) -> Vec<World<N>> {
        vec![World {
            rows: [Row::Absent; LAST],
            backup: None,
            hosts: [Host { step: Step::Decide, generation: 0, knows: 0, looked_before: false, notices: false }; N],
            newest: 0,
            set_backs: self.set_backs,
            copies: self.copies,
            vouched: 0,
            vouched_by_an_older_look: 0,
            sent_twice: false,
            claimed_again: false,
            claimed_after_an_older_look: false,
            sent_again: false,
        }]
    }

    fn actions(&self, world: &World<N>, actions: &mut Vec<Action>) {
        actions.extend((0..N).map(Action::Go));
        if world.set_backs > 0 {
            actions.push(if world.backup.is_none() { Action::BackUp } else { Action::SetBack });
        }
        if world.copies > 0 {
            actions.extend((0..N * N).map(|pair| Action::Copy { from: pair / N, to: pair % N }));
        }
    }

    fn next_state(&self, world: &World<N>, action: Action) -> Option<World<N>> {
        let mut next = world.clone();
        match action {
            Action::Go(at) => return self.go(world, at),
            Action::Copy { from, to } if from == to || world.hosts[to].step != Step::Decide => return None,
            Action::Copy { from, to } => {
                let generation = world.hosts[from].generation;
                next.hosts[to] = Host { generation, knows: 0, ..world.hosts[to] };
                next.copies -= 1;
            }
            Action::BackUp => next.backup = Some(world.rows),
            Action::SetBack => next.set_back(),
        }
        Some(next)
    }

    fn format_step(&self, world: &World<N>, action: Action) -> Option<String> {
        let Action::Go(at) = action else { return Some(format!("{action:?}")) };
        let Host { step, generation, .. } = world.hosts[at];
        Some(format!("host {at}, generation {generation}: {step:?}; rows {:?}", world.rows))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SENT_ONCE, |model: &Self, world: &World<N>| model.set_backs > 0 || !world.sent_twice),
            Property::always(NOT_CLAIMED_AGAIN, |_, world: &World<N>| !world.claimed_again),
            // Two that no rule can keep. A model that is to hold is not asked for them.
            Property::always(NOT_CLAIMED_AFTER_AN_OLDER_LOOK, |model: &Self, world: &World<N>| {
                !model.asks_too_much || !world.claimed_after_an_older_look
            }),
            Property::always(NOT_SENT_AGAIN, |model: &Self, world: &World<N>| {
                !model.asks_too_much || !world.sent_again
            }),
            Property::sometimes("all walk to the newest", |_, world: &World<N>| {
                world.hosts.iter().all(|host| host.generation == LAST)
            }),
        ]
    }
}
