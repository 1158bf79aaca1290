//! How waiters take over, and when nobody can go on.

use super::{Broken, Owners, World};
use crate::check::is_stuck;
use crate::tenure::is_out_of_terms;

impl<const N: usize> Owners<N> {
    pub(super) fn looks_early(self) -> bool {
        self.is(Broken::LooksForHigherTermBeforeDispatched)
    }

    pub(super) fn take_over(self, world: &World<N>, at: usize) -> Option<World<N>> {
        let mut next = world.clone();
        let can = next.processes[at].tenure.take_over(&next.terms, self.begin);
        can.then_some(next)
    }

    /// Whether nobody can ever go on, however long the holders have had their locks.
    pub(super) fn is_stuck(self, world: &World<N>) -> bool {
        let mut late = world.clone();
        late.terms.all_become_overdue();
        let left = (0..N).filter(|&at| world.processes[at].can_go());
        !world.processes.iter().any(|one| is_out_of_terms(one.stopped, one.tenure))
            && is_stuck(left, |at| self.go(&late, at).is_some() || self.take_over(&late, at).is_some())
    }
}
