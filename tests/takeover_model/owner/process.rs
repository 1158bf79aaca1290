//! A caller's process: what it does next, what it knows, and how its turn ends.

use crate::journal::{Doubt, Journal};
use crate::tenure::{Tenure, Terms};
use std::hash::{Hash, Hasher};

/// How a caller's turn ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    StartsOver,
    Served,
    /// Its answer was lost: it is told that the outcome is not known yet.
    NotKnownYet,
    /// It is told that the login is over although the provider has not said so.
    ToldToLogIn,
    GrantDead,
    Died,
}

/// What a process does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    Acquire,
    ReadJournal(usize),
    /// What an owner that is gone has left; its term's lock is held meanwhile.
    CopyJournal(usize),
    EmptyJournal(usize),
    ReadStore,
    WriteClaimed,
    WriteDispatched,
    LookForHigherTerm,
    Undo,
    Send,
    WriteRefused,
    WriteUncertain,
    WriteReceived,
    Commit,
    WriteCommitted,
    Release(End),
    Ended(End),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Process {
    /// For the reader of a history; processes are all alike.
    pub(super) id: usize,
    pub(super) step: Step,
    pub(super) tenure: Tenure,
    pub(super) doubt: Doubt,
    /// What it is moving from an older journal into its own.
    pub(super) moved: Journal,
    /// Whether it has read a received successor.
    pub(super) found: bool,
    /// Whether it has read the older journals before it was to.
    pub(super) has_read: bool,
    pub(super) stopped: bool,
}

impl Process {
    pub(super) fn key(&self) -> (Step, Tenure, Doubt, Journal, bool, bool, bool) {
        (self.step, self.tenure, self.doubt, self.moved, self.found, self.has_read, self.stopped)
    }

    pub(super) fn can_go(&self) -> bool {
        !self.stopped && !self.has_ended()
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.step, Step::Ended(_))
    }

    pub(super) fn end(&mut self, terms: &mut Terms, end: End) {
        self.tenure.release(terms);
        if let Step::CopyJournal(from) | Step::EmptyJournal(from) = self.step {
            terms.held[from] = false;
        }
        let step = if end == End::StartsOver { Step::Acquire } else { Step::Ended(end) };
        let tenure = Tenure::NONE;
        let moved = Journal::EMPTY;
        *self = Self { step, tenure, moved, doubt: Doubt::None, found: false, has_read: false, ..*self };
    }
}

impl PartialEq for Process {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Hash for Process {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.key().hash(hasher);
    }
}
