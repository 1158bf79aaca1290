//! Properties of random cases, the same ones in every run. A case that fails is shrunk, and shown.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use std::cell::Cell;
use std::fmt::Debug;

const SEED: u64 = 42;
/// Of each kind that a property is about there has to be one case in so many.
const RARE: u32 = 100;

/// Checks a property of this many cases. It tells of which kind a case was; of each of these `kinds` there must be enough.
#[track_caller]
pub fn holds_for_all<S: Strategy, K: PartialEq + Debug>(
    cases: u32,
    strategy: &S,
    kinds: &[K],
    property: impl Fn(&S::Value) -> K,
) {
    let config = Config { cases, rng_seed: RngSeed::Fixed(SEED), failure_persistence: None, ..Config::default() };
    let counts = vec![Cell::new(0); kinds.len()];
    let checked = TestRunner::new(config).run(strategy, |case| {
        let kind = property(&case);
        let count = kinds.iter().zip(&counts).find(|(one, _)| **one == kind);
        count.inspect(|(_, count)| count.set(count.get() + 1));
        Ok(())
    });
    checked.unwrap_or_else(|failed| panic!("{failed}"));
    for (kind, count) in kinds.iter().zip(counts) {
        assert!(count.get() > cases / RARE, "only {} of {cases} cases were of this kind: {kind:?}", count.get());
    }
}
