//! The row of one generation, and what the engine does with a write.

use super::{Broken, Hosts, Journal, LostHost, Repeats, World};

/// Whether a claim is a generation's first call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    First,
    /// Behind a call that has ended, as its own host says, and whose outcome nobody knows.
    Repeat,
    /// Behind a claim of whose owner nothing is heard.
    Probe,
}

/// Who has claimed a generation. No other claim of this host has the same `id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    pub host: usize,
    pub id: u8,
    pub mark: Mark,
}

/// What the engine holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    Absent,
    /// Nothing is under way; the mark is the next claim's.
    Free(Mark),
    Sent(Claim),
    /// `ended`: its own host says that the call is over. Otherwise others have only heard nothing for too long.
    Unsure {
        claim: Claim,
        ended: bool,
    },
    Spent,
    Dead,
}

impl Row {
    /// The claim that stands, whether or not it is doubted.
    pub fn claim(self) -> Option<Claim> {
        match self {
            Self::Sent(claim) | Self::Unsure { claim, .. } => Some(claim),
            _ => None,
        }
    }
}

impl<const N: usize> World<N> {
    /// A compare-and-swap wins. Those that are still on their way compare with an older version from now on.
    pub fn write(&mut self, row: Row) {
        self.row = row;
        self.late.clear();
    }

    /// The claim that this host's journal names, if the row says so too.
    pub fn own_claim(&self, at: usize) -> Option<Claim> {
        let me = &self.hosts[at];
        self.row.claim().filter(|claim| claim.host == at && claim.id == me.id && me.journal != Journal::Idle)
    }
}

impl<const N: usize> Hosts<N> {
    /// With which mark this host may claim the generation, if it may.
    pub fn may_claim(self, world: &World<N>, at: usize) -> Option<Mark> {
        let is_own = world.own_claim(at).is_some() && world.hosts[at].journal == Journal::Claimed;
        match world.row {
            Row::Absent => Some(Mark::First),
            Row::Free(mark) => Some(mark),
            Row::Unsure { .. } if is_own && self.is(Broken::TakesBackNothingGivenUp) => None,
            // Ours, and nothing was sent.
            Row::Sent(claim) | Row::Unsure { claim, .. } if is_own => {
                Some(if self.is(Broken::DropsTheMark) { Mark::First } else { claim.mark })
            }
            Row::Unsure { claim, ended: true } => self.may_repeat(claim.mark).then_some(Mark::Repeat),
            Row::Unsure { claim, ended: false } => {
                (self.lost_host == LostHost::Probe && claim.mark == Mark::First).then_some(Mark::Probe)
            }
            Row::Sent(_) | Row::Spent | Row::Dead => None,
        }
    }

    fn may_repeat(self, last: Mark) -> bool {
        match self.repeats {
            Repeats::Once => last == Mark::First,
            Repeats::UntilAnswered => last != Mark::Probe,
        }
    }
}
