//! The spent generations of a key, and which came after which.

use crate::credential::Generation;
use serde::{Deserialize, Serialize};

/// How many spent generations are remembered.
pub const LEDGER_ENTRIES: usize = 64;

/// Spent generations, oldest first, each with its successor where one is known. Digests only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ledger(Vec<(Generation, Option<Generation>)>);

impl Ledger {
    /// What several keys know together.
    #[must_use]
    pub fn union<'a>(ledgers: impl IntoIterator<Item = &'a Self>) -> Self {
        Self(ledgers.into_iter().flat_map(|ledger| ledger.0.iter().copied()).collect())
    }

    /// Takes in what an earlier owner knew, as older than what is known here. To do it again changes nothing.
    pub fn take_in(&mut self, earlier: &Self) {
        for (spent, successor) in earlier.0.iter().rev().copied() {
            if let Some((_, known)) = self.0.iter_mut().find(|(known, _)| *known == spent) {
                *known = known.or(successor);
            } else if self.0.len() < LEDGER_ENTRIES {
                self.0.insert(0, (spent, successor));
            }
        }
    }

    /// Whether this generation was got in exchange for another.
    #[must_use]
    pub fn is_successor(&self, generation: Generation) -> bool {
        self.0.iter().any(|(_, successor)| *successor == Some(generation))
    }

    /// Notes that the provider exchanged `spent` for `successor`. One that it keeps is not spent.
    pub fn record(&mut self, spent: Generation, successor: Generation) {
        if spent == successor || spent.is_none() {
            return;
        }
        // A generation that comes back to life, as by a provider that reuses tokens, is not spent any more.
        self.0.retain(|(earlier, _)| *earlier != successor);
        self.push(spent, Some(successor));
    }

    /// Notes that this generation must not be sent again although no successor is known.
    pub fn bury(&mut self, generation: Generation) {
        if !self.is_spent(generation) && !generation.is_none() {
            self.push(generation, None);
        }
    }

    fn push(&mut self, spent: Generation, successor: Option<Generation>) {
        self.0.retain(|(earlier, _)| *earlier != spent);
        self.0.push((spent, successor));
        let excess = self.0.len().saturating_sub(LEDGER_ENTRIES);
        self.0.drain(..excess);
    }

    /// Whether this generation was spent.
    #[must_use]
    pub fn is_spent(&self, generation: Generation) -> bool {
        !generation.is_none() && self.0.iter().any(|(spent, _)| *spent == generation)
    }

    fn successor(&self, spent: Generation) -> Option<Generation> {
        let is_of_it = |(earlier, _): &&(Generation, _)| *earlier == spent && !spent.is_none();
        self.0.iter().filter(is_of_it).find_map(|(_, successor)| *successor)
    }

    /// Whether `later` descends from `earlier`: the same-grant proof.
    #[must_use]
    pub fn descends(&self, later: Generation, earlier: Generation) -> bool {
        let mut current = earlier;
        // Each step goes on to another entry, so this many are enough even if the chain were a ring.
        for _ in 0..self.0.len() {
            match self.successor(current) {
                Some(next) if next == later => return true,
                Some(next) => current = next,
                None => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(number: usize) -> Generation {
        Generation::of(&number.to_string())
    }

    #[test]
    fn follows_the_chain_of_a_grant() {
        let mut ledger = Ledger::default();
        for number in 0..3 {
            ledger.record(generation(number), generation(number + 1));
        }
        ledger.record(generation(10), generation(11));
        assert!(ledger.descends(generation(3), generation(0)));
        assert!(!ledger.descends(generation(0), generation(3)));
        assert!(!ledger.descends(generation(11), generation(0)));
        assert!(!ledger.descends(generation(1), generation(1)));
        assert!(ledger.is_spent(generation(2)) && !ledger.is_spent(generation(3)));
    }

    #[test]
    fn a_token_that_the_provider_keeps_is_not_spent() {
        let mut ledger = Ledger::default();
        ledger.record(generation(1), generation(1));
        assert_eq!(ledger, Ledger::default());
        ledger.record(generation(1), generation(2));
        ledger.record(generation(2), generation(1));
        assert!(!ledger.is_spent(generation(1)), "it is current again");
        assert!(ledger.is_spent(generation(2)));
    }

    #[test]
    fn what_is_taken_in_again_and_again_displaces_nothing_newer() {
        let of = |numbers: std::ops::Range<usize>| {
            let mut ledger = Ledger::default();
            numbers.for_each(|number| ledger.record(generation(number), generation(number + 1)));
            ledger
        };
        let (mut ledger, earlier) = (of(40..80), of(0..40));
        for number in 80..100 {
            ledger.take_in(&earlier);
            let once = ledger.clone();
            ledger.take_in(&earlier);
            assert_eq!(ledger, once);
            ledger.record(generation(number), generation(number + 1));
        }
        assert_eq!(ledger.0.len(), LEDGER_ENTRIES);
        assert!((40..100).all(|number| ledger.is_spent(generation(number))));
    }

    #[test]
    fn remembers_a_bounded_number() {
        let mut ledger = Ledger::default();
        for number in 0..=LEDGER_ENTRIES {
            ledger.record(generation(number), generation(number + 1));
        }
        assert!(!ledger.is_spent(generation(0)));
        assert!(ledger.descends(generation(LEDGER_ENTRIES + 1), generation(1)));
    }
}
