//! Whether a model can always come to an end, without any more mishaps.

use stateright::Model;
use std::collections::HashMap;
use std::hash::Hash;

/// A model that may come to an end.
pub trait Settles: Model {
    /// Whether this has to happen sooner or later, or somebody may choose it. All else is a mishap.
    fn is_step(action: &Self::Action) -> bool;
    /// Whether nothing is left to do.
    fn is_settled(&self, state: &Self::State) -> bool;
    /// Whether so much was lost that it may stay as it is for ever.
    fn has_an_excuse(&self, state: &Self::State) -> bool;
}

/// A state from which no steps lead to one that is settled, and that has no excuse for it.
pub fn find_stuck<M>(model: &M) -> Option<M::State>
where
    M: Settles,
    M::State: Clone + Eq + Hash,
    M::Action: Clone,
{
    let (states, before) = visit(model);
    let mut settles: Vec<bool> = states.iter().map(|state| model.is_settled(state)).collect();
    let mut left: Vec<usize> = (0..states.len()).filter(|&at| settles[at]).collect();
    while let Some(at) = left.pop() {
        for &earlier in &before[at] {
            if !std::mem::replace(&mut settles[earlier], true) {
                left.push(earlier);
            }
        }
    }
    let mut stuck = states.into_iter().zip(settles).filter(|(state, settles)| !settles && !model.has_an_excuse(state));
    stuck.next().map(|(state, _)| state)
}

/// All states, and for each the states from which a step leads to it.
fn visit<M: Settles>(model: &M) -> (Vec<M::State>, Vec<Vec<usize>>)
where
    M::State: Clone + Eq + Hash,
    M::Action: Clone,
{
    let mut states = model.init_states();
    let mut before = vec![Vec::new(); states.len()];
    let mut known: HashMap<M::State, usize> = states.iter().cloned().zip(0..).collect();
    let mut at = 0;
    while at < states.len() {
        let mut actions = Vec::new();
        model.actions(&states[at], &mut actions);
        for action in actions {
            let Some(next) = model.next_state(&states[at], action.clone()) else { continue };
            let to = *known.entry(next).or_insert_with_key(|next| {
                states.push(next.clone());
                before.push(Vec::new());
                states.len() - 1
            });
            if M::is_step(&action) {
                before[to].push(at);
            }
        }
        at += 1;
    }
    (states, before)
}
