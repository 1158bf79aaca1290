//! A host whose owner is stopped and taken over from, and another host. Both owners of the first may claim under one id, as the second
//! has it from the first one's journal.

use stateright::{Model, Property};

pub const SENT_ONCE: &str = "a token is sent once, by the owner of one claim";

/// A rule of an owner that may be stopped, left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// When it has read a row it does not look whether it was taken over from.
    LooksAtNoTermBeforeItClaims,
    LooksAtNoTermBeforeItSends,
    /// It gives a claim back without looking whether it is still its own.
    GivesBackWhatIsThere,
}

#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub forgotten: Option<Forgotten>,
}

/// Whose claim it is: of the host that is taken over from, or of the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Id {
    Ours,
    Theirs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Row {
    version: u8,
    claim: Option<Id>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Load,
    /// It has read this version.
    Judge(Row),
    /// It found that it may claim it.
    Swap(Row),
    /// It has left this version.
    Dispatch(u8),
    Send,
    GiveBack(u8),
    Over,
}

/// The first owner, the one that takes over, and the other host's.
const FIRST: usize = 0;
const SECOND: usize = 1;
const OTHER: usize = 2;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    row: Row,
    steps: [Step; 3],
    is_taken_over: bool,
    sent: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Go(usize),
    /// Its caller has left, or something is in the way: it sends nothing.
    GiveUp(usize),
    TakeOver,
}

impl World {
    fn has_dispatched(&self, owner: usize) -> bool {
        self.steps[owner] == Step::Send
    }
}

impl Terms {
    fn id(owner: usize) -> Id {
        if owner == OTHER { Id::Theirs } else { Id::Ours }
    }

    fn is_forgotten(self, rule: Forgotten) -> bool {
        self.forgotten == Some(rule)
    }

    fn go(self, world: &World, owner: usize) -> Option<World> {
        let mut next = world.clone();
        let was_taken_over = owner == FIRST && world.is_taken_over;
        next.steps[owner] = match world.steps[owner] {
            Step::Load => Step::Judge(world.row),
            Step::Judge(_) if was_taken_over && !self.is_forgotten(Forgotten::LooksAtNoTermBeforeItClaims) => {
                Step::Over
            }
            // Its own claim, under which nothing was sent, as its host's journals say.
            Step::Judge(row) => match row.claim {
                Some(id) if id != Self::id(owner) => Step::Over,
                Some(_) if world.has_dispatched(FIRST) || world.has_dispatched(SECOND) => Step::Over,
                _ => Step::Swap(row),
            },
            Step::Swap(seen) if seen == world.row => {
                next.row = Row { version: seen.version + 1, claim: Some(Self::id(owner)) };
                Step::Dispatch(next.row.version)
            }
            Step::Swap(_) => Step::Load,
            Step::Dispatch(version) if was_taken_over && !self.is_forgotten(Forgotten::LooksAtNoTermBeforeItSends) => {
                Step::GiveBack(version)
            }
            Step::Dispatch(_) => Step::Send,
            Step::Send => {
                next.sent += 1;
                Step::Over
            }
            Step::GiveBack(version) => {
                if version == world.row.version || self.is_forgotten(Forgotten::GivesBackWhatIsThere) {
                    next.row = Row { version: world.row.version + 1, claim: None };
                }
                Step::Over
            }
            Step::Over => return None,
        };
        Some(next)
    }
}

impl Model for Terms {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let row = Row { version: 0, claim: None };
        vec![World { row, steps: [Step::Load, Step::Over, Step::Load], is_taken_over: false, sent: 0 }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for owner in [FIRST, SECOND, OTHER] {
            actions.push(Action::Go(owner));
            actions.extend(matches!(world.steps[owner], Step::Dispatch(_)).then_some(Action::GiveUp(owner)));
        }
        // One that has sent is asked after, or the provider is: `takeover_model`.
        let may_be_taken_over = !world.is_taken_over && world.sent == 0 && !world.has_dispatched(FIRST);
        actions.extend(may_be_taken_over.then_some(Action::TakeOver));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        match action {
            Action::Go(owner) => self.go(world, owner),
            Action::GiveUp(owner) => {
                let Step::Dispatch(version) = world.steps[owner] else { return None };
                let mut next = world.clone();
                next.steps[owner] = Step::GiveBack(version);
                Some(next)
            }
            Action::TakeOver => {
                let mut next = world.clone();
                (next.is_taken_over, next.steps[SECOND]) = (true, Step::Load);
                Some(next)
            }
        }
    }

    fn format_step(&self, world: &World, action: Action) -> Option<String> {
        let World { row, steps, .. } = world;
        Some(match action {
            Action::Go(owner) => format!("owner {owner}: {:?}; the row was {row:?}", steps[owner]),
            _ => format!("{action:?}; the row was {row:?}"),
        })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SENT_ONCE, |_, world: &World| world.sent <= 1),
            Property::sometimes("the one that took over sends it", |_, world: &World| world.has_dispatched(SECOND)),
            Property::sometimes("what was given back is sent by the other host", |_, world: &World| {
                world.row.version > 2 && world.has_dispatched(OTHER)
            }),
        ]
    }
}
