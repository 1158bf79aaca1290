//! What can happen in a model.

/// Everything that can happen in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A process does its next step.
    Go(usize),
    /// A waiter finds the holder of the lock overdue.
    TakeOver(usize),
    /// A process dies, and the kernel frees its locks.
    Die(usize),
    /// A process stops for good, and keeps its locks.
    Stop(usize),
    /// A gateway answers the process's call with an error of its own; the provider never sees it.
    LoseRequest(usize),
    /// The provider answers the process's call, and the answer is lost on its way.
    LoseAnswer(usize),
    /// A process that waits for the lock looks whether it still needs it.
    Look(usize),
    /// The holder of a term's lock has had it for too long.
    Overdue(usize),
    /// A process has had its key for too long.
    OverdueOwner(usize),
    /// Somebody else, of whom a model knows one: a login, another caller.
    Outside,
}

impl Action {
    /// What happens, with each process's next step in words.
    pub fn in_words(self, step: impl Fn(usize) -> String) -> String {
        match self {
            Self::Go(at) => step(at),
            Self::TakeOver(at) => format!("{}: finds the holder overdue", step(at)),
            Self::Die(at) => format!("{}: dies before", step(at)),
            Self::Stop(at) => format!("{}: stops before, for good", step(at)),
            Self::LoseRequest(at) => format!("{}: a gateway loses the request", step(at)),
            Self::LoseAnswer(at) => format!("{}: the answer is lost", step(at)),
            Self::Look(at) => format!("{}: finds the successor without the lock", step(at)),
            Self::Overdue(term) => format!("the holder of term {term} becomes overdue"),
            Self::OverdueOwner(at) => format!("{}: the owner of its key becomes overdue", step(at)),
            Self::Outside => "the successor is refreshed in turn".to_owned(),
        }
    }
}

/// What a process may still do besides its next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mishaps {
    pub deaths: u8,
    pub stops: u8,
    /// Of requests or answers.
    pub losses: u8,
}

/// Whether there is somebody left, and none of them can go on.
pub fn is_stuck(left: impl Iterator<Item = usize>, can_go_on: impl Fn(usize) -> bool) -> bool {
    let mut left = left.peekable();
    left.peek().is_some() && !left.any(can_go_on)
}
