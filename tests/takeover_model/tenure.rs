//! One lock and its terms, as a process takes it, takes it over and lets it go.

/// The last term that the models know: two takeovers.
pub const LAST: usize = 2;
pub const TERMS: usize = LAST + 1;

/// How a waiter that finds the holder overdue begins the next term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// It creates the marker, unless it is there, and stands in line for the new term like everybody else.
    Marker,
    /// It takes the new term's lock, checks again, creates the marker and goes on as the owner.
    LockCheckMarker,
    /// The same, unchecked.
    LockMarker,
    /// The same, and a marker that is there is as good as one's own. Broken.
    LockAnyMarker,
    /// It goes on as the owner once there is a marker, without the lock. Broken.
    AnyMarkerNoLock,
}

/// What the lock directory and the kernel know of one lock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Terms {
    /// How often each term was begun: whether its marker exists, and a count for the proof.
    pub begun: [u8; TERMS],
    /// Whose kernel lock is held.
    pub held: [bool; TERMS],
    /// Whose holder record is of an overdue owner. It outlives its owner until the next one has written its own.
    pub overdue: [bool; TERMS],
}

impl Terms {
    pub fn new() -> Self {
        Self { begun: [0; TERMS], held: [false; TERMS], overdue: [false; TERMS] }
    }

    pub fn current(&self) -> usize {
        (1..TERMS).take_while(|&term| self.begun[term] > 0).count()
    }

    pub fn has_overdue_holder(&self, term: usize) -> bool {
        self.held[term] && self.overdue[term]
    }

    /// Time passes: at any moment, however little its holder has done.
    pub fn become_overdue(&mut self, term: usize) -> bool {
        self.held[term] && !std::mem::replace(&mut self.overdue[term], true)
    }

    /// Much time passes.
    pub fn all_become_overdue(&mut self) {
        (0..LAST).for_each(|term| self.overdue[term] |= self.held[term]);
    }
}

/// What of the lock is beyond the model: the last term's holder has stopped. The lock directory has more terms.
pub fn is_out_of_terms(has_stopped: bool, tenure: Tenure) -> bool {
    has_stopped && tenure.locked && tenure.term == LAST
}

/// Where a process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    ReadTerm,
    AwaitLock,
    ReadTermAgain,
    AwaitNewLock,
    CheckAgain,
    CreateMarker,
    Owner,
}

/// A process's hold on a lock, or its way there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenure {
    pub stage: Stage,
    pub term: usize,
    /// Whether it holds the term's kernel lock.
    pub locked: bool,
}

impl Tenure {
    pub const NONE: Self = Self { stage: Stage::ReadTerm, term: 0, locked: false };

    pub fn is_owner(self) -> bool {
        self.stage == Stage::Owner
    }

    /// The next step towards ownership; `false` if it has to wait.
    pub fn go(&mut self, terms: &mut Terms, begin: Begin) -> bool {
        let term = self.term;
        match self.stage {
            Stage::ReadTerm => *self = Self { term: terms.current(), stage: Stage::AwaitLock, ..*self },
            Stage::AwaitLock if !terms.held[term] => self.lock(terms, Stage::ReadTermAgain),
            Stage::ReadTermAgain => {
                terms.overdue[term] = false;
                if terms.current() == term { self.stage = Stage::Owner } else { self.release(terms) }
            }
            Stage::AwaitNewLock if !terms.held[term] => {
                let next = if begin == Begin::LockCheckMarker { Stage::CheckAgain } else { Stage::CreateMarker };
                self.lock(terms, next);
            }
            // It waits for the old term's lock as well.
            Stage::AwaitNewLock if terms.current() >= term || !terms.held[term - 1] => self.release(terms),
            Stage::CheckAgain => {
                terms.overdue[term] = false;
                if terms.current() + 1 == term && terms.has_overdue_holder(term - 1) {
                    self.stage = Stage::CreateMarker;
                } else {
                    self.release(terms);
                }
            }
            Stage::CreateMarker => {
                let is_exclusive = !matches!(begin, Begin::LockAnyMarker | Begin::AnyMarkerNoLock);
                let exists = terms.begun[term] > 0;
                if !(exists && is_exclusive) {
                    terms.begun[term] += 1;
                }
                if begin == Begin::Marker || (exists && is_exclusive) {
                    self.release(terms);
                } else {
                    self.stage = Stage::Owner;
                }
            }
            Stage::AwaitLock | Stage::AwaitNewLock | Stage::Owner => return false,
        }
        true
    }

    /// Finds the holder overdue, instead of waiting for it any longer; `false` if it is not.
    pub fn take_over(&mut self, terms: &Terms, begin: Begin) -> bool {
        if self.stage != Stage::AwaitLock || self.term == LAST || !terms.has_overdue_holder(self.term) {
            return false;
        }
        self.term += 1;
        let is_bare = matches!(begin, Begin::Marker | Begin::AnyMarkerNoLock);
        self.stage = if is_bare { Stage::CreateMarker } else { Stage::AwaitNewLock };
        true
    }

    /// Lets go, to start over.
    pub fn release(&mut self, terms: &mut Terms) {
        if self.locked {
            terms.held[self.term] = false;
        }
        *self = Self::NONE;
    }

    fn lock(&mut self, terms: &mut Terms, next: Stage) {
        terms.held[self.term] = true;
        self.locked = true;
        self.stage = next;
    }
}
