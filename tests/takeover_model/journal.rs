//! What the models know of a journal.

/// What is known against sending the generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Doubt {
    None,
    /// Nobody knows whether the provider has rotated.
    Uncertain,
    /// The same twice: what a rule that is broken takes for the end of the login.
    Buried,
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    Idle,
    Claimed,
    Dispatched,
    Received,
    Committed,
}

/// The journal of a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Journal {
    pub state: State,
    pub doubt: Doubt,
}

impl Journal {
    pub const EMPTY: Self = Self { state: State::Idle, doubt: Doubt::None };

    pub fn is_dispatched(self) -> bool {
        self.state == State::Dispatched
    }

    /// What it says against sending the generation, once its writer is not asking any more, or has been for too long.
    pub fn doubt(self) -> Doubt {
        if self.is_dispatched() { self.doubt.max(Doubt::Uncertain) } else { self.doubt }
    }

    /// Adds what an older term's journal says.
    pub fn add(&mut self, older: Self) {
        match older.state {
            _ if self.state == State::Received => {}
            State::Received => *self = older,
            _ => self.doubt = self.doubt.max(older.doubt()),
        }
    }
}
