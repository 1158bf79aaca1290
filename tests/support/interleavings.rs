//! Runs a model to its end.

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

/// Visits every state: each promise holds in all of them, and each event happens in some.
pub fn holds<M>(model: &M)
where
    M: Model + Debug + Clone + Send + Sync + 'static,
    M::Action: Debug + Clone + PartialEq,
    M::State: Debug + Clone + PartialEq + Hash + Send + Sync,
{
    let start = Instant::now();
    let checker = model.clone().checker().threads(2).spawn_bfs().join();
    println!("{model:?}: {} states, {:.1?}", checker.unique_state_count(), start.elapsed());
    assert!(checker.is_done(), "it gave up");
    for property in model.properties() {
        let found = checker.discovery(property.name);
        match property.expectation {
            Expectation::Sometimes => assert!(found.is_some(), "never: {}", property.name),
            _ => assert!(
                found.is_none(),
                "not always: {}{}",
                property.name,
                found.map_or_else(String::new, |path| steps(model, path))
            ),
        }
    }
}

/// Finds a history in which the promise is broken.
pub fn breaks<M>(model: &M, promise: &'static str)
where
    M: Model + Debug + Clone + Send + Sync + 'static,
    M::Action: Debug + Clone + PartialEq,
    M::State: Debug + Clone + PartialEq + Hash + Send + Sync,
{
    let until = HasDiscoveries::AnyOf(BTreeSet::from([promise]));
    let checker = model.clone().checker().finish_when(until).spawn_bfs().join();
    let Some(path) = checker.discovery(promise) else {
        panic!("in {} states of {model:?} this always holds: {promise}", checker.unique_state_count());
    };
    println!("{model:?}\nnot always: {promise}{}", steps(model, path));
}

/// A history, one step a line.
fn steps<M: Model>(model: &M, path: Path<M::State, M::Action>) -> String
where
    M::State: Debug,
    M::Action: Debug,
{
    let step =
        |(state, action): (M::State, Option<M::Action>)| Some(format!("\n    {}", model.format_step(&state, action?)?));
    path.into_vec().into_iter().filter_map(step).collect()
}
